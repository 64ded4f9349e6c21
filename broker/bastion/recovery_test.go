package bastion

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"sega/audit/recording"
	"sega/broker/api"
)

// killEnv makes the test binary write a spool until it is killed.
const killEnv = "SEGA_BASTION_TEST_SPOOL"

const (
	killedID  = "ssh_killedkilledkilled22"
	killedEnd = "01920000-0000-7000-8000-000000000001"
)

// recordUntilKilled is the child of TestRecoveryAfterKill: the spool of a bastion in mid-session.
func recordUntilKilled(dir string) {
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	s, err := openSpool(dir)
	must(err)
	f, err := s.create(spoolMeta{SessionID: killedID, EndID: killedEnd, Source: "192.0.2.1", Started: time.Now()})
	must(err)
	a, err := age.ParseX25519Recipient(os.Getenv("SEGA_BASTION_TEST_A"))
	must(err)
	b, err := age.ParseX25519Recipient(os.Getenv("SEGA_BASTION_TEST_B"))
	must(err)
	rec, err := recording.New(f, recording.Config{SessionID: killedID, Recipients: []age.Recipient{a, b}})
	must(err)
	must(rec.Write(1, recording.StreamOut, []byte("sealed ")))
	must(rec.Seal())
	must(rec.Write(1, recording.StreamOut, []byte("unsealed")))
	must(newOperations(&Bastion{spool: s}, killedID).put(killedOperations()))
	fmt.Println("written")
	select {}
}

// killedSpool lays down what a bastion leaves that was killed in mid-session.
func killedSpool(t *testing.T, dir string, identity *age.X25519Identity) {
	t.Helper()
	spool := filepath.Join(dir, "data", "spool")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killEnv+"="+spool, "SEGA_BASTION_TEST_A="+identity.Recipient().String(), "SEGA_BASTION_TEST_B="+other.Recipient().String())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "written\n" {
		t.Fatalf("child: %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

func TestRecoveryAfterKill(t *testing.T) {
	for name, tc := range map[string]struct {
		torn string // what a torn write has left behind
	}{"clean end": {}, "torn end": {torn: "\x00\x00\x10\x00\x01half a record"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			identity, err := age.GenerateX25519Identity()
			if err != nil {
				t.Fatal(err)
			}
			killedSpool(t, dir, identity)
			path := filepath.Join(dir, "data", "spool", killedID+spoolSuffix)
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(f, tc.torn); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			control := newFakeControl(t)
			w := startIn(t, dir, control)
			w.identity = identity
			end := control.only(t, kindEnd)
			var d endDetail
			if err := json.Unmarshal(end.Details, &d); err != nil {
				t.Fatal(err)
			}
			if end.ID != killedEnd || end.Outcome != "unknown" || end.SessionID != killedID || end.Source != "192.0.2.1" || d.Recording.Verdict != recording.StatusInterrupted {
				t.Errorf("reported %+v, recording %+v", end, d.Recording)
			}
			if got := stream(w.interrupted(killedID), recording.StreamOut); got != "sealed unsealed" {
				t.Errorf("recovered %q", got)
			}
			tail, err := os.ReadFile(filepath.Join(dir, "data", quarantineDir, killedID+".tail"))
			if string(tail) != tc.torn || (err == nil) != (tc.torn != "") {
				t.Errorf("cut tail %q, %v", tail, err)
			}
		})
	}
}

// interrupted plays what is there of a recording that was not closed.
func (w *world) interrupted(id string) []recording.Frame {
	w.t.Helper()
	eventually(w.t, "an empty spool", func() bool { ids, err := w.b.spool.sessions(); return err == nil && len(ids) == 0 })
	rc, err := w.bucket.Reader(w.t.Context(), id, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rc.Close()
	reader, err := recording.Open(rc, w.identity)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []recording.Frame
	for {
		f, err := reader.Next()
		if err != nil {
			return out
		}
		out = append(out, f)
	}
}

// TestNothingIsCutThatIsNotKept has no room in quarantine for what follows a hole in the spool: the
// spool stays as it is, and the rest of the way is gone once there is room. Recording and tail
// together are the spool.
func TestNothingIsCutThatIsNotKept(t *testing.T) {
	dir := t.TempDir()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	killedSpool(t, dir, identity)
	path := filepath.Join(dir, "data", "spool", killedID+spoolSuffix)
	original, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const behind = "\x00\x00\x00\x00 a hole, and then what was forwarded"
	original = append(original, behind...)
	writeFile(t, path, string(original))
	tail := filepath.Join(dir, "data", quarantineDir, killedID+".tail")
	if err := os.MkdirAll(filepath.Join(tail, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	control := newFakeControl(t)
	w := startIn(t, dir, control)
	w.identity = identity
	end := control.only(t, kindEnd)
	var d endDetail
	decode(t, end.Details, &d)
	if d.Cut != int64(len(behind)) || d.Recording.Verdict != recording.StatusInterrupted {
		t.Errorf("reported %+v", d)
	}
	eventually(t, "the report to be taken", func() bool { return w.b.reports.find(killedEnd) == nil })
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, original) {
		t.Fatalf("the spool has %d bytes, had %d: %v", len(got), len(original), err)
	}
	if err := os.RemoveAll(tail); err != nil {
		t.Fatal(err)
	}
	if got := stream(w.interrupted(killedID), recording.StreamOut); got != "sealed unsealed" {
		t.Errorf("recovered %q", got)
	}
	rc, err := w.bucket.Reader(t.Context(), killedID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	whole, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(tail)
	if err != nil || !bytes.Equal(append(whole, kept...), original) {
		t.Errorf("recording and tail are %d and %d bytes, the spool was %d: %v", len(whole), len(kept), len(original), err)
	}
}

func TestCorruptSpoolIsSetAside(t *testing.T) {
	dir := t.TempDir()
	spool := filepath.Join(dir, "data", "spool")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	const id = "ssh_corruptcorrupt222222"
	writeFile(t, filepath.Join(spool, id+spoolSuffix), "this is no recording")
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	killedSpool(t, dir, identity)
	f := newFakeControl(t)
	w := startIn(t, dir, f)
	w.identity = identity
	eventually(t, "both ends", func() bool { return len(f.find(kindEnd)) == 2 })
	if got := stream(w.interrupted(killedID), recording.StreamOut); got != "sealed unsealed" {
		t.Errorf("the good spool was recovered as %q", got)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "data", quarantineDir, id+spoolSuffix))
	if err != nil || string(kept) != "this is no recording" {
		t.Errorf("quarantine holds %q, %v", kept, err)
	}
}

func TestReportsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	f := newFakeControl(t)
	f.onReport = func(api.Report) error { return errFakeDown }
	w := startIn(t, dir, f)
	w.b.reports.put(api.Report{ID: killedEnd, Kind: kindEnd, SessionID: killedID})
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if got := f.find(kindEnd); len(got) != 0 {
		t.Fatalf("delivered to a broker that is down: %+v", got)
	}
	f.set(func() { f.onReport = nil })
	startIn(t, dir, f)
	if diff := cmp.Diff(api.Report{ID: killedEnd, Kind: kindEnd, SessionID: killedID}, f.only(t, kindEnd)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	eventually(t, "an empty queue on disk", func() bool {
		left, err := filepath.Glob(filepath.Join(dir, "data", "reports", "*"))
		return err == nil && len(left) == 0
	})
}

func TestRefusedReportBlocksNoOther(t *testing.T) {
	f := newFakeControl(t)
	f.onReport = func(r api.Report) error {
		if r.SessionID == "ssh_bad" {
			return api.Errorf(api.KindInvalid, "no such session")
		}
		return nil
	}
	w := start(t, f)
	bad := w.b.reports.put(api.Report{ID: newEventID(), Kind: kindEnd, SessionID: "ssh_bad"})
	good := w.b.reports.put(api.Report{ID: newEventID(), Kind: kindEnd, SessionID: "ssh_good"})
	<-bad.settled
	<-good.settled
	if bad.refused == nil || good.refused != nil {
		t.Errorf("refused: %v and %v", bad.refused, good.refused)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "data", quarantineDir, bad.report.ID+".json")); err != nil {
		t.Errorf("refused report is not in quarantine: %v", err)
	}
}

// TestReportsWaitForASession: what the broker says of the bastion's own session, as that its log was restored, refuses
// no report.
func TestReportsWaitForASession(t *testing.T) {
	f := newFakeControl(t)
	tries := make(chan struct{}, 1)
	f.onReport = func(api.Report) error {
		select {
		case tries <- struct{}{}:
		default:
		}
		return fmt.Errorf("%w: %w", ErrNoSession, api.Errorf(api.KindConflict, "the log was restored"))
	}
	w := start(t, f)
	item := w.b.reports.put(api.Report{ID: newEventID(), Kind: kindEnd, SessionID: killedID})
	<-tries
	f.set(func() { f.onReport = nil })
	<-item.settled
	if item.refused != nil {
		t.Errorf("refused: %v", item.refused)
	}
	f.only(t, kindEnd)
}

// TestStopWithoutABroker: a bastion that stops while nobody takes its reports leaves them, and the spools behind them, for
// its next start.
func TestStopWithoutABroker(t *testing.T) {
	dir := t.TempDir()
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := startIn(t, dir, f, func(c *Config) { c.ShutdownGrace = time.Hour })
	c := w.direct(t)
	if err := newSession(t, c).Run("true"); err != nil {
		t.Fatal(err)
	}
	f.set(func() { f.down = true; f.onReport = func(api.Report) error { return errFakeDown } })
	eventually(t, "no feed", func() bool { return !w.b.feed.following() })
	_ = c.Close()
	eventually(t, "an end that waits", func() bool {
		left, err := filepath.Glob(filepath.Join(dir, "data", "reports", "*.json"))
		return err == nil && len(left) == 1
	})
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if ids, err := w.b.spool.sessions(); err != nil || len(ids) != 1 {
		t.Errorf("the spool has %v, %v", ids, err)
	}
	f.set(func() { f.down, f.onReport = false, nil })
	w = startIn(t, dir, f)
	f.only(t, kindEnd)
	eventually(t, "an empty spool", func() bool { ids, err := w.b.spool.sessions(); return err == nil && len(ids) == 0 })
}
