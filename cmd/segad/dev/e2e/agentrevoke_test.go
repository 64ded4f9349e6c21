//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// awaitDrop waits, from a moment on and for cutTime at most, until an agent holds nothing and its child gets nothing.
func awaitDrop(t *testing.T, p *devtest.Person, c child, since time.Time) {
	t.Helper()
	for {
		status, code, _ := c.asks()
		at := time.Since(since)
		if v := stateOf(t, p); v.State == "revoked" && len(v.Roles) == 0 && status == http.StatusForbidden && code == "revoked" {
			t.Logf("the child heard it within %v", at.Round(time.Millisecond))
			return
		} else if at > cutTime {
			t.Fatalf("after %v the agent is %q and holds %v; its child gets HTTP %d (%s)", at, v.State, v.Roles, status, code)
		}
	}
}

// dropped is what a receipt says of an agent.
var dropped = regexp.MustCompile(`agent of \S+ +.*?(\d+) ms.*?(\d+) credentials? dropped`)

// TestAgentRevoked: within a second of a revocation an agent holds nothing, and says why until there is another login.
func TestAgentRevoked(t *testing.T) {
	e := devtest.Up(t)
	p, s := e.LoggedIn(alice), e.LoggedIn(sam)
	c := startChild(t, p)
	c.gets()
	expect(t, p.Sega("credential-process", "dev-admin", "--read-only"), 0)
	pid := held(t, p, "ready", 2).PID

	began := time.Now()
	r := s.Sega("revoke", "user", alice, "--yes", "--reason", "laptop stolen")
	awaitDrop(t, p, c, began)
	expect(t, r, 0)
	if m := dropped.FindStringSubmatch(r.Out + r.Err); m == nil || m[2] != "2" {
		t.Errorf("the receipt tells of no agent that has dropped two credentials:\n%s%s", r.Out, r.Err)
	} else if ms, _ := strconv.Atoi(m[1]); ms > 1000 {
		t.Errorf("it took the agent %d ms", ms)
	}
	stays := func(when string) {
		t.Helper()
		for _, args := range [][]string{{"credential-process", "dev-admin"}, {"exec", "dev-admin", "--", "true"}, {"status"}} {
			r := p.Sega(args...)
			if expect(t, r, 6, "laptop stolen"); r.Out != "" {
				t.Errorf("%s: %v: %s", when, args, r.Out)
			}
		}
		c.refused("revoked")
	}
	stays("after the revocation")
	restartBroker(t, e)
	stays("after the broker's restart")
	expect(t, p.Sega("agent", "stop"), 0)
	gone(t, pid)
	expect(t, p.Sega("credential-process", "dev-admin"), 6) // as an agent that knows nothing of it hears from the broker

	expect(t, s.Sega("unblock", "user", alice, "--reason", "laptop found"), 0)
	expect(t, p.Sega("credential-process", "dev-admin"), 6, "sega login")
	expect(t, p.Login(), 0)
	expect(t, p.Sega("credential-process", "dev-admin"), 0)
	c = startChild(t, p)
	c.gets()

	began = time.Now()
	r = s.Sega("revoke", "session", held(t, p, "ready", 1).Session.LoginID, "--yes", "--reason", "old laptop")
	awaitDrop(t, p, c, began)
	expect(t, r, 0, "agent of "+alice)
	expect(t, p.Sega("credential-process", "dev-admin"), 6, "old laptop")
	expect(t, p.Login(), 0)
	c.gets() // the same person's
	expect(t, p.Sega("credential-process", "dev-admin"), 0)
}

// restartBroker ends the broker and waits for the one that comes in its place.
func restartBroker(t *testing.T, e *devtest.Env) {
	t.Helper()
	pid := e.PID("broker")
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, patience, "the broker does not come back", func() error {
		if status, body := readyz(t, e); e.PID("broker") == pid || status != http.StatusOK {
			return errors.New(body)
		}
		return nil
	})
}

// configured gives the broker another line of configuration, by a restart.
func configured(t *testing.T, e *devtest.Env, line string) {
	t.Helper()
	config := filepath.Join(e.Data, "broker.yaml")
	write(t, config, read(t, config)+line+"\n")
	restartBroker(t, e)
}

// TestAgentWarm: what is warm needs neither broker nor store, for as long as the lease (R12).
func TestAgentWarm(t *testing.T) {
	e := devtest.Up(t)
	const lease = 12 * time.Second
	configured(t, e, "lease: "+lease.String())
	p := e.LoggedIn(alice)
	warm := p.Sega("credential-process", "dev-admin")
	expect(t, warm, 0)
	same := func() {
		t.Helper()
		r := p.Sega("credential-process", "dev-admin")
		if expect(t, r, 0); r.Out != warm.Out {
			t.Errorf("other credentials: %s, they were %s", r.Out, warm.Out)
		}
	}
	secrets, aside := filepath.Join(p.Home, "secrets"), filepath.Join(p.Home, "aside")
	if err := os.Rename(secrets, aside); err != nil {
		t.Fatal(err)
	}
	before := e.AssumeRoles()
	same()
	expect(t, p.Sega("credential-process", "--no-agent", "dev-admin"), 4)
	if err := errors.Join(os.RemoveAll(secrets), os.Rename(aside, secrets)); err != nil {
		t.Fatal(err)
	}

	c := startChild(t, p)
	if n := e.AssumeRoles() - before; n != 0 {
		t.Errorf("%d AssumeRole for what was warm", n)
	}
	// A broker that stands still, as behind a cut network, is not waited for.
	goOn := stopBroker(t, e)
	same()
	c.gets()
	goOn()
	awaitFeed(t, p)

	began := time.Now()
	e.Stop()
	same()
	c.gets()
	devtest.Eventually(t, lease+patience, "the lease does not end", func() error {
		asked := time.Since(began)
		r := p.Sega("credential-process", "dev-admin")
		if r.Code == 0 && r.Out == warm.Out && asked < lease+2*time.Second {
			return errors.New("a warm answer")
		}
		if expect(t, r, 7); r.Out != "" {
			t.Errorf("%s after the stop: %s", asked, r.Out)
		}
		return nil
	})
	if took := time.Since(began); took < lease/2 {
		t.Errorf("the lease ended after %s", took)
	}
	if status, _, _ := c.asks(); status != http.StatusServiceUnavailable {
		t.Errorf("the child gets HTTP %d", status)
	}
	e.Start()
	// The agent finds its feed again by itself, and has lost nothing.
	awaitFeed(t, p)
	same()
	c.gets()
	if n := e.AssumeRoles(); n != 0 {
		t.Errorf("%d AssumeRole, want none", n)
	}
	lostAndFound(t, e, p)
}

// awaitFeed waits until an agent follows the broker again.
func awaitFeed(t *testing.T, p *devtest.Person) {
	t.Helper()
	devtest.Eventually(t, patience, "the feed does not come back", func() error {
		if v := stateOf(t, p); !v.FeedAlive {
			return errors.New(v.Why)
		}
		return nil
	})
}

// stopBroker lets the broker stand still, until the returned function is called.
func stopBroker(t *testing.T, e *devtest.Env) (goOn func()) {
	t.Helper()
	pid := e.PID("broker")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	return func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
}

// lostAndFound: a broker that ends is asked no more, inside of the lease; the next one is followed without anybody's
// doing. What policy denies meanwhile is denied.
func lostAndFound(t *testing.T, e *devtest.Env, p *devtest.Person) {
	t.Helper()
	restartBroker(t, e)
	awaitFeed(t, p)
	held(t, p, "ready", 1)
	expect(t, p.Sega("credential-process", "dev-admin"), 0)

	file := filepath.Join(e.Data, "policy", "zz-deny.cedar")
	write(t, file, fmt.Sprintf("@id(%q)\n@reason(%q)\nforbid(principal, action == Action::\"assume\", resource == Role::%q);\n", "no-dev-admin", "closed for the test", "dev-admin"))
	devtest.Eventually(t, patience, "what policy forbids is handed out", func() error {
		r := p.Sega("credential-process", "dev-admin")
		if r.Code != 3 || !strings.Contains(r.Err, "no-dev-admin") {
			return fmt.Errorf("exit %d\n%s", r.Code, r.Err)
		}
		return nil
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	devtest.Eventually(t, patience, "what policy permits again is denied", func() error {
		if r := p.Sega("credential-process", "dev-admin"); r.Code != 0 {
			return errors.New(r.Err)
		}
		return nil
	})
}
