package main

import (
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

// TestUsed: each use counts one, and half as much a week later.
func TestUsed(t *testing.T) {
	all := map[string]use{}
	week := noon.Add(halfLife)
	used(all, "daily", noon)
	used(all, "daily", noon)
	used(all, "once", week)
	if got := all["daily"].score(week); math.Abs(got-1) > 1e-9 {
		t.Errorf("two uses a week ago count %v", got)
	}
	used(all, "daily", week)
	if d, o := all["daily"].score(week), all["once"].score(week); math.Abs(d-2) > 1e-9 || o != 1 {
		t.Errorf("daily %v, once %v", d, o)
	}
	if got := all["once"].score(noon); got != 1 { // the clock went back
		t.Errorf("before its last use it counts %v", got)
	}
	used(all, "new", week.Add(11*halfLife))
	if _, ok := all["once"]; ok || len(all) != 1 {
		t.Errorf("not forgotten: %v", all)
	}
}

// TestParseUses: a damaged file begins anew, and what is no use is dropped.
func TestParseUses(t *testing.T) {
	good := map[string]use{"dev": {Count: 2.5, Last: noon}}
	for name, c := range map[string]struct {
		data string
		want map[string]use
	}{
		"good":        {`{"dev":{"count":2.5,"last":"2030-01-02T12:00:00Z"}}`, good},
		"empty":       {"", nil},
		"cut":         {`{"dev":{"count":2`, nil},
		"null":        {"null", nil},
		"a list":      {"[1]", nil},
		"other types": {`{"dev":{"count":"many"}}`, nil},
		"a bad time":  {`{"dev":{"count":1,"last":"yesterday"}}`, nil},
		"no counts":   {`{"":{"count":1},"a":{"count":0},"b":{"count":-1},"c":{"count":1e300},"dev":{"count":2.5,"last":"2030-01-02T12:00:00Z"}}`, good},
	} {
		t.Run(name, func(t *testing.T) {
			if c.want == nil {
				c.want = map[string]use{}
			}
			if diff := cmp.Diff(c.want, parseUses([]byte(c.data))); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func FuzzParseUses(f *testing.F) {
	f.Add([]byte(`{"dev":{"count":2.5,"last":"2030-01-02T12:00:00Z"},"x":{"count":-1}}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all := parseUses(data)
		used(all, "role", time.Unix(1<<31, 0))
		for role, u := range all {
			if s := u.score(noon); math.IsNaN(s) || math.IsInf(s, 0) || s < 0 {
				t.Errorf("%q scores %v", role, s)
			}
		}
		if all["role"].score(time.Unix(1<<31, 0)) < 1 {
			t.Error("the use is lost")
		}
	})
}

// TestRemember: only what somebody sits before is counted; a file that is damaged or cannot be
// written hinders nothing.
func TestRemember(t *testing.T) {
	a, _, _ := testApp(t)
	file := filepath.Join(a.getenv("SEGA_HOME"), usesFile)
	a.remember("dev")
	if _, err := os.Stat(file); err == nil {
		t.Error("a script's use was counted")
	}
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = master.Close(); _ = tty.Close() }()
	a.stdin = tty
	if err := os.WriteFile(file, []byte("{dam"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.remember("dev")
	a.remember("dev")
	if diff := cmp.Diff(map[string]use{"dev": {Count: 2, Last: noon}}, a.uses()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	a.remember("dev")
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".tmp-*")); err != nil || len(left) > 0 || len(a.uses()) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}
