//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// cutTime is what the issue allows from the return of `sega revoke` to the end of a live shell.
const cutTime = time.Second

// awaitCut wants a text and the end of the command on a terminal within cutTime.
func awaitCut(t *testing.T, w *terminal, since time.Time, text string) {
	t.Helper()
	for {
		screen := w.screen()
		if at := time.Since(since); strings.Contains(screen, text) && strings.Contains(screen, "[exit ") {
			t.Logf("the terminal showed it %v after the command's return", at.Round(time.Millisecond))
			return
		} else if at > cutTime {
			t.Fatalf("after %v the terminal shows\n%s", at, screen)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

// shellOf opens a shell by sega or by a configuration of `sega configure`, and waits for its prompt.
func shellOf(t *testing.T, p *devtest.Person, command string) *terminal {
	t.Helper()
	w := openTerminal(t, p, 200, 24, command)
	w.await("#")
	w.line("PS1='at> '; clear")
	w.await("at>")
	return w
}

// sessionIDs are the live sessions of a kind ("ssh", "login") that a person sees of another.
func sessionIDs(t *testing.T, p *devtest.Person, kind, email string) []string {
	t.Helper()
	r := p.Sega("sessions", "--json")
	expect(t, r, 0)
	var out []string
	for _, v := range objects(t, r.Out) {
		if field(v, "kind") == kind && field(v, "person.email") == email {
			out = append(out, field(v, "id"))
		}
	}
	return out
}

// TestRevokeUser is the issue's: alice is cut off, stays cut off over a restart, and is let in anew.
func TestRevokeUser(t *testing.T) {
	devtest.Need(t, "ssh", "tmux", "/usr/bin/aws")
	e := devtest.Up(t)
	p, s := e.LoggedIn(alice), e.LoggedIn(sam)
	conf := p.Sega("configure", "--ssh", "--print")
	expect(t, conf, 0)
	config := write(t, filepath.Join(t.TempDir(), "config"), conf.Out)
	expect(t, p.Sega("credential-process", "dev-admin"), 0)
	direct, jump := shellOf(t, p, "sega ssh "+e.Host.Name), shellOf(t, p, "ssh -F "+config+" "+e.Host.Name)
	jump.line("while :; do date; sleep 0.1; done")
	stock := append([]string{"-o", "BatchMode=yes"}, routes(t, p)[4].argv[1:]...) // with the certificate as it lies there

	// Without a terminal and without --yes, or without a reason, nothing happens.
	expect(t, s.Sega("revoke", "user", alice, "--reason", "laptop stolen"), 2, "--yes", "is let in no more until")
	expect(t, s.Sega("revoke", "user", alice, "--yes"), 2, "--reason")
	expect(t, s.Sega("revoke", "user", "nobody@example.com", "--yes", "--reason", "x"), 1, "nobody")
	if ids := sessionIDs(t, s, "ssh", alice); len(ids) != 2 {
		t.Errorf("alice has the SSH sessions %q, want 2", ids)
	}
	expect(t, p.Sega("exec", "dev-admin", "--", "true"), 0)
	expect(t, p.Run("ssh", append(stock, "true")...), 0)

	r := s.Sega("revoke", "user", alice, "--yes", "--reason", "laptop stolen")
	returned := time.Now()
	awaitCut(t, direct, returned, "laptop stolen")
	awaitCut(t, jump, returned, "laptop stolen")
	expect(t, r, 0, "dev-bastion", "in force after", "2 sessions cut", "agent of "+alice, "dropped", "AWS credentials of dev-admin")
	if ids := append(sessionIDs(t, s, "ssh", alice), sessionIDs(t, s, "login", alice)...); len(ids) != 0 {
		t.Errorf("alice still has %q", ids)
	}
	shut := func(when string) {
		t.Helper()
		for _, argv := range [][]string{{"exec", "dev-admin", "--", "true"}, {"credential-process", "dev-admin"}, {"env", "dev-admin"}, {"ssh", e.Host.Name, "--", "true"},
			{"status"}, {"roles"}, {"audit", "query"}, {"sessions"}} {
			if r := p.Sega(argv...); r.Code != 6 || r.Out != "" {
				t.Errorf("%s: %q: exit %d, want 6\n%s%s", when, argv, r.Code, r.Out, r.Err)
			}
		}
		expect(t, p.Run("ssh", append(stock, "true")...), 255, "revoked")
		expect(t, e.Person(alice).Login(), 6, "revoked")
	}
	shut("after the revocation")
	e.Stop()
	expect(t, p.Sega("exec", "--no-agent", "dev-admin", "--", "true"), 7) // no answer is no leave
	expect(t, p.Sega("exec", "dev-admin", "--", "true"), 6)               // the agent remembers
	expect(t, s.Sega("sessions"), 7)
	e.Start()
	shut("after the restart")
	unblock(t, e, p, s)
}

// unblock lets alice in again, which is for somebody else to do, and finds her old session dead.
func unblock(t *testing.T, e *devtest.Env, old, s *devtest.Person) {
	t.Helper()
	expect(t, s.Sega("unblock", "user", bob, "--reason", "x"), 1)
	expect(t, s.Sega("unblock", "user", sam, "--reason", "x"), 3, "nobody unblocks himself")
	expect(t, e.LoggedIn(bob).Sega("unblock", "user", alice, "--reason", "x"), 3)
	expect(t, e.Person(alice).Login(), 6)
	expect(t, s.Sega("unblock", "user", alice, "--reason", "laptop found"), 0)
	expect(t, s.Sega("unblock", "user", alice, "--reason", "laptop found"), 1, "not blocked")
	expect(t, old.Sega("exec", "dev-admin", "--", "true"), 6)
	fresh := e.LoggedIn(alice)
	expect(t, fresh.Sega("exec", "dev-admin", "--", "/usr/bin/aws", "sts", "get-caller-identity"), 0, aliceARN)
	expect(t, fresh.Sega("ssh", e.Host.Name, "--", "echo in again"), 0, "in again")
	expect(t, old.Sega("ssh", e.Host.Name, "--", "true"), 6)
	// In the home of old a new login mends everything.
	expect(t, old.Login(), 0)
	expect(t, old.Sega("exec", "dev-admin", "--", "true"), 0)

	var story []string
	for _, v := range s.Events("--kind", "user.*") {
		if who := field(v, "actor.email"); who == sam || who == alice {
			story = append(story, strings.Join([]string{field(v, "kind"), field(v, "outcome"), who, field(v, "reason")}, " "))
		}
	}
	for _, want := range []string{"user.revoke success sam@example.com laptop stolen", "user.login revoked alice@example.com ", "user.unblock success sam@example.com laptop found"} {
		if !contains(story, want) {
			t.Errorf("no %q in\n%s", want, strings.Join(story, "\n"))
		}
	}
	expect(t, e.LoggedIn(carol).Sega("audit", "verify"), 0)
}

// TestRevokeSession ends one SSH session, then one login: the person may come back at once.
func TestRevokeSession(t *testing.T) {
	devtest.Need(t, "ssh", "tmux")
	e := devtest.Up(t)
	b, s := e.LoggedIn(bob), e.LoggedIn(sam)
	one, two := shellOf(t, b, "sega ssh "+e.Host.Name), shellOf(t, b, "sega ssh "+e.Host.Name)
	ids := sessionIDs(t, s, "ssh", bob) // oldest first
	if len(ids) != 2 {
		t.Fatalf("bob has the SSH sessions %q", ids)
	}
	expect(t, s.Sega("revoke", "session", ids[0], "--reason", "x"), 2, ids[0])
	expect(t, s.Sega("sessions", "kill", ids[0], "--yes"), 2, "--reason")
	for _, id := range []string{"ssh_aaaaaaaaaaaaaaaaaaaa", "ses_aaaaaaaaaaaaaaaaaaaa", "nonsense"} {
		expect(t, s.Sega("revoke", "session", id, "--yes", "--reason", "x"), 1, "sega sessions")
	}
	expect(t, b.Sega("revoke", "session", ids[0], "--yes", "--reason", "x"), 3)

	expect(t, s.Sega("sessions", "kill", ids[0], "--yes", "--reason", "wrong host"), 0, ids[0])
	awaitCut(t, one, time.Now(), "wrong host")
	if left := sessionIDs(t, s, "ssh", bob); len(left) != 1 || left[0] != ids[1] {
		t.Errorf("bob has the SSH sessions %q, want %q", left, ids[1:])
	}
	expect(t, s.Sega("revoke", "session", ids[0], "--yes", "--reason", "again"), 1)
	two.line("echo still '' here")
	two.await("still  here")
	expect(t, b.Sega("ssh", e.Host.Name, "--", "true"), 0)

	login := sessionIDs(t, s, "login", bob)
	if len(login) != 1 {
		t.Fatalf("bob has the logins %q", login)
	}
	expect(t, s.Sega("revoke", "session", login[0], "--yes", "--reason", "old laptop"), 0)
	awaitCut(t, two, time.Now(), "old laptop")
	for _, argv := range [][]string{{"exec", "dev-admin", "--", "true"}, {"ssh", e.Host.Name, "--", "true"}, {"status"}} {
		expect(t, b.Sega(argv...), 6)
	}
	expect(t, b.Sega("logout"), 0)
	expect(t, b.Login(), 0)
	expect(t, b.Sega("ssh", e.Host.Name, "--", "true"), 0)
	confirmRevocation(t, e, s)
}

// confirmRevocation answers on a terminal: no cancels, yes does it.
func confirmRevocation(t *testing.T, e *devtest.Env, s *devtest.Person) {
	t.Helper()
	b := e.LoggedIn(bob)
	for _, tt := range []struct {
		answer string
		code   int // of the command
		after  int // of bob's next one
	}{{"n", 5, 0}, {"", 5, 0}, {"y", 0, 6}} {
		w := openTerminal(t, s, 120, 24, "sega revoke user "+bob+" --reason 'typed by hand'")
		w.await("is let in no more until", "revoke? [y/N]")
		w.line(tt.answer)
		w.await(fmt.Sprintf("[exit %d]", tt.code))
		expect(t, b.Sega("status"), tt.after)
	}
	devtest.Eventually(t, patience, "the log", func() error {
		if n := len(s.Events("--kind", "user.revoke")); n != 1 {
			return errors.New(fmt.Sprint(n, " revocations, want 1"))
		}
		return nil
	})
}

// TestRevokeCertificateAndHost: a shell goes with the certificate that has opened it, and the login with its agent goes on;
// a host is closed for everybody. A stock ssh-keygen reads what hosts are told.
func TestRevokeCertificateAndHost(t *testing.T) {
	devtest.Need(t, "ssh", "tmux", "ssh-keygen")
	e := devtest.Up(t)
	b, s, reviewer := e.LoggedIn(bob), e.LoggedIn(sam), e.LoggedIn(carol)
	open := shellOf(t, b, "sega ssh "+e.Host.Name)
	serial := func() string {
		t.Helper()
		hops := reviewer.Events("--kind", "ssh.hop", "--user", bob)
		if len(hops) == 0 {
			t.Fatal("no hop of bob's is in the log")
		}
		return field(hops[len(hops)-1], "details.access_serial")
	}
	first := serial()
	expect(t, s.Sega("revoke", "cert", first, "--profile", "access", "--reason", "key copied"), 2, "access certificate "+first, bob, "--yes")
	expect(t, s.Sega("revoke", "cert", "17", "--yes", "--reason", "x"), 1, "--profile host")
	expect(t, b.Sega("revoke", "cert", first, "--profile", "access", "--yes", "--reason", "x"), 3)
	r := s.Sega("revoke", "cert", first, "--profile", "access", "--yes", "--reason", "key copied")
	awaitCut(t, open, time.Now(), "key copied")
	expect(t, r, 0, "dev-bastion", "1 session cut")
	expect(t, b.Sega("ssh", e.Host.Name, "--", "true"), 0)
	if again := serial(); again == first {
		t.Errorf("certificate %s is used after its revocation", again)
	}

	open = shellOf(t, b, "sega ssh "+e.Host.Name)
	hop := reviewer.Events("--kind", "ssh.hop", "--user", bob)
	last := field(hop[len(hop)-1], "details.serial")
	expect(t, s.Sega("revoke", "host", e.Host.Name, "--yes", "--reason", "broken into"), 0, "is opened to nobody", "1 session cut")
	awaitCut(t, open, time.Now(), "broken into")
	if r := b.Sega("ssh", e.Host.Name, "--", "true"); r.Code == 0 || !strings.Contains(r.Err, "host "+e.Host.Name+" was revoked: broken into") {
		t.Errorf("a revoked host: exit %d\n%s", r.Code, r.Err)
	}
	expect(t, s.Sega("unblock", "host", e.Host.Name, "--reason", "rebuilt"), 3, "himself")

	expect(t, s.Sega("revoke", "cert", last, "--profile", "hop", "--yes", "--reason", "tidy"), 0)
	file := filepath.Join(t.TempDir(), "krl")
	status, list := unasked(t, e, "/v1/ssh/krl")
	if status != 200 {
		t.Fatalf("the list: %d %s", status, list)
	}
	write(t, file, list)
	expect(t, s.Run("ssh-keygen", "-Q", "-l", "-f", file), 0, "serial: "+last)
}
