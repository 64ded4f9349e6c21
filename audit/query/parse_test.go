package query

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.FixedZone("CET", 3600))

func day(d int) time.Time { return time.Date(2030, 1, d, 0, 0, 0, 0, noon.Location()).UTC() }

func eq(n Name, v string) Expr { return Field{Name: n, Value: v} }

func TestParse(t *testing.T) {
	alice, denied := eq(User, "alice@example.com"), eq(Outcome, "denied")
	for text, want := range map[string]Expr{
		"":                                  And{},
		" \t\r\n":                           And{},
		"user:alice@example.com":            alice,
		"USER:alice@example.com":            alice,
		" user:alice@example.com ":          alice,
		`user:"alice@example.com"`:          alice,
		"(user:alice@example.com)":          alice,
		"((user:alice@example.com) )":       alice,
		"kind:session.*":                    Field{Kind, Prefix, "session."},
		`kind:"session."*`:                  Field{Kind, Prefix, "session."},
		"kind:*":                            Field{Kind, Prefix, ""},
		"kind:**":                           Field{Kind, Prefix, "*"},
		`kind:"*"`:                          eq(Kind, "*"),
		"reason:~outage":                    Field{Reason, Contains, "outage"},
		`reason:~"the outage"`:              Field{Reason, Contains, "the outage"},
		"reason:~out*":                      Field{Reason, Contains, "out*"},
		`reason:~""`:                        Field{Reason, Contains, ""},
		`reason:""`:                         eq(Reason, ""),
		`reason:"~x"`:                       eq(Reason, "~x"),
		`reason:"say \"no\" \\ yes"`:        eq(Reason, `say "no" \ yes`),
		`reason:C:\dir`:                     eq(Reason, `C:\dir`),
		"resource:role/a:b":                 eq(Resource, "role/a:b"),
		"user:alice@example.com denied":     And{alice, Text{Value: "denied"}},
		"user:alice@example.com and denied": And{alice, Text{Value: "denied"}},
		"a b c":                             And{Text{Value: "a"}, Text{Value: "b"}, Text{Value: "c"}},
		"a or b":                            Or{Text{Value: "a"}, Text{Value: "b"}},
		"a OR b Or c":                       Or{Text{Value: "a"}, Text{Value: "b"}, Text{Value: "c"}},
		"a b or c":                          Or{And{Text{Value: "a"}, Text{Value: "b"}}, Text{Value: "c"}},
		"a (b or c)":                        And{Text{Value: "a"}, Or{Text{Value: "b"}, Text{Value: "c"}}},
		"a(b)c":                             And{Text{Value: "a"}, Text{Value: "b"}, Text{Value: "c"}},
		"(a b) c":                           And{And{Text{Value: "a"}, Text{Value: "b"}}, Text{Value: "c"}},
		"(a or b) or c":                     Or{Or{Text{Value: "a"}, Text{Value: "b"}}, Text{Value: "c"}},
		"-outcome:denied":                   Not{denied},
		"not outcome:denied":                Not{denied},
		"NOT not -outcome:denied":           Not{Not{Not{denied}}},
		"not(a b)":                          Not{And{Text{Value: "a"}, Text{Value: "b"}}},
		"-(a or b)":                         Not{Or{Text{Value: "a"}, Text{Value: "b"}}},
		"-a b":                              And{Not{Text{Value: "a"}}, Text{Value: "b"}},
		`"or" "-x" "user:x"`:                And{Text{Value: "or"}, Text{Value: "-x"}, Text{Value: "user:x"}},
		"order android notes":               And{Text{Value: "order"}, Text{Value: "android"}, Text{Value: "notes"}},
		`"rm -rf"`:                          Text{Value: "rm -rf"},
		"a=b":                               Text{Value: "a=b"},
		":x":                                Text{Value: ":x"},
		"größe 世界":                          And{Text{Value: "größe"}, Text{Value: "世界"}},
		`screen:"DROP TABLE"`:               Screen{"DROP TABLE"},
		"screen:~drop":                      Screen{"drop"},
		"since:7d":                          Since{noon.AddDate(0, 0, -7).UTC()},
		"since:2030-01-01 until:2030-01-02": And{Since{day(1)}, Until{day(2)}},
		"until:2030-01-01T08:00:00.5+02:00": Until{time.Date(2030, 1, 1, 6, 0, 0, 5e8, time.UTC)},
		"outcome:d*":                        Field{Outcome, Prefix, "d"},
		strings.Repeat("(", 20) + "a" + strings.Repeat(")", 20): Text{Value: "a"},
		strings.Repeat("a ", 100):                               And(repeat(Text{Value: "a"}, 100)),
		`user:alice@example.com kind:session.* (outcome:denied or outcome:revoked) -host:web-* "rm -rf"`: And{alice, Field{Kind, Prefix, "session."},
			Or{denied, eq(Outcome, "revoked")}, Not{Field{Host, Prefix, "web-"}}, Text{Value: "rm -rf"}},
	} {
		got, err := Parse(text, noon)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n-want +got\n%s", text, err, diff)
			continue
		}
		checkRoundTrip(t, got)
	}
}

func repeat(x Expr, n int) []Expr {
	var all []Expr
	for range n {
		all = append(all, x)
	}
	return all
}

// checkRoundTrip: the canonical text means the same, and is its own canonical text.
func checkRoundTrip(t *testing.T, x Expr) {
	t.Helper()
	text := Format(x)
	again, err := Parse(text, noon.AddDate(1, 0, 0))
	if diff := cmp.Diff(x, again); diff != "" || err != nil {
		t.Errorf("%q: %v\n-want +got\n%s", text, err, diff)
	}
	if second := Format(again); second != text {
		t.Errorf("%q becomes %q", text, second)
	}
}

// TestErrors: each error names a place, what is wrong there, and what to write instead.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		text   string
		column int
		want   string
	}{
		{"usr:alice", 1, `no field "usr"; fields are user, kind, role,`},
		{"größe usr:alice", 7, "double quotes"},
		{"https://example.com", 1, `no field "https"`},
		{"user=alice", 1, "user:alice"},
		{"user:", 6, "is followed by its value"},
		{"user: alice", 6, "without white space"},
		{"user:~", 6, "is followed by its value"},
		{"(user:)", 7, "is followed by its value"},
		{`user:"alice`, 6, "quote is not closed"},
		{`"alice\`, 7, `a backslash is written \\`},
		{`"a\d"`, 3, `a backslash is written \\`},
		{`user:"alice"x`, 13, "white space behind it"},
		{`al"ice"`, 3, "white space"},
		{`"alice""bob"`, 8, "white space"},
		{`"alice"*`, 8, "white space"},
		{`reason:~"a"*`, 12, "white space"},
		{"~outage", 1, "reason:~outage"},
		{"web-*", 1, "leave the * out"},
		{`""`, 1, "is empty"},
		{"a or", 5, "missing at the end"},
		{"a and ", 7, "missing at the end"},
		{"not", 4, "missing at the end"},
		{"or a", 1, `"or" stands where a term should`},
		{"a and and b", 7, `"and" stands where`},
		{"a or (or b)", 7, `"or" stands where`},
		{"- a", 1, "directly before"},
		{"a -", 3, "directly before"},
		{"()", 2, "before this parenthesis"},
		{"a (b", 3, "parenthesis is not closed"},
		{"a b)", 4, "closed that was not opened"},
		{")", 1, "before this parenthesis"},
		{strings.Repeat("(", 21) + "a" + strings.Repeat(")", 21), 21, "more than 20"},
		{strings.Repeat("-", 21) + "a", 21, "more than 20"},
		{strings.Repeat("not (", 11) + "a", 51, "more than 20"},
		{strings.Repeat("a ", 101), 201, "more than 100 terms"},
		{strings.Repeat("a", MaxLength+1), 1, "at most 4096"},
		{strings.Repeat(`\`, MaxLength-1), 1, "written out it has"},
		{"a\xff", 1, "UTF-8"},
		{"größe \x00", 7, "zero byte"},
		{"since:yesterday", 1, `"yesterday" is not a time like 7d`},
		{"since:7", 1, "is not a time"},
		{"since:7d*", 1, "takes a time like"},
		{"until:~7d", 1, "takes a time like"},
		{"until:999999w", 1, "is not a time"},
		{"since:999999h since:1969-12-31T23:59:59Z", 1, "before 1970"},
		{"since:9999-01-01", 1, "after 2261"},
		{"since:0000-01-01", 1, "before 1970"},
		{"outcome:maybe", 1, "an outcome is intent, success"},
		{"outcome:", 9, "is followed by its value"},
		{`screen:""`, 1, `screen:"DROP TABLE"`},
		{"screen:drop*", 1, "screen is followed"},
	} {
		x, err := Parse(c.text, noon)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Column != c.column || !strings.Contains(syntax.What, c.want) {
			t.Errorf("%.60q: %v, %v; want column %d, %q", c.text, x, err, c.column, c.want)
		}
	}
}

func TestMark(t *testing.T) {
	for text, want := range map[string]string{
		"a usr:b":       "a usr:b\n  ^",
		"größe usr:b":   "größe usr:b\n      ^",
		"a\n\tusr:b\nc": "\tusr:b\n\t^",
		"a or":          "a or\n    ^",
	} {
		_, err := Parse(text, noon)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Mark(text) != want {
			t.Errorf("%q: %v", text, err)
		} else if syntax.Mark("") != "\n^" {
			t.Errorf("of another text: %q", syntax.Mark(""))
		}
	}
}

func TestTerm(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Expr
		err        string
	}{
		{"user", "alice or bob", eq(User, "alice or bob"), ""},
		{"user", `al"ice)`, eq(User, `al"ice)`), ""},
		{"user", "alice@*", Field{User, Prefix, "alice@"}, ""},
		{"reason", "~the outage", Field{Reason, Contains, "the outage"}, ""},
		{"since", "7d", Since{noon.AddDate(0, 0, -7).UTC()}, ""},
		{"since", "yesterday", nil, `since: "yesterday" is not a time like`},
		{"outcome", "maybe", nil, "an outcome is"},
	} {
		got, err := Term(c.name, c.text, noon)
		if diff := cmp.Diff(c.want, got); diff != "" || (err == nil) != (c.err == "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
			t.Errorf("%s %q: %v\n%s", c.name, c.text, err, diff)
		}
		if err == nil {
			checkRoundTrip(t, got)
		}
	}
}

// depth of a tree: And, Or and Not are a step each.
func depth(x Expr) int {
	most := 0
	var parts []Expr
	switch x := x.(type) {
	case And:
		parts = x
	case Or:
		parts = x
	case Not:
		parts = []Expr{x.X}
	}
	for _, p := range parts {
		most = max(most, 1+depth(p))
	}
	return most
}

// FuzzParse: no text panics, what is read can be written and read again, trees are bounded, and
// errors point into the text.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "user:alice@example.com kind:session.* (outcome:denied or outcome:revoked) -host:web-* since:7d", `reason:~"outage" "rm -rf" screen:"DROP TABLE"`,
		`not not (a or "or") and "-x"`, `"\\\""`, `user:""* kind:**`, "((((a", "a)b", "--(a b)", "since:2030-01-01T00:00:00.123456789+01:00", "größe:x", `a"b`, "-", "a\x00", "~", `"`, `user:\`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		x, err := Parse(text, noon)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Pos < 0 || syntax.Pos > len(text) || syntax.Column < 1 || syntax.Column > len(text)+1 || syntax.What == "" || len(syntax.What) > 1000 {
				t.Fatalf("%q: %#v", text, err)
			}
			syntax.Mark(text)
			return
		}
		if d := depth(x); d > 2*maxDepth+2 {
			t.Errorf("%q is %d deep", text, d)
		}
		checkRoundTrip(t, x)
		Screens(Enveloped(x))
	})
}

// FuzzTerm: whatever stands behind a flag is a value and can be written into a query.
func FuzzTerm(f *testing.F) {
	for _, seed := range []string{"alice or bob", `"`, "~x y", "a b*", "", "*", `\`, "-x", "or"} {
		f.Add("user", seed)
		f.Add("reason", seed)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		if !isName(name) || len(text) > 1000 || strings.ContainsRune(text, 0) || strings.ToValidUTF8(text, "") != text {
			return
		}
		if x, err := Term(name, text, noon); err == nil {
			checkRoundTrip(t, x)
		}
	})
}
