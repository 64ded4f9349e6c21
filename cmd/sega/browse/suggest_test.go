package browse

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/query"
	"sega/cmd/sega/tui/tuitest"
)

// TestComplete presses tab behind a text.
func TestComplete(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		keys []string
		want string
	}{
		"a field":                {"us", []string{"tab"}, "user:"},
		"in any case":            {"US", []string{"tab"}, "user:"},
		"a field, then its user": {"us", []string{"tab", "tab"}, "user:alice@example.com "},
		"the next user":          {"user:", []string{"tab", "tab"}, "user:bob@example.com "},
		"around":                 {"host:", []string{"tab", "tab", "tab"}, "host:db-1 "},
		"the second field":       {"s", []string{"tab", "tab"}, "source:"},
		"an outcome":             {"outcome:d", []string{"tab"}, "outcome:denied "},
		"a kind":                 {"kind:session.c", []string{"tab"}, "kind:session.command "},
		"a noun":                 {"kind:ses", []string{"tab"}, "kind:session.* "},
		"behind a minus":         {"x -ro", []string{"tab"}, "x -role:"},
		"behind a parenthesis":   {"(host:we", []string{"tab"}, "(host:web-1 "},
		"a time":                 {"since:7", []string{"tab"}, "since:7d "},
		"a value to be quoted":   {`role:"`, []string{"tab"}, `role:"`},
		"nothing begun":          {"", []string{"tab"}, ""},
		"nothing known":          {"xyz", []string{"tab"}, "xyz"},
		"in the middle":          {"us alice", []string{"ctrl+a", "right", "right", "tab"}, "user: alice"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := show(t, usual(), 80, 24, "")
				s.typing(c.text)
				for _, k := range c.keys {
					s.update(tuitest.Key(k)) // without a rest: the list stays as it is
				}
				if got := s.query.String(); got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		})
	}
}

// TestSuggestionsAreQueries: whatever is offered can be read by the parser, hostile names too.
func TestSuggestionsAreQueries(t *testing.T) {
	l := usual()
	for _, text := range tuitest.Hostile() {
		l.add(audit.Event{Kind: audit.KindSSHHop, Actor: audit.Actor{Email: text}, Resource: audit.ResourceHost + text})
		l.add(audit.Event{Kind: audit.KindAWSAssume, Actor: audit.Actor{Sub: `a"b\ (c) ` + text}, Resource: audit.ResourceRole + text})
	}
	s := show(t, l, 80, 24, "")
	for _, f := range fields() {
		name := query.Name(strings.TrimSuffix(f, ":"))
		for _, v := range s.values(name, "") {
			if _, err := query.Parse(v, began); err != nil {
				t.Errorf("%.100q: %.200v", v, err)
			}
		}
	}
	for _, k := range audit.Kinds() {
		if !slices.Contains(kinds(), k) {
			t.Errorf("%s is not offered", k)
		}
	}
}

// TestQuoted: a jump by a hostile name asks for that very name.
func TestQuoted(t *testing.T) {
	for _, text := range tuitest.Hostile() {
		text = strings.ToValidUTF8(text, "\uFFFD")
		if len(text) > query.MaxLength/2 {
			continue
		}
		for _, n := range []query.Name{query.User, query.Host, query.Session} {
			want := query.Field{Name: n, Value: text}
			got, err := query.Parse(query.Format(want), began)
			if diff := cmp.Diff(query.Expr(want), got); err != nil || diff != "" {
				t.Errorf("%.100q: %.200v %.300s", text, err, diff)
			}
		}
	}
}
