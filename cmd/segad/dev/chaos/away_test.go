//go:build linux

package chaos

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"sega/audit"
	"sega/cmd/segad/dev/devtest"
)

// TestBrokerAway stops the broker's process in its tracks, so that nothing answers and no
// connection breaks, for longer than the bastion's lease (I4).
func TestBrokerAway(t *testing.T) {
	const lease = 15 * time.Second
	r := startRig(t, func(r *rig) { r.file.Lease = lease })
	carol := r.LoggedIn("carol@example.com")
	alice, _ := r.login("alice@example.com", nil)
	id := mustCertify(t, alice)
	quiet := r.mustOpen(id, "cat", false)
	quiet.echo(t, "before")
	term := r.terminal("alice@example.com")
	book := newBook()
	if _, err := book.read(r.source(), newLedger()); err != nil {
		t.Fatal(err)
	}
	session := book.sessionOf(id)

	stopped := time.Now()
	r.broker.signal(syscall.SIGSTOP)
	t.Cleanup(func() { _ = r.broker.cmd.Process.Signal(syscall.SIGCONT) })
	r.refusedSoon(id, stopped, lease)
	quiet.echo(t, "inside the lease")
	if left := lease - time.Since(stopped); left < time.Second {
		t.Fatalf("this machine is too slow: %s of the lease are left", left)
	}
	quiet.awaitEnd(t, 2*lease)
	lasted := time.Since(stopped)
	if lasted < lease-2*time.Second || lasted > lease+10*time.Second {
		t.Errorf("the session lasted for %s without the broker, want about the lease of %s", lasted, lease)
	}
	const reason = "the bastion has lost the broker's revocation feed"
	if !strings.Contains(quiet.errs.text(), reason) {
		t.Errorf("the person reads %q", quiet.errs.text())
	}
	term.await(t, reason)
	t.Logf("sessions were cut %s after the broker's last word", lasted.Round(time.Millisecond))

	r.broker.signal(syscall.SIGCONT)
	r.awaitFeed()
	if out, errs, err := r.run(mustCertify(t, alice), "echo again"); out != "again\n" {
		t.Errorf("on return: %q %q %v", out, errs, err)
	}
	got, end := r.awaitSessionEnd(id, book)
	if got != session || end.Outcome != audit.Failure || !strings.Contains(end.Reason, reason) {
		t.Errorf("session.end of %s (want %s): %s, %s", got, session, end.Outcome, end.Reason)
	}
	r.spoolEmpty()
	if v := show(carol, session); v.Recording != "complete" {
		t.Errorf("audit show says %+v", v)
	}
	verify(carol)
}

// refusedSoon waits until the bastion counts the feed as lost, and holds it to refusing at once
// from then on. What was asked for earlier waits for the broker as long as any call does.
func (r *rig) refusedSoon(id identity, stopped time.Time, lease time.Duration) {
	r.t.Helper()
	devtest.Eventually(r.t, lease, "the bastion does not notice", func() error {
		if !strings.Contains(r.bastion.tail(2000), "feed lost: no new sessions") {
			return errNotNow
		}
		return nil
	})
	start := time.Now()
	_, errs, err := r.run(id, "echo new")
	if err == nil || !strings.Contains(errs, "has lost its broker and opens nothing new") || !strings.Contains(errs, "try again") {
		r.t.Errorf("a new session: %q, %v", errs, err)
	}
	if took := time.Since(start); took > lease/2 { // not when the lease ends; a busy machine takes its time
		r.t.Errorf("a new session was refused after %s, want at once", took)
	}
	r.t.Logf("new sessions were refused from %s on", time.Since(stopped).Round(100*time.Millisecond))
}

// terminal runs `sega ssh` as a person has it before them.
type terminal struct {
	out   *sink
	ended chan struct{}
}

func (r *rig) terminal(email string) *terminal {
	r.t.Helper()
	p := r.LoggedIn(email)
	c := p.Command(context.Background(), "sega", "ssh", hostName)
	f, err := pty.Start(c)
	if err != nil {
		r.t.Fatal(err)
	}
	term := &terminal{out: &sink{}, ended: make(chan struct{})}
	go func() { // ends with the program
		defer close(term.ended)
		copyAll(term.out, f)
		_ = c.Wait()
	}()
	r.t.Cleanup(func() { endTerminal(c, f); <-term.ended })
	term.await(r.t, "this session is recorded")
	return term
}

func endTerminal(c *exec.Cmd, f *os.File) {
	_ = c.Process.Kill()
	_ = f.Close()
}

func copyAll(to *sink, from *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		_, _ = to.Write(buf[:n])
		if err != nil {
			return
		}
	}
}

// await waits until the screen has shown a text.
func (s *terminal) await(t testing.TB, text string) {
	t.Helper()
	devtest.Eventually(t, 10*time.Second, "the terminal does not show "+text, func() error {
		if !strings.Contains(s.out.text(), text) {
			return errNotNow
		}
		return nil
	})
}
