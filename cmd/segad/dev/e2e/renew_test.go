//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// shortSessions gives the running broker sessions of a length, by its configuration and a restart.
func shortSessions(t *testing.T, e *devtest.Env, length string) {
	t.Helper()
	config := filepath.Join(e.Data, "broker.yaml")
	write(t, config, read(t, config)+"session: "+length+"\n")
	pid := e.PID("broker")
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, patience, "the broker does not come back", func() error {
		if status, body := readyz(t, e); e.PID("broker") == pid || status != 200 {
			return errors.New(body)
		}
		return nil
	})
}

func expires(t *testing.T, p *devtest.Person) time.Time {
	t.Helper()
	var v struct{ Expires time.Time }
	r := p.Sega("status", "--json")
	expect(t, r, 0)
	if err := json.Unmarshal([]byte(r.Out), &v); err != nil {
		t.Fatal(err)
	}
	return v.Expires
}

// TestRenew lets a session run out: it is renewed by a refresh at the provider, without a browser,
// by one of many commands at once; what is revoked is not renewed.
func TestRenew(t *testing.T) {
	t.Parallel()
	e := devtest.Up(t)
	shortSessions(t, e, "3s")
	p, s := e.LoggedIn(alice), e.LoggedIn(sam)
	first := expires(t, p)
	for !time.Now().After(first) {
		time.Sleep(time.Until(first) + time.Millisecond) // the session's own end
	}
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() { expect(t, p.Sega("exec", "dev-admin", "--", "true"), 0) })
	}
	group.Wait()
	if second := expires(t, p); !second.After(first) {
		t.Errorf("the session ends at %v, as before", second)
	}
	renewals := s.Events("--kind", "session.renew", "--user", alice)
	if len(renewals) == 0 {
		t.Fatal("no session.renew in the log")
	}
	for _, v := range renewals {
		if field(v, "outcome") != "success" || field(v, "login_id") != field(renewals[0], "login_id") {
			t.Errorf("a renewal: %v", v)
		}
	}
	if n := len(s.Events("--kind", "user.login", "--user", alice)); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	expect(t, s.Sega("revoke", "user", alice, "--yes", "--reason", "gone"), 0)
	last := time.Now().Add(3 * time.Second)
	for !time.Now().After(last) {
		time.Sleep(time.Until(last) + time.Millisecond)
	}
	expect(t, p.Sega("exec", "dev-admin", "--", "true"), 6)
	expect(t, p.Sega("status"), 6)
}
