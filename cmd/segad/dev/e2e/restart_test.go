//go:build linux

package e2e

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/cmd/segad/dev/devtest"
)

// TestRestart stops everything and starts it with the same folder: people, ports, sessions, keys of the CAs and the
// log survive, and the log verifies over the restart.
func TestRestart(t *testing.T) {
	t.Parallel()
	devtest.Need(t, "ssh")
	e := devtest.UpAt(t, filepath.Join(t.TempDir(), "a folder"))
	p, reviewer := e.LoggedIn(alice), e.LoggedIn(carol)
	expect(t, p.Sega("ssh", e.Host.Name, "--", "echo before"), 0)
	before := ended(t, reviewer, "echo before")
	expect(t, verify(reviewer), 0, "1 recordings")
	conf := filepath.Join(e.Data, "broker.yaml")
	root := e.Person("root@dev.sega.invalid")
	ca := segadCA(root, conf)
	for _, name := range []string{"access", "hop"} { // the host trusts the next hop CA from its next start on
		addKey(t, e, root, name)
		expect(t, ca("publish", name, "--yes"), 0)
		devtest.Eventually(t, patience, "the "+name+" CA does not rotate", func() error {
			if r := ca("rotate", name, "--yes", "--by-hand"); r.Code != 0 {
				return errors.New(r.Out + r.Err)
			}
			return nil
		})
	}
	events := reviewer.Events()
	was := e.Dev

	e.Stop()
	// A broker that is down is said so, with 7, and no credential comes from the cache (R12).
	for _, argv := range [][]string{{"status"}, {"roles"}, {"exec", "dev-admin", "--", "true"}, {"credential-process", "dev-admin"}, {"ssh", e.Host.Name, "--", "true"}, {"login"}, {"audit", "query"}} {
		if r := p.Sega(argv...); r.Code != 7 || r.Out != "" {
			t.Errorf("%q with the broker down: exit %d\n%s%s", argv, r.Code, r.Out, r.Err)
		}
	}
	e.Start()
	was.PIDs, e.PIDs = nil, nil
	if diff := cmp.Diff(was, e.Dev); diff != "" {
		t.Errorf("dev.json after the restart: %s", diff)
	}
	after := reviewer.Events()
	if len(after) <= len(events) {
		t.Fatalf("%d events before, %d after", len(events), len(after))
	}
	if diff := cmp.Diff(events, after[:len(events)]); diff != "" {
		t.Errorf("the events before the restart: %s", diff)
	}
	if text := read(t, conf); !strings.Contains(text, "ca/access-2") || !strings.Contains(text, "ca/hop-2") {
		t.Errorf("the next keys of the CAs are gone:\n%s", text)
	}
	expect(t, p.Sega("exec", "dev-admin", "--", "true"), 0)
	expect(t, p.Sega("ssh", e.Host.Name, "--", "echo after"), 0)
	expect(t, e.Person(alice).Login(), 0)
	expect(t, reviewer.Sega("audit", "play", before, "--reason", "test"), 0, "before")
	expect(t, reviewer.Sega("audit", "play", ended(t, reviewer, "echo after"), "--reason", "test"), 0, "after")
	expect(t, verify(reviewer), 0, "2 recordings")
	expect(t, verify(e.LoggedIn(carol)), 0, "2 recordings") // with a memory that starts now
}

// TestSecondUp finds that two environments do not share a folder.
func TestSecondUp(t *testing.T) {
	t.Parallel()
	e := devtest.Up(t)
	p := e.LoggedIn(alice)
	expect(t, p.Run("segad", "dev", "up", "--data", e.Data), 1, "another")
	expect(t, p.Sega("status"), 0)
}
