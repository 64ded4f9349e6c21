package backend

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
)

// through keeps rollups aside and returns what comes back.
func through(t *testing.T, rollups []audit.Rollup) []audit.Rollup {
	t.Helper()
	dir := t.TempDir()
	s, err := newSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rollups {
		if err := s.add(r); err != nil {
			t.Fatal(err)
		}
	}
	released := 0
	all, err := s.all(t.Context(), func() { released++ })
	if err != nil {
		t.Fatal(err)
	}
	var got []audit.Rollup
	for r, err := range all {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 || released != 1 {
		t.Errorf("%d files are left, %v; released %d times", len(left), err, released)
	}
	return got
}

func TestSpool(t *testing.T) {
	var rollups []audit.Rollup
	for i := range 20_000 {
		rollups = append(rollups, audit.Rollup{N: int64(i*i) - 5, RollupKey: audit.RollupKey{Cube: audit.CubeFull, Day: fmt.Sprintf("2026-01-%02d", i%31),
			Kind: audit.KindSSHHop, Outcome: "success", Email: fmt.Sprint("user", i%700, "@corp.example"), Sub: "\x00\xff\n", Target: fmt.Sprint("host/", i)}})
	}
	rollups = append(rollups, audit.Rollup{N: math.MinInt64}, audit.Rollup{N: math.MaxInt64})
	if diff := cmp.Diff(rollups, through(t, rollups)); diff != "" {
		t.Error(diff)
	}
	if got := through(t, nil); got != nil {
		t.Errorf("of nothing came %v", got)
	}
}

// TestSpoolEnds: whoever stops, or never begins, leaves nothing behind.
func TestSpoolEnds(t *testing.T) {
	for name, iterate := range map[string]bool{"stopped": true, "never begun": false} {
		t.Run(name, func(t *testing.T) {
			s, err := newSpool(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for range 10_000 {
				if err := s.add(audit.Rollup{N: 1, RollupKey: audit.RollupKey{Cube: audit.CubeUser, Email: "ann@corp.example"}}); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			released := make(chan struct{})
			all, err := s.all(ctx, func() { close(released) })
			if err != nil {
				t.Fatal(err)
			}
			if iterate {
				for range all {
					break
				}
				<-released
			}
			no := errors.New("no")
			cancel(no)
			<-released
			var last error
			for _, err := range all {
				last = err
			}
			if last != no {
				t.Errorf("got %v", last)
			}
			if s.close() != nil {
				t.Error("closed twice")
			}
		})
	}
}

func TestSpoolNowhere(t *testing.T) {
	if _, err := newSpool(t.TempDir() + "/missing"); err == nil {
		t.Error("a spool in no directory")
	}
}

func FuzzSpool(f *testing.F) {
	f.Add("user", "2026-01-31", "a@corp.example", "", int64(7))
	f.Add("", "\x00", "\xff\xfe", "", int64(-1))
	f.Fuzz(func(t *testing.T, a, b, c, d string, n int64) {
		rollups := []audit.Rollup{{N: n, RollupKey: audit.RollupKey{Cube: a, Day: b, Email: c, Target: d}}, {N: -n, RollupKey: audit.RollupKey{Cube: d, Kind: c, Sub: b, Outcome: a}}}
		if diff := cmp.Diff(rollups, through(t, rollups)); diff != "" {
			t.Error(diff)
		}
	})
}
