package main

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/broker/api"
)

func TestParseTime(t *testing.T) {
	for in, want := range map[string]time.Time{
		"0s": noon, "90s": noon.Add(-90 * time.Second), "15m": noon.Add(-15 * time.Minute), "2h": noon.Add(-2 * time.Hour), "7d": noon.AddDate(0, 0, -7), "1w": noon.AddDate(0, 0, -7),
		"2030-01-02":           time.Date(2030, 1, 2, 0, 0, 0, 0, time.Local),
		"2030-01-02T03:04:05Z": time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), "2030-01-02T03:04:05.5+01:00": time.Date(2030, 1, 2, 2, 4, 5, 5e8, time.UTC),
	} {
		if got, err := parseTime(in, noon); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "yesterday", "7", "7 d", "-7d", "7D", "1y", "2030-13-01", "2030-01-02 03:04", "1.5h", "9999999d", "7dd"} {
		if got, err := parseTime(in, noon); exitCode(err) != exitUsage {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}

// FuzzParseTime: "so long ago" is never in the future.
func FuzzParseTime(f *testing.F) {
	for _, seed := range []string{"7d", "999999w", "999999d", "0s", "2030-01-02T03:04:05Z"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseTime(s, noon)
		if err == nil && ago.MatchString(s) && got.After(noon) {
			t.Errorf("%q is %v", s, got)
		}
	})
}

func TestQuery(t *testing.T) {
	all := queryOptions{user: "a*", kind: "aws.*", role: "r", host: "h", outcome: "denied", session: "ses_1", since: "1h", until: "2030-01-02T03:04:05+01:00", intents: true, limit: 9}
	got, err := all.query(noon)
	want := url.Values{"user": {"a*"}, "kind": {"aws.*"}, "role": {"r"}, "host": {"h"}, "outcome": {"denied"}, "session": {"ses_1"}, "since": {"2030-01-02T11:00:00Z"},
		"until": {"2030-01-02T02:04:05Z"}, "intents": {"1"}, "limit": {"9"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v: -want +got\n%s", err, diff)
	}
	if got, err := (queryOptions{}).query(noon); err != nil || len(got) != 0 {
		t.Errorf("nothing: %v, %v", got, err)
	}
	for name, o := range map[string]queryOptions{"outcome": {outcome: "Denied"}, "limit": {limit: -1}, "since": {since: "x"}, "until": {until: "x"}} {
		if got, err := o.query(noon); exitCode(err) != exitUsage {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestFlatten(t *testing.T) {
	row, err := audit.Seal(event("user.login", audit.Success, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		details string
		want    any
	}{
		"without details": {"", nil},
		"with details":    {`{"a": "x\ny",` + "\n" + ` "b": [1, 2]}`, map[string]any{"a": "x\ny", "b": []any{1.0, 2.0}}},
	} {
		t.Run(name, func(t *testing.T) {
			line, err := flatten(api.Event{Index: 41, Envelope: row.Body, Details: []byte(c.details)})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(line), "\n") != 1 || !strings.HasSuffix(string(line), "}\n") {
				t.Errorf("not one line: %q", line)
			}
			var got, want map[string]any
			if err := json.Unmarshal(line, &got); err != nil {
				t.Fatal(err)
			}
			_ = json.Unmarshal(row.Body, &want)
			want["idx"] = 41.0
			if c.want != nil {
				want["details"] = c.want
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	for name, e := range map[string]api.Event{"nothing": {}, "no object": {Envelope: []byte(`[1]`)}, "half": {Envelope: []byte(`{"a"`)}, "bad details": {Envelope: row.Body, Details: []byte(`{`)}} {
		if line, err := flatten(e); err == nil {
			t.Errorf("%s: %s", name, line)
		}
	}
}

func TestActorName(t *testing.T) {
	for want, a := range map[string]audit.Actor{"a@x": {Kind: "user", Sub: "s", Email: "a@x"}, "s": {Kind: "user", Sub: "s", Email: " "}, "system": {Kind: "system"}, "": {}} {
		if got := actorName(a); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
