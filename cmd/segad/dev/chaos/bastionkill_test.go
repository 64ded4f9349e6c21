//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/audit"
	"sega/cmd/segad/dev/devtest"
)

const (
	bastionKills = 20
	chatty       = "seq 1 100000000" // prints counted lines until nobody takes them
	maxChat      = 200 * time.Millisecond
)

// TestKillBastion kills the bastion while sessions print counted lines as fast as they can. What
// any terminal received is in the recordings, which say that they were interrupted (I2).
func TestKillBastion(t *testing.T) {
	r := startRig(t, nil)
	carol := r.LoggedIn("carol@example.com")
	alice, _ := r.login("alice@example.com", nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	book, received, start := newBook(), 0, time.Now()
	for range times(bastionKills) {
		received += r.killBastion(alice, book, carol, rnd)
		if t.Failed() {
			t.FailNow()
		}
	}
	verify(carol)
	if out, errs, err := r.run(mustCertify(t, alice), "echo again"); out != "again\n" {
		t.Errorf("a new session after all: %q %q %v", out, errs, err)
	}
	t.Logf("%d kills in %s, %d KiB received by terminals before them", times(bastionKills), time.Since(start).Round(time.Second), received>>10)
}

// chat is one of the sessions that a kill meets.
type chat struct {
	id identity
	*shell
}

// killBastion is one kill: of two sessions that print, one on a terminal, and one that is silent.
// It returns how many bytes their people had received.
func (r *rig) killBastion(alice *member, book *book, carol *devtest.Person, rnd *rand.Rand) (received int) {
	r.t.Helper()
	var chats []chat
	for i, command := range []string{"cat", chatty, chatty} {
		id := mustCertify(r.t, alice)
		chats = append(chats, chat{id, r.mustOpen(id, command, i == 1)})
	}
	chats[0].echo(r.t, "typed")
	for _, c := range chats[1:] {
		devtest.Eventually(r.t, 10*time.Second, "nothing is printed", func() error { return c.atLeast(1000) })
	}
	<-time.After(time.Duration(rnd.Int64N(int64(maxChat)))) // the random moment
	r.bastion.kill()
	for _, c := range chats {
		c.awaitEnd(r.t, 10*time.Second)
		_ = c.sess.Wait() // all that arrived has been read
		received += c.out.len()
	}
	r.startBastion()
	r.spoolEmpty() // everything is with the bucket and in the log
	for _, c := range chats {
		r.judgeInterrupted(c, book, carol)
	}
	return received
}

// atLeast returns an error until that many bytes have been received.
func (s *shell) atLeast(n int) error {
	if got := s.out.len(); got < n {
		return fmt.Errorf("%d bytes received, waiting for %d", got, n)
	}
	return nil
}

// judgeInterrupted holds what the log and the recording say against what the terminal received.
func (r *rig) judgeInterrupted(c chat, book *book, carol *devtest.Person) {
	r.t.Helper()
	id, end := r.awaitSessionEnd(c.id, book)
	if end.Outcome != audit.Unknown {
		r.t.Errorf("session.end of %s says %s (%s), want unknown", id, end.Outcome, end.Reason)
	}
	if v := show(carol, id); v.Recording != "interrupted" || v.Outcome != "unknown" {
		r.t.Errorf("audit show says %+v", v)
	}
	r.contains(c.shell, id, carol)
}

// awaitSessionEnd waits until the log has the end of the session that was opened with id.
func (r *rig) awaitSessionEnd(id identity, book *book) (session string, end audit.Event) {
	r.t.Helper()
	devtest.Eventually(r.t, 20*time.Second, "a session's end is not in the log", func() error {
		if _, err := book.read(r.source(), newLedger()); err != nil {
			return err
		}
		var err error
		session = book.sessionOf(id)
		end, err = book.end(session)
		return err
	})
	return session, end
}

// contains fails unless the recording begins with every byte that the person received.
func (r *rig) contains(s *shell, id string, carol *devtest.Person) {
	r.t.Helper()
	got, want := play(carol, id), s.out.text()
	if !strings.HasPrefix(got, want) {
		r.t.Errorf("session %s: the terminal received %d bytes, of which the recording (%d bytes) has only %d", id, len(want), len(got), common(got, want))
	}
}

func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// maxTorn bounds a record that a kill has torn: what one call of write(2) may carry.
const maxTorn = 2 << 20

// spoolEmpty waits until nothing is left of sessions that have ended, and fails where anything was
// set aside but the torn last record of a spool, of which no byte was forwarded.
func (r *rig) spoolEmpty() {
	r.t.Helper()
	data := r.bfile.Data
	devtest.Eventually(r.t, 60*time.Second, "the spool does not empty", func() error {
		return errors.Join(emptyDir(data+"/spool"), emptyDir(data+"/reports"))
	})
	entries, err := os.ReadDir(data + "/quarantine")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), ".tail") || info.Size() > maxTorn {
			r.t.Errorf("quarantine holds %s: %v", e.Name(), err)
			continue
		}
		r.t.Logf("torn record set aside: %d bytes", info.Size())
		if err := os.Remove(filepath.Join(data, "quarantine", e.Name())); err != nil {
			r.t.Error(err)
		}
	}
}

func emptyDir(path string) error {
	entries, err := os.ReadDir(path)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s holds %v", path, entries)
	}
	return err
}
