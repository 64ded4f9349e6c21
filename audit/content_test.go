package audit

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestContent(t *testing.T) {
	for _, c := range []struct{ kind, details, want string }{
		{KindSessionCommand, `{"channel":0,"type":"exec","command":"rm -rf /"}`, "rm -rf /"},
		{KindSessionCommand, `{"command":"a\ufffdb","raw":"Yf9i"}`, "a\ufffdb\na\ufffdb"},
		{KindSFTPRead, `{"path":"/etc/passwd","flags":"r"}`, "/etc/passwd"},
		{KindSFTPRename, `{"path":"/a","to":"/b"}`, "/a\n/b"},
		{KindSessionStart, `{"command":"x","path":"y"}`, ""}, {KindAuditRead, `{"query":"rm","path":"y"}`, ""},
		{KindSessionCommand, "", ""}, {KindSessionCommand, "[1]", ""}, {KindSessionCommand, `{"command":7}`, ""},
	} {
		if got := Content(Event{Kind: c.kind, Details: json.RawMessage(c.details)}); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.kind, c.details, got, c.want)
		}
	}
}

func TestWithhold(t *testing.T) {
	for _, c := range []struct{ kind, details, want string }{
		{KindSessionCommand, `{"channel":3,"type":"exec","command":"rm","raw":"cm0=","cut":true}`, `{"channel":3,"cut":true,"type":"exec","withheld":true}`},
		{KindSFTPRename, `{"path":"/a","to":"/b","bytes":12345678901234567890}`, `{"bytes":12345678901234567890,"withheld":true}`},
		{KindSFTPRead, `{"PATH":"/a","Path":"/b","patH":"/c","pa\u0074h":"/d"}`, `{"withheld":true}`},
		{KindSFTPRead, `{"path":"/a","path":"/b","withheld":false,"Withheld":false}`, `{"withheld":true}`},
		{KindSessionCommand, `["rm"]`, `{"withheld":true}`}, {KindSessionCommand, `"rm"`, `{"withheld":true}`}, {KindSessionCommand, `null`, `{"withheld":true}`},
		{KindSessionCommand, `{`, `{"withheld":true}`}, {KindSessionCommand, "", ""},
		{KindSessionStart, `{"command":"x"}`, `{"command":"x"}`}, {KindUserLogin, `{"query":"rm"}`, `{"query":"rm"}`},
		{KindAuditRead, `{"query":"\"customer-secret\"","content":true,"by":["user"],"after":12345678901234567890}`, `{"after":12345678901234567890,"by":["user"],"content":true,"withheld":true}`},
		{KindAuditRead, `{"request":{"query":"customer-secret","content":false},"error":{"kind":"denied","detail":"no"}}`, `{"error":{"detail":"no","kind":"denied"},"request":{"content":false},"withheld":true}`},
		{KindAuditRead, `{"a":[{"Query":"customer-secret","n":1}]}`, `{"a":[{"n":1}],"withheld":true}`},
		{KindAuditRead, `{"n":1}{"query":"customer-secret"}`, `{"withheld":true}`},
	} {
		if got := string(Withhold(c.kind, json.RawMessage(c.details))); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.kind, c.details, got, c.want)
		}
	}
}

// FuzzWithhold: what is left has no content, and is an object that says so.
func FuzzWithhold(f *testing.F) {
	for _, seed := range []string{`{"command":"rm","channel":1}`, `{"COMMAND":"x","\u0063ommand":"y"}`, `[]`, `{"raw":"AA==","a":{"path":1}}`, "null", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, details string) {
		for _, kind := range slices.DeleteFunc(Kinds(), func(k string) bool { return !HasContent(k) }) {
			got := Withhold(kind, json.RawMessage(details))
			if details == "" {
				continue
			}
			var d struct{ Withheld bool }
			if err := json.Unmarshal(got, &d); err != nil || !d.Withheld {
				t.Fatalf("%q: %s, %v", details, got, err)
			}
			if text := strings.ToLower(string(got)); strings.Contains(text, `"query":`) || strings.Contains(text, `"command":`) {
				t.Errorf("%q leaves %s", details, got)
			}
			if left := Content(Event{Kind: kind, Details: got}); left != "" {
				t.Errorf("%q leaves %q", details, left)
			}
		}
	})
}
