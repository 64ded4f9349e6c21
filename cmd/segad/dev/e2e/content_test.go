//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// testContent (R11): secrets that were typed never reach the log, and what was typed is read and
// found by those alone who may.
func testContent(t *testing.T, e *devtest.Env) {
	a, s, c := e.LoggedIn(alice), e.LoggedIn(sam), e.LoggedIn(carol)
	const canary = "cnry-7f3d9a-password"
	expect(t, a.Sega("ssh", e.Host.Name, "--", "true contentmark --password "+canary), 0)
	const stored = "true contentmark --password [redacted:password-flag]"
	id := ended(t, c, stored)

	command := func(p *devtest.Person, args ...string) map[string]any {
		t.Helper()
		found := p.Events(append([]string{"kind:session.command session:" + id}, args...)...)
		if len(found) != 1 {
			t.Fatalf("%d commands", len(found))
		}
		return found[0]
	}
	for _, p := range []*devtest.Person{a, c} {
		if v := command(p); field(v, "details.command") != stored || field(v, "details.redacted") != "1" || field(v, "details.withheld") != "" {
			t.Errorf("who may read content reads %v", v["details"])
		}
	}
	if v := command(s); field(v, "details.command") != "" || field(v, "details.withheld") != "true" || field(v, "details.type") != "exec" {
		t.Errorf("security reads %v", v["details"])
	}
	for p, want := range map[*devtest.Person]int{a: 1, c: 1, s: 0} {
		if n := len(p.Events("contentmark", "--session", id)); n != want {
			t.Errorf("%s finds %d events by content, want %d", p.Home, n, want)
		}
	}
	expect(t, s.Sega("audit", "query", `screen:"contentmark"`), 3)
	expect(t, s.Sega("audit", "verify"), 3) // it reads everything whole
	expect(t, c.Sega("audit", "query", canary), 0)

	for _, name := range []string{"sega.db", "sega.db-wal"} {
		data, err := os.ReadFile(filepath.Join(e.Data, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if name == "sega.db-wal" && !bytes.Contains(data, []byte("contentmark")) {
			t.Log("the log was checkpointed: the database alone tells")
		}
		if bytes.Contains(data, []byte("--password "+canary)) {
			t.Errorf("%s holds what was to be redacted", name)
		}
	}
}

// testCounts holds counts and pages of the one language.
func testCounts(t *testing.T, e *devtest.Env) {
	since := time.Now().UTC().Format(time.RFC3339Nano)
	a, c := e.LoggedIn(alice), e.LoggedIn(carol)
	for range 3 {
		expect(t, a.Sega("exec", "prod-readonly", "--", "true"), 3)
	}
	expect(t, a.Sega("exec", "dev-admin", "--duration", "15m", "--", "true"), 0)
	window := "kind:aws.assume since:" + since
	r := c.Sega("audit", "query", window, "--count-by", "role,outcome", "--json")
	expect(t, r, 0)
	got := objects(t, r.Out)
	if len(got) != 2 || field(got[0], "role") != "prod-readonly" || field(got[0], "outcome") != "denied" || field(got[0], "count") != "3" || field(got[1], "role") != "dev-admin" || field(got[1], "count") != "1" {
		t.Errorf("counts %v", got)
	}
	expect(t, c.Sega("audit", "query", window, "--count-by", "user"), 0, "USER", alice, "4")
	expect(t, a.Sega("audit", "query", "user:"+bob, "--count-by", "kind"), 3)
	expect(t, c.Sega("audit", "query", "usr:x"), 2, "there is no field", "^")

	all := fields(c.Events(window), "idx")
	newest := fields(c.Events(window, "--newest", "--limit", "2"), "idx")
	page := fields(c.Events(window, "--after", all[0], "--limit", "2"), "idx")
	if strings.Join(newest, " ") != all[3]+" "+all[2] || strings.Join(page, " ") != all[1]+" "+all[2] {
		t.Errorf("of %v the newest are %v, the second page %v", all, newest, page)
	}
}

// testTail follows what happens, until it is interrupted.
func testTail(t *testing.T, e *devtest.Env) {
	a, c := e.LoggedIn(alice), e.LoggedIn(carol)
	tail := start(t, c, "sega", "audit", "tail", "kind:aws.assume outcome:denied user:"+alice, "--lines", "0")
	find(t, tail.String, "(REASON)\n")
	expect(t, a.Sega("exec", "prod-readonly", "--reason", "to be followed", "--", "true"), 3)
	find(t, tail.String, "denied .*(to be followed)")
	if err := tail.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := tail.cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v\n%s", err, tail)
	}
	own := start(t, a, "sega", "audit", "tail", "--json", "--lines", "1")
	find(t, own.String, `("idx")`)
	expect(t, a.Sega("logout"), 0)
	_ = own.cmd.Wait()
	if code := own.cmd.ProcessState.ExitCode(); code != 4 {
		t.Errorf("a logout under way: exit %d\n%s", code, own)
	}
	expect(t, c.Run("sh", "-c", "sega audit query --json | head -n 1"), 0)
}
