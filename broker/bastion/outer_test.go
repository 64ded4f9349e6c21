package bastion

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
)

// through opens a connection to web-1 inside an outer one, as ssh -J does.
func (w *world) through(t *testing.T, outer *ssh.Client, c credential) *ssh.Client {
	t.Helper()
	nc, err := outer.Dial("tcp", "web-1:22")
	if err != nil {
		t.Fatal(err)
	}
	conn, chans, reqs, err := ssh.NewClientConn(nc, "web-1:22", w.dialConfig(currentLogin(t), c.signer))
	if err != nil {
		t.Fatal(err)
	}
	inner := ssh.NewClient(conn, chans, reqs)
	t.Cleanup(func() { _ = inner.Close(); _ = inner.Wait() })
	return inner
}

// ended returns a channel that is closed when a connection has ended.
func ended(t *testing.T, c *ssh.Client) <-chan struct{} {
	done := make(chan struct{})
	go func() { _ = c.Wait(); close(done) }()
	t.Cleanup(func() { _ = c.Close(); <-done })
	return done
}

// TestRevocationOfAnOuterConnection revokes people and logins whose outer connection carries nothing
// at that moment.
func TestRevocationOfAnOuterConnection(t *testing.T) {
	for name, tc := range map[string]struct {
		used bool // somebody has gone through it before
		rev  api.Revocation
		cut  bool
	}{
		"its person":                {true, api.Revocation{Issuer: issuer, Subject: subjectID}, true},
		"its login":                 {true, api.Revocation{LoginID: loginID}, true},
		"another person":            {true, api.Revocation{Issuer: issuer, Subject: "somebody else"}, false},
		"another login":             {true, api.Revocation{LoginID: "ses_zzzzzzzzzzzzzzzz2345"}, false},
		"never used, its login":     {false, api.Revocation{LoginID: loginID}, true},
		"never used, some person":   {false, api.Revocation{Issuer: issuer, Subject: "who knows"}, true},
		"never used, another login": {false, api.Revocation{LoginID: "ses_zzzzzzzzzzzzzzzz2345"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			f.newGoHost(t, "web-1", "host-web-1", echo)
			w := start(t, f)
			c := f.credential(t)
			outer := w.mustDial(t, "ada", c.signer)
			if tc.used {
				inner := w.through(t, outer, c)
				if err := newSession(t, inner).Run("true"); err != nil {
					t.Fatal(err)
				}
				_ = inner.Close()
				f.only(t, kindEnd)
			} else {
				eventually(t, "an outer connection", func() bool { return len(w.b.reg.matching(everybody)) == 1 })
			}
			done := ended(t, outer)
			tc.rev.Index = 1
			f.set(func() { f.revoked = append(f.revoked, tc.rev) })
			eventually(t, "an acknowledgement", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.acks) == 1 })
			if !tc.cut {
				w.through(t, outer, c)
				return
			}
			select {
			case <-done:
			case <-time.After(patience):
				t.Error("the outer connection lives on")
			}
			if f.acks[0].Closed != 0 {
				t.Errorf("%d sessions acknowledged, there was none", f.acks[0].Closed)
			}
		})
	}
}

// TestOuterConnectionOfNothing closes an outer connection once nothing has gone through it for long,
// and not before.
func TestOuterConnectionOfNothing(t *testing.T) {
	t.Parallel()
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	const idle = 2 * time.Second // in which a busy machine opens the inner connection
	w := start(t, f, func(c *Config) { c.JumpIdle = idle })
	c := f.credential(t)
	unused := ended(t, w.mustDial(t, "ada", c.signer))
	outer := w.mustDial(t, "ada", c.signer)
	used := ended(t, outer)
	inner := w.through(t, outer, c)
	s := newSession(t, inner)
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("cat"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-unused:
	case <-time.After(patience):
		t.Fatal("an unused connection lives on")
	}
	select {
	case <-used:
		t.Error("a connection in use was closed")
	case <-time.After(2 * idle):
	}
	_ = in.Close()
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	_ = inner.Close()
	select {
	case <-used:
	case <-time.After(patience):
		t.Error("a connection that nobody uses any more lives on")
	}
}

// TestRefusedClientThatNeverLeaves opens one channel after the other on a connection that gets no host.
func TestRefusedClientThatNeverLeaves(t *testing.T) {
	t.Parallel()
	w := start(t, newFakeControl(t))
	c := w.mustDial(t, "root%web-9", w.control.credential(t).signer)
	done := ended(t, c)
	begun := time.Now()
	tick := time.NewTicker(leaveTimeout / 4)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			if _, _, err := c.OpenChannel("x11", nil); err != nil && !strings.Contains(err.Error(), "no host") {
				t.Logf("after %v: %v", time.Since(begun), err)
			}
		}
		if time.Since(begun) > refuseTimeout+patience {
			t.Fatal("it may stay for ever")
		}
	}
}

// TestOuterConnectionsAreBounded: a login has so many and no more, whatever goes through them; another login has
// its own.
func TestOuterConnectionsAreBounded(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	c := f.credential(t)
	for range maxOuter {
		w.b.reg.admit(w.b.reg.claim(), &live{subject: subject{login: loginID, outer: true}, sever: func(endReason, <-chan struct{}) bool { return true }})
	}
	one := w.mustDial(t, "ada", c.signer)
	if _, err := one.Dial("tcp", "web-1:22"); err == nil || !strings.Contains(err.Error(), errManyOuter.Error()) {
		t.Errorf("one more: %v", err)
	}
	bob := f.credentialOf(t, sshca.KeyID{Session: "ses_zzzzzzzzzzzzzzzz2345", Person: person})
	w.through(t, w.mustDial(t, "bob", bob.signer), bob)
}
