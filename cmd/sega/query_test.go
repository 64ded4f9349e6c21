package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/broker/api"
)

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
