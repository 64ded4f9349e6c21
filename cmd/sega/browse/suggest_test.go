package browse

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/query"
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
					s.update(keyOf(k)) // without a rest: the list stays as it is
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
	for _, text := range hostile {
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

// TestInput edits a line by keys.
func TestInput(t *testing.T) {
	for name, c := range map[string]struct {
		keys []string
		want string
		at   int
	}{
		"type":               {[]string{"a", "b", " ", "日"}, "ab 日", 4},
		"back":               {[]string{"a", "b", "backspace"}, "a", 1},
		"back at the start":  {[]string{"a", "ctrl+a", "backspace"}, "a", 0},
		"delete":             {[]string{"a", "b", "home", "delete"}, "b", 0},
		"delete at the end":  {[]string{"a", "delete"}, "a", 1},
		"insert":             {[]string{"a", "c", "left", "b"}, "abc", 2},
		"a word":             {[]string{"a", "b", " ", "c", "d", " ", "ctrl+w"}, "ab ", 3},
		"to the start":       {[]string{"a", "b", "left", "ctrl+u"}, "b", 0},
		"to the end":         {[]string{"a", "b", "left", "ctrl+k"}, "a", 1},
		"beyond both ends":   {[]string{"left", "a", "right", "right", "b"}, "ab", 2},
		"end":                {[]string{"a", "b", "home", "end", "c"}, "abc", 3},
		"more than it takes": {[]string{strings.Repeat("日", 30)}, strings.Repeat("日", 10), 10},
	} {
		t.Run(name, func(t *testing.T) {
			l := newInput("", 30)
			for _, k := range c.keys {
				l.key(keyOf(k))
			}
			if l.String() != c.want || l.at != c.at {
				t.Errorf("%q at %d, want %q at %d", l.String(), l.at, c.want, c.at)
			}
		})
	}
}

// FuzzInput: whatever is typed and wherever the cursor goes, the line is as wide as its place, and
// the text stays within its limit.
func FuzzInput(f *testing.F) {
	f.Add("user:alice \x1b[D日本", "lrlbdwuk", 10)
	f.Add("", "bdwuk", 1)
	f.Fuzz(func(t *testing.T, text, moves string, width int) {
		width = max(min(width, 200), 12) // of the widest escape
		l := newInput("", 64)
		l.insert([]rune(text))
		for _, r := range moves {
			if k, ok := map[rune]string{'l': "left", 'r': "right", 'b': "backspace", 'd': "delete", 'w': "ctrl+w", 'u': "ctrl+u", 'k': "ctrl+k", 'h': "home", 'e': "end"}[r]; ok {
				l.key(keyOf(k))
			}
			if l.at < 0 || l.at > len(l.text) || len(l.String()) > 64 {
				t.Fatalf("at %d of %q", l.at, l.String())
			}
			if shown := l.view(width, true, newStyles(false, true)); cells(shown) != width {
				t.Fatalf("%q has %d cells, not %d", shown, cells(shown), width)
			}
		}
	})
}

// TestQuoted: a jump by a hostile name asks for that very name.
func TestQuoted(t *testing.T) {
	for _, text := range hostile {
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
