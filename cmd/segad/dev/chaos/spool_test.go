//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/audit"
	"sega/broker/api"
	"sega/cmd/segad/config"
	"sega/cmd/segad/dev/devtest"
)

// TestSpoolDiskFull lets sessions fill the disk under the bastion's spool. Each ends with the
// reason, nothing that its person received is missing from its recording (I2), and service
// resumes by itself.
func TestSpoolDiskFull(t *testing.T) {
	for name, mount := range map[string]string{"whole data folder": "", "spool alone": "spool"} {
		t.Run(name, func(t *testing.T) { spoolDiskFull(t, mount) })
	}
}

func spoolDiskFull(t *testing.T, mount string) {
	disk := mountDisk(t, diskSize)
	r := startRig(t, func(r *rig) {
		r.bfile.Data = disk
		if mount != "" {
			r.bfile.Data = r.path("bastion")
			if err := os.Symlink(disk, filepath.Join(r.bfile.Data, mount)); err != nil {
				t.Fatal(err)
			}
		}
	})
	carol := r.LoggedIn("carol@example.com")
	alice, _ := r.login("alice@example.com", nil)
	book := newBook()
	quietID, loudID := mustCertify(t, alice), mustCertify(t, alice)
	quiet := r.mustOpen(quietID, "cat", false)
	quiet.echo(t, "before")
	pid := r.bastion.cmd.Process.Pid

	full := fillDisk(t, disk)
	r.refusedWhileFull(quietID)
	_, _ = quiet.in.Write([]byte(strings.Repeat("typed on a full disk\n", 1000))) // more than the spool has room for
	quiet.awaitEnd(t, 10*time.Second)
	full.free(t)
	r.endedUnrecorded(quiet, quietID, book, carol)

	// The session itself fills the disk: what it leaves must be enough to report its end.
	loud := r.mustOpen(loudID, chatty, true)
	loud.awaitEnd(t, 60*time.Second)
	r.endedUnrecorded(loud, loudID, book, carol)
	t.Logf("a session ended after %d KiB", loud.out.len()>>10)
	devtest.Eventually(t, 20*time.Second, "new sessions are not opened again", func() error {
		out, errs, err := r.run(mustCertify(t, alice), "echo again")
		if out != "again\n" {
			return fmt.Errorf("%q %q %v", out, errs, err)
		}
		return nil
	})
	if r.bastion.cmd.Process.Pid != pid || !r.bastion.running() {
		t.Error("the bastion was restarted")
	}
	r.spoolEmpty()
	verify(carol)
}

// refusedWhileFull fails unless a new session is refused and the person reads why.
func (r *rig) refusedWhileFull(id identity) {
	r.t.Helper()
	out, errs, err := r.run(id, "echo new")
	if err == nil || out != "" || !strings.Contains(errs, "sega: ") || !strings.Contains(errs, "too little room left for recordings") {
		r.t.Errorf("a new session on a full disk: %q %q %v", out, errs, err)
	}
	r.t.Logf("a new session reads %q", errs)
}

// endedUnrecorded fails unless a session has ended because it could not be recorded, with all
// that its person received in the recording.
func (r *rig) endedUnrecorded(s *shell, id identity, book *book, carol *devtest.Person) {
	r.t.Helper()
	const reason = "can no longer be recorded"
	if !strings.Contains(s.errs.text(), reason) {
		r.t.Errorf("the person reads %q", s.errs.text())
	}
	session, end := r.awaitSessionEnd(id, book)
	if end.Outcome != audit.Failure || !strings.Contains(end.Reason, reason) {
		r.t.Errorf("session.end says %s, %s", end.Outcome, end.Reason)
	}
	r.spoolEmpty()
	r.contains(s, session, carol)
}

// TestPauseOnAFullDisk: where the company's ladder says so, a session waits for its disk. Nothing that it
// types reaches the host meanwhile, all of it does afterwards, and the recording is complete.
func TestPauseOnAFullDisk(t *testing.T) {
	disk := mountDisk(t, diskSize)
	r := startRig(t, func(r *rig) {
		r.bfile.Data = disk
		r.file.Ladder = []config.LadderRule{{On: api.OnRecording, Do: "pause 1m"}}
	})
	carol := r.LoggedIn("carol@example.com")
	alice, _ := r.login("alice@example.com", nil)
	id := mustCertify(t, alice)
	s := r.mustOpen(id, "cat", false)
	s.echo(t, "before")
	full := fillDisk(t, disk)
	text := strings.Repeat("typed on a full disk\n", 1000) // more than the spool has room for
	_, _ = s.in.Write([]byte(text + "the last of it\n"))
	devtest.Eventually(t, 10*time.Second, "the session is not paused", func() error {
		if log := r.bastion.tail(20_000); !strings.Contains(log, "session paused") {
			return errors.New("nothing of it in the log")
		}
		return nil
	})
	if strings.Contains(s.out.text(), "the last of it") {
		t.Error("it came back from the host without being recorded")
	}
	full.free(t)
	devtest.Eventually(t, 20*time.Second, "the session does not go on", func() error {
		if !strings.HasSuffix(s.out.text(), "the last of it\n") {
			return fmt.Errorf("%d bytes came back", s.out.len())
		}
		return nil
	})
	if got := s.out.text(); got != "before\n"+text+"the last of it\n" {
		t.Errorf("%d bytes came back, and not those that were typed", len(got))
	}
	_ = s.client.Close()
	book := newBook()
	session, end := r.awaitSessionEnd(id, book)
	if end.Outcome != audit.Success {
		t.Errorf("session.end says %s, %s", end.Outcome, end.Reason)
	}
	r.spoolEmpty()
	if v := show(carol, session); v.Recording != "complete" {
		t.Errorf("audit show says %+v", v)
	}
	r.contains(s, session, carol)
	verify(carol)
}
