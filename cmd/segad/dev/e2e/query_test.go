//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/cmd/segad/dev/devtest"
)

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// testQuery holds the order of a person's events, every filter, and the forms of output.
func testQuery(t *testing.T, e *devtest.Env) {
	reviewer := e.LoggedIn(carol)
	since := time.Now().UTC()
	p, other := e.LoggedIn(alice), e.LoggedIn(bob)
	expect(t, p.Sega("exec", "dev-admin", "--reason", "why not", "--", "true"), 0)
	expect(t, p.Sega("exec", "prod-readonly", "--", "true"), 3)
	expect(t, p.Sega("ssh", e.Host.Name, "--", "true # query"), 0)
	expect(t, other.Sega("exec", "prod-readonly", "--", "true"), 0)
	session := ended(t, reviewer, "true # query")
	until := time.Now().UTC()
	expect(t, p.Sega("logout"), 0)

	window := []string{"--since", since.Format(time.RFC3339Nano), "--until", until.Format(time.RFC3339Nano)}
	query := func(args ...string) []map[string]any { return reviewer.Events(append(args, window...)...) }
	kinds := fields(query("--user", alice), "kind")
	want := []string{"user.login", "aws.assume", "session.start", "session.end"}
	i := 0
	for _, kind := range kinds {
		if i < len(want) && kind == want[i] {
			i++
		}
	}
	if i != len(want) || contains(kinds, "user.logout") {
		t.Errorf("%q are not in order, or more than they, in %q", want, kinds)
	}
	login := field(query("--user", alice, "--kind", "user.login")[0], "login_id")

	for _, tt := range []struct {
		name string
		args []string
		want []string // kind, outcome and e-mail
	}{
		{"kind", []string{"--kind", "aws.assume"}, []string{"aws.assume success " + alice, "aws.assume denied " + alice, "aws.assume success " + bob}},
		{"kinds", []string{"--kind", "session.*", "--session", session}, []string{"session.start success " + alice, "session.command success " + alice, "session.end success " + alice}},
		{"role", []string{"--role", "prod-readonly"}, []string{"aws.assume denied " + alice, "aws.assume success " + bob}},
		{"roles", []string{"--role", "prod-*", "--user", bob}, []string{"aws.assume success " + bob}},
		{"host", []string{"--host", e.Host.Name, "--kind", "session.start"}, []string{"session.start success " + alice}},
		{"another host", []string{"--host", "elsewhere"}, nil},
		{"outcome", []string{"--outcome", "denied"}, []string{"aws.assume denied " + alice}},
		{"subject", []string{"--user", "00ubob", "--kind", "aws.*"}, []string{"aws.assume success " + bob}},
		{"prefix", []string{"--user", "bob@*", "--kind", "aws.*"}, []string{"aws.assume success " + bob}},
		{"nobody", []string{"--user", "bo"}, nil},
		{"login", []string{"--session", login, "--kind", "session.end"}, []string{"session.end success " + alice}},
		{"intents", []string{"--intents", "--kind", "aws.assume", "--user", bob}, []string{"aws.assume intent " + bob, "aws.assume success " + bob}},
		{"intent", []string{"--outcome", "intent", "--user", alice, "--kind", "aws.assume"}, []string{"aws.assume intent " + alice}},
		{"text", []string{"kind:aws.assume (outcome:denied or user:" + bob + ")"}, []string{"aws.assume denied " + alice, "aws.assume success " + bob}},
		{"a reason", []string{`reason:~"WHY not" kind:aws.*`}, []string{"aws.assume success " + alice}},
		{"free text", []string{`"# query"`}, []string{"session.command success " + alice}},
		{"a policy", []string{"policy:engineers-dev-admin", "--kind", "aws.assume"}, []string{"aws.assume success " + alice}},
		{"limit", []string{"--kind", "aws.assume", "--limit", "2"}, []string{"aws.assume success " + alice, "aws.assume denied " + alice}},
	} {
		var got []string
		for _, v := range query(tt.args...) {
			got = append(got, fmt.Sprint(field(v, "kind"), " ", field(v, "outcome"), " ", field(v, "actor.email")))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	assumed := query("--kind", "aws.assume", "--user", alice, "--outcome", "success")[0]
	if field(assumed, "reason") != "why not" || field(assumed, "resource") != "role/dev-admin" || field(assumed, "login_id") != login || len(field(assumed, "policy_digest")) == 0 ||
		!cmp.Equal(assumed["policy_ids"], []any{"engineers-dev-admin"}) {
		t.Errorf("the event of the credentials: %v", assumed)
	}
	// Nothing before its time, nothing after.
	for _, v := range query() {
		at, err := time.Parse(time.RFC3339Nano, field(v, "time"))
		if err != nil || at.Before(since) || !at.Before(until) {
			t.Errorf("an event of %v is not between %v and %v (%v)", at, since, until, err)
		}
	}
	testQueryForms(t, reviewer, window)
}

func testQueryForms(t *testing.T, reviewer *devtest.Person, window []string) {
	t.Helper()
	r := reviewer.Sega(append([]string{"audit", "query", "--json"}, window...)...)
	last := -1.0
	for line := range strings.Lines(r.Out) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("a line is no object: %v", err)
		}
		if idx := v["idx"].(float64); idx <= last {
			t.Errorf("event %v comes after %v", idx, last)
		} else {
			last = idx
		}
	}
	lines := strings.Count(r.Out, "\n")
	table := reviewer.Sega(append([]string{"audit", "query"}, window...)...)
	expect(t, table, 0, "KIND", "aws.assume", alice, "role/prod-readonly", "why not")
	if got := strings.Count(table.Out, "\n"); got != lines+1 {
		t.Errorf("the table has %d lines for %d events", got, lines)
	}
	for _, args := range [][]string{{"--since", "yesterday"}, {"--outcome", "maybe"}, {"--limit", "-1"}, {"--users", alice}, {"usr:extra"}} {
		expect(t, reviewer.Sega(append([]string{"audit", "query"}, args...)...), 2)
	}
}

// testEscape plants control characters wherever a person may write, and reads them back.
func testEscape(t *testing.T, e *devtest.Env) {
	const evil = "x\x1b[2Jy\x07\u202ez\r\nforged line"
	p, reviewer := e.LoggedIn(alice), e.LoggedIn(carol)
	command := "true '" + evil + "'"
	expect(t, p.Sega("exec", "dev-admin", "--duration", "15m", "--reason", evil, "--", "true"), 0)
	expect(t, p.Sega("ssh", e.Host.Name, "--", command), 0)
	id := ended(t, reviewer, command)
	for _, argv := range [][]string{{"audit", "query"}, {"audit", "query", "--json"}, {"audit", "show", id}, {"audit", "show", id, "--json"}, {"exec", "x\x1b[2J", "--", "true"}} {
		r := reviewer.Sega(argv...)
		for name, s := range map[string]string{"stdout": r.Out, "stderr": r.Err} {
			if at := strings.IndexFunc(s, func(c rune) bool { return c < ' ' && c != '\n' || c == 0x7f || c >= 0x80 && c < 0xa0 }); at >= 0 {
				t.Errorf("%q: a control character in %s: %q", argv, name, s[max(0, at-20):min(len(s), at+20)])
			}
			if strings.Contains(s, "\nforged line") {
				t.Errorf("%q: a forged line in %s", argv, name)
			}
		}
	}
	if r := reviewer.Sega("audit", "show", id); !strings.Contains(r.Out, `x\u001b[2Jy\u0007\u202ez`) {
		t.Errorf("what was typed is not shown:\n%s", r.Out)
	}
}
