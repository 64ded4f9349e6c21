//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"sega/audit"
	"sega/broker/api"
	"sega/cmd/segad/dev/devtest"
	"sega/sshca"
)

// restoring is a broker whose database is set back, with people who were there before.
type restoring struct {
	*rig
	carol *devtest.Person // has seen the log as it was before the restore
	bob   *devtest.Person // has not, and is revoked in the part that gets lost
	alice *member
	old   identity // certified before the backup, where that has any
	gap   identity // certified in the part that gets lost
	size  int64    // of the log when it was set back
	lives string   // session of the gap that goes on when the log is set back; "": none
}

// TestRestore puts an older copy of the database back (R10).
func TestRestore(t *testing.T) {
	for name, tc := range map[string]struct {
		early    bool // the backup knows no certificate yet
		restarts bool // the bastion is restarted in the part that gets lost
		outgrown bool // the restored log grows past the mark before the bastion comes back
		marked   bool // the broker has its own mark still, and needs no bastion's
	}{
		"the bastion waits":                     {},
		"the backup is older than certificates": {early: true},
		"the bastion was restarted in the gap":  {restarts: true},
		"the log outgrows the mark":             {outgrown: true},
		"the broker remembers":                  {marked: true},
	} {
		t.Run(name, func(t *testing.T) {
			x := newRestoring(t, !tc.early)
			backup := x.backup()
			x.workInGap(tc.restarts)
			if tc.outgrown || tc.marked {
				x.bastion.stop()
			} else {
				x.liveOn()
			}
			x.putBack(backup, tc.marked)
			if tc.outgrown {
				x.outgrow()
				x.bastion.start()
			}
			x.recovered()
			if tc.marked {
				x.bastion.start()
			}
			x.everythingIsVoid()
			x.bastionRefuses()
			x.goOn()
		})
	}
}

func newRestoring(t *testing.T, certified bool) *restoring {
	t.Helper()
	r := startRig(t, nil)
	x := &restoring{rig: r, carol: r.LoggedIn("carol@example.com"), bob: r.LoggedIn("bob@example.com")}
	x.alice, _ = r.login("alice@example.com", nil)
	if certified {
		x.old = mustCertify(t, x.alice)
		if out, errs, err := r.run(x.old, "echo before"); out != "before\n" {
			t.Fatalf("before the backup: %q %q %v", out, errs, err)
		}
	}
	return x
}

// backup copies the database of a broker that was stopped, and starts it again.
func (x *restoring) backup() map[string][]byte {
	x.t.Helper()
	if code := x.broker.stop(); code != 0 {
		x.t.Fatalf("stop the broker: exit %d", code)
	}
	files := map[string][]byte{}
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(x.file.Database + suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			x.t.Fatal(err)
		}
		files[suffix] = data
	}
	x.startBroker()
	x.awaitFeed()
	return files
}

// workInGap is what the restore will lose: a session, a revocation, and that carol saw it all.
func (x *restoring) workInGap(restart bool) {
	x.t.Helper()
	x.gap = mustCertify(x.t, x.alice)
	if restart {
		if code := x.bastion.stop(); code != 0 {
			x.t.Errorf("stop the bastion: exit %d", code)
		}
		x.startBastion()
	}
	if out, errs, err := x.run(x.gap, "echo in the gap"); out != "in the gap\n" {
		x.t.Fatalf("in the gap: %q %q %v", out, errs, err)
	}
	sam := x.LoggedIn("sam@example.com")
	if res := sam.Sega("revoke", "user", "bob@example.com", "--yes", "--reason", "leaves the company"); res.Code != 0 {
		x.t.Fatalf("revoke: exit %d\n%s", res.Code, res.Err)
	}
	verify(x.carol)
	// The bastion's mark is what it was last told: its own answers carry it at once.
	devtest.Eventually(x.t, 10*time.Second, "the bastion does not learn of the log's growth", func() error {
		size, err := x.remembered()
		if err == nil && size < x.logSize() {
			err = fmt.Errorf("it remembers %d events", size)
		}
		return err
	})
}

// liveOn leaves a session open whose end comes when the log knows nothing of it.
func (x *restoring) liveOn() {
	x.t.Helper()
	x.mustOpen(x.gap, "cat", false).echo(x.t, "in the gap")
	b := newBook()
	if _, err := b.read(x.source(), newLedger()); err != nil {
		x.t.Fatal(err)
	}
	starts := b.of("session.start")
	x.lives = starts[len(starts)-1].SessionID
}

// landed waits for the end of that session: an event of the bastion's own, and of no session that the log knows.
func (x *restoring) landed() {
	x.t.Helper()
	if x.lives == "" {
		return
	}
	b := newBook()
	devtest.Eventually(x.t, 20*time.Second, "no session.lost", func() error {
		if _, err := b.read(x.source(), newLedger()); err != nil {
			return err
		}
		if len(b.of("session.lost")) == 0 {
			return errNotNow
		}
		return nil
	})
	for _, e := range b.of("session.lost") {
		if e.SessionID != x.lives || e.Outcome != audit.Unknown || e.Actor.Kind != "machine" || !strings.Contains(string(e.Details), `"verdict"`) {
			x.t.Errorf("session.lost of %s, want %s: %s %+v %s", e.SessionID, x.lives, e.Outcome, e.Actor, e.Details)
		}
	}
	for _, e := range b.events {
		if e.SessionID == x.lives && e.Kind != "session.lost" {
			x.t.Errorf("the log says more of it: %s %s", e.Kind, e.Outcome)
		}
	}
	x.spoolEmpty()
	if entries, err := os.ReadDir(x.bfile.Recordings + "/" + x.lives); err != nil || len(entries) == 0 {
		x.t.Errorf("its recording is not in the bucket: %d objects, %v", len(entries), err)
	}
}

// remembered is the size of the log in the bastion's own mark.
func (x *restoring) remembered() (int64, error) {
	msg, err := os.ReadFile(x.bfile.Data + "/checkpoint")
	if err != nil {
		return 0, err
	}
	c, err := audit.OpenCheckpoint(msg, newMarks(x.t, x.bfile.LogKey).verifier)
	return c.Tree.N, err
}

func (x *restoring) logSize() int64 {
	x.t.Helper()
	b := newBook()
	if _, err := b.read(x.source(), newLedger()); err != nil {
		x.t.Fatal(err)
	}
	return b.next
}

// putBack restores the copy and starts the broker. Unless it is marked, the broker's own mark is lost with what the copy is restored for.
func (x *restoring) putBack(files map[string][]byte, marked bool) {
	x.t.Helper()
	before := x.setBack(files, marked)
	x.startBroker()
	if x.size = x.logSize(); x.size >= before && !x.bastion.running() {
		x.t.Fatalf("the copy is not older: %d and %d events", x.size, before)
	}
}

// setBack stops the broker and restores the copy; it returns the size of the log that is lost.
func (x *restoring) setBack(files map[string][]byte, marked bool) (before int64) {
	x.t.Helper()
	if code := x.broker.stop(); code != 0 {
		x.t.Fatalf("stop the broker: exit %d", code)
	}
	before = x.logSize()
	if mark := x.file.MarkFile(x.path("broker.yaml")); !marked {
		if err := os.Remove(mark); err != nil {
			x.t.Fatal(err)
		}
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(x.file.Database + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			x.t.Fatal(err)
		}
		if data := files[suffix]; len(data) > 0 {
			writeFile(x.t, x.file.Database+suffix, data)
		}
	}
	return before
}

// outgrow makes the restored log longer than the lost one was.
func (x *restoring) outgrow() {
	x.t.Helper()
	mark, err := x.remembered()
	if err != nil {
		x.t.Fatal(err)
	}
	for x.logSize() <= mark+5 {
		mustCertify(x.t, x.alice)
	}
}

// recovered waits for the signed event that names the gap.
func (x *restoring) recovered() {
	x.t.Helper()
	b := newBook()
	devtest.Eventually(x.t, 20*time.Second, "no log.recovery", func() error {
		if _, err := b.read(x.source(), newLedger()); err != nil {
			return err
		}
		if len(b.of("log.recovery")) == 0 {
			return errNotNow
		}
		return nil
	})
	var d struct {
		Remembered int64 `json:"remembered_size"`
		Restored   int64 `json:"restored_size"`
	}
	e := b.of("log.recovery")[0]
	if err := json.Unmarshal(e.Details, &d); err != nil || e.Outcome != audit.Success || d.Remembered == 0 || d.Restored == 0 {
		x.t.Errorf("log.recovery: %s %s, %v", e.Outcome, e.Details, err)
	}
	x.t.Logf("log.recovery: %s", e.Details)
}

// everythingIsVoid: no session and no certificate of before is good for anything, whether the
// backup knows it or not; a machine that saw the newer log says that it went back.
func (x *restoring) everythingIsVoid() {
	x.t.Helper()
	if res := x.bob.Sega("exec", "dev-admin", "--", "true"); res.Code != 4 {
		x.t.Errorf("exec of a session from before: exit %d, want 4\n%s", res.Code, res.Err)
	}
	// The file of what stands revoked was kept, whoever remembered the log's size.
	if res := x.bob.Login(); res.Code == 0 || !strings.Contains(res.Err, "revoked") {
		x.t.Errorf("a login of one who was revoked in the gap: exit %d\n%s", res.Code, res.Err)
	}
	_, err := x.alice.Credentials(context.Background(), api.CredentialsRequest{Role: "dev-admin"})
	if !api.IsKind(err, api.KindUnauthenticated) {
		x.t.Errorf("credentials for a session from before: %v", err)
	}
	res := x.carol.Sega("audit", "verify")
	if res.Code == 0 || !strings.Contains(res.Err, "went back") && !strings.Contains(res.Err, "rewritten") {
		x.t.Errorf("audit verify on a machine that saw more: exit %d\n%s%s", res.Code, res.Out, res.Err)
	}
	x.t.Logf("audit verify, exit %d: %s", res.Code, res.Err)
}

// bastionRefuses: it opens nothing, also after a restart, and repeats do not void anything twice.
func (x *restoring) bastionRefuses() {
	x.t.Helper()
	x.opensNothing()
	if code := x.bastion.stop(); code != 0 {
		x.t.Errorf("stop the bastion: exit %d", code)
	}
	x.bastion.start()
	devtest.Eventually(x.t, 10*time.Second, "the bastion does not listen", func() error {
		c, err := x.dial(x.gap, 5*time.Second)
		if err == nil {
			err = c.Close()
		} else if strings.Contains(err.Error(), "ssh:") {
			err = nil // it listens, and has no certificate to show
		}
		return err
	})
	x.opensNothing()
	b := newBook()
	if _, err := b.read(x.source(), newLedger()); err != nil {
		x.t.Fatal(err)
	}
	if n := len(b.of("log.recovery")); n != 1 {
		x.t.Errorf("%d log.recovery events, want 1", n)
	}
}

func (x *restoring) opensNothing() {
	x.t.Helper()
	for name, id := range map[string]identity{"the gap's": x.gap, "the backup's": x.old} {
		if id.signer == nil {
			continue
		}
		if out, errs, err := x.run(id, "echo after"); err == nil || out != "" {
			x.t.Errorf("a session with %s certificate: %q %q", name, out, errs)
		}
	}
}

// goOn: somebody has looked and accepts the log as it is. Everything works with new logins, and
// no serial comes a second time.
func (x *restoring) goOn() {
	x.t.Helper()
	if code := x.bastion.stop(); code != 0 {
		x.t.Errorf("stop the bastion: exit %d", code)
	}
	x.startBastion("--accept-new-log")
	x.landed()
	x.opensNothing()
	alice, _ := x.login("alice@example.com", nil)
	id := mustCertify(x.t, alice)
	gap, now := sshca.Serial(x.gap.cert.Serial), sshca.Serial(id.cert.Serial)
	if now.Era() <= gap.Era() {
		x.t.Errorf("serial %s (era %d) follows %s (era %d) of the gap: want a new era", now, now.Era(), gap, gap.Era())
	}
	if out, errs, err := x.run(id, "echo after"); out != "after\n" {
		x.t.Errorf("after the bastion has accepted the log: %q %q %v", out, errs, err)
	}
	x.acceptedBy(x.carol)
}

// acceptedBy lets a reviewer accept the restored log, and verify it.
func (x *restoring) acceptedBy(p *devtest.Person) {
	x.t.Helper()
	if res := p.Login(); res.Code == 0 {
		x.t.Errorf("a login on a machine that saw more passes without --accept-new-log")
	}
	if res := p.Login("--accept-new-log"); res.Code != 0 {
		x.t.Errorf("login --accept-new-log: exit %d\n%s", res.Code, res.Err)
	}
	x.spoolEmpty()
	if x.lives != "" {
		if res := p.Sega("audit", "show", x.lives); res.Code == 0 || !strings.Contains(res.Err, "restored from a backup") {
			x.t.Errorf("audit show of a lost session: exit %d\n%s%s", res.Code, res.Out, res.Err)
		}
	}
	verify(p)
	if events := p.Events("--kind", "log.recovery"); len(events) != 1 {
		x.t.Errorf("%d log.recovery events shown", len(events))
	}
}
