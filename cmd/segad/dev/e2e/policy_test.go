//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// awaitReload waits for a policy.reload of an outcome beyond those that were there, and returns it.
func awaitReload(t *testing.T, s *devtest.Person, outcome string, before int) map[string]any {
	t.Helper()
	var events []map[string]any
	devtest.Eventually(t, patience, "no policy.reload "+outcome, func() error {
		if events = s.Events("--kind", "policy.reload", "--outcome", outcome); len(events) <= before {
			return fmt.Errorf("%d of them", len(events))
		}
		return nil
	})
	return events[len(events)-1]
}

// TestPolicy edits the policy of a running broker: one that errs in evaluation denies, one that
// does not load leaves the last good set in force (R8, I5).
func TestPolicy(t *testing.T) {
	t.Parallel()
	e := devtest.Up(t)
	p, s := e.LoggedIn(alice), e.LoggedIn(sam)
	n := 0
	use := func() []string { // never what was handed out before
		n++
		return []string{"exec", "dev-admin", "--reason", fmt.Sprint("trial ", n), "--", "true"}
	}
	expect(t, p.Sega(use()...), 0)
	expect(t, p.Sega("credential-process", "dev-admin"), 0)
	file := filepath.Join(e.Data, "policy", "trial.cedar")

	write(t, file, `@id("trial-errs") permit (principal, action == Action::"assume", resource) when { 9223372036854775807 + 1 > 0 };`)
	erring := awaitReload(t, s, "success", 0)
	if status, body := readyz(t, e); status != http.StatusOK {
		t.Errorf("readyz with a set that loads: %d %s", status, body)
	}
	expect(t, p.Sega(use()...), 3, "trial-errs")
	expect(t, p.Sega("credential-process", "dev-admin", "--no-agent"), 3, "trial-errs")
	// The agent hears of it with the next heartbeat, and asks anew before it hands out what it holds.
	devtest.Eventually(t, patience, "the agent goes on", func() error {
		r := p.Sega("credential-process", "dev-admin")
		if r.Code != 3 || !strings.Contains(r.Err, "trial-errs") {
			return fmt.Errorf("exit %d: %s", r.Code, r.Err)
		}
		return nil
	})
	expect(t, p.Sega("ssh", e.Host.Name, "--", "echo unharmed"), 0, "unharmed")
	denials := s.Events("--kind", "aws.assume", "--outcome", "denied")
	if len(denials) == 0 {
		t.Fatal("a policy that errs left no event")
	}
	last := denials[len(denials)-1]
	if field(last, "policy_digest") != field(erring, "policy_digest") || !strings.Contains(field(last, "policy_ids"), "trial-errs") {
		t.Errorf("the denial does not name policy and digest: %v", last)
	}

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	good := awaitReload(t, s, "success", 1)
	expect(t, p.Sega(use()...), 0)
	digest := field(good, "policy_digest")
	failures := 0
	for name, text := range map[string]string{
		"does not parse":        `@id("trial") permit (principal, action, `,
		"has an unknown action": `@id("trial") permit (principal, action == Action::"fly", resource);`,
		"has no id":             `permit (principal, action, resource);`,
		"has an id again":       `@id("engineers-dev-admin") permit (principal, action, resource);`,
		"is binary":             "\x00\xff\xfe",
	} {
		write(t, file, text)
		failure := awaitReload(t, s, "failure", failures)
		failures++
		if field(failure, "policy_digest") != digest || !strings.Contains(field(failure, "details.error"), "trial.cedar") {
			t.Errorf("a file that %s: %v", name, failure)
		}
		status, body := readyz(t, e)
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "policy") || !strings.Contains(body, "trial.cedar") {
			t.Errorf("a file that %s: readyz %d %s", name, status, body)
		}
		expect(t, p.Sega(use()...), 0)
		expect(t, p.Sega("exec", "prod-readonly", "--", "true"), 3)
		expect(t, p.Run("segad", "policy", "check", filepath.Dir(file)), 1, "trial.cedar")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, patience, "not ready again", func() error {
		if status, body := readyz(t, e); status != http.StatusOK {
			return errors.New(body)
		}
		return nil
	})
	expect(t, p.Run("segad", "policy", "check", filepath.Dir(file)), 0, digest)
	expect(t, p.Sega(use()...), 0)

	// Without any policy everything is denied, which is a set like another.
	testNoPolicy(t, e, p, use)
}

// testNoPolicy takes the folder away: the last good set stays; an empty one is refused or denies.
func testNoPolicy(t *testing.T, e *devtest.Env, p *devtest.Person, use func() []string) {
	t.Helper()
	dir := filepath.Join(e.Data, "policy")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, patience, "still ready", func() error {
		if status, body := readyz(t, e); status != http.StatusServiceUnavailable {
			return errors.New(body)
		}
		return nil
	})
	expect(t, p.Sega(use()...), 0)
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, patience, "not ready again", func() error {
		if status, body := readyz(t, e); status != http.StatusOK {
			return errors.New(body)
		}
		return nil
	})
}
