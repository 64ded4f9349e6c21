package bastion

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"sega/audit/recording"
	"sega/audit/recording/bucket"
	"sega/broker/api"
)

// forgedPlace is a bucket in which somebody else may put objects, too.
type forgedPlace struct {
	bucket.Store
	before func(id string, seq int) // of each put
}

func (s *forgedPlace) Put(ctx context.Context, id string, seq int, data *io.SectionReader) error {
	s.before(id, seq)
	return s.Store.Put(ctx, id, seq, data)
}

// quarantined returns the spool of a session that was set aside.
func (w *world) quarantined(id string) []byte {
	w.t.Helper()
	path := filepath.Join(w.dir, "data", quarantineDir, id+spoolSuffix)
	eventually(w.t, "the spool in quarantine", func() bool { _, err := os.Stat(path); return err == nil })
	data, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := os.Stat(w.b.spool.path(id)); !errors.Is(err, fs.ErrNotExist) {
		w.t.Errorf("the spool is still there, too: %v", err)
	}
	return data
}

// judgeTrue holds bytes against what the log says of the session.
func judgeTrue(t *testing.T, f *fakeControl, data []byte) {
	t.Helper()
	var startD startDetail
	decode(t, f.only(t, kindStart).Details, &startD)
	end := f.only(t, kindEnd)
	var endD endDetail
	decode(t, end.Details, &endD)
	if endD.Recording.Verdict == recording.StatusComplete || end.Outcome == "success" || !strings.Contains(end.Reason, "set aside") {
		t.Errorf("the log says %+v of it: %s, %q", endD.Recording, end.Outcome, end.Reason)
	}
	if v, err := recording.Verify(bytes.NewReader(data), *startD.Recording, nil, endD.Recording); err != nil || v.Status != recording.StatusComplete {
		t.Errorf("the copy in quarantine is %+v, %v", v, err)
	}
}

// TestForgedObjectsLoseNothing: whoever can write to the bucket takes the place of an object. The true
// recording is kept, and the log does not call what lies in the bucket complete.
func TestForgedObjectsLoseNothing(t *testing.T) {
	for name, forgedSeq := range map[string]int{"the first": 0, "a later one": 1} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			f.newGoHost(t, "web-1", "host-web-1", echo)
			var once sync.Once
			w := start(t, f, func(c *Config) {
				inner := c.Bucket
				c.Bucket = &forgedPlace{Store: inner, before: func(id string, seq int) {
					if seq != forgedSeq {
						return
					}
					once.Do(func() {
						if err := inner.Put(t.Context(), id, seq, io.NewSectionReader(strings.NewReader("forged!"), 0, 7)); err != nil {
							t.Error(err)
						}
					})
				}}
				c.UploadEvery = time.Hour // at the end, in one piece
				if forgedSeq > 0 {
					c.UploadEvery = 5 * time.Millisecond
				}
			})
			client := w.direct(t)
			s := newSession(t, client)
			in, _ := s.StdinPipe()
			s.Stdout = io.Discard
			if err := s.Shell(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(in, "what must not be lost"); err != nil {
				t.Fatal(err)
			}
			id := f.only(t, kindStart).SessionID
			if forgedSeq > 0 {
				eventually(t, "an object", func() bool { e, err := w.bucket.Extent(t.Context(), id); return err == nil && e.Objects > 0 })
			}
			_ = in.Close()
			if err := s.Wait(); err != nil {
				t.Fatal(err)
			}
			_ = client.Close()
			judgeTrue(t, f, w.quarantined(id))
		})
	}
}

// TestReplacedObjectsLoseNothing: even what the bastion has put itself is compared before its spool
// goes. Here the log has called it complete already, and finds it forged later: the copy is kept.
func TestReplacedObjectsLoseNothing(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	dir := t.TempDir()
	f.onReport = func(r api.Report) error {
		if r.Kind != kindEnd {
			return nil
		}
		return os.WriteFile(filepath.Join(dir, "bucket", r.SessionID, "00000000"), []byte("forged!"), 0o600)
	}
	w := startIn(t, dir, f)
	client := w.direct(t)
	if err := newSession(t, client).Run("true"); err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	end := f.only(t, kindEnd)
	data := w.quarantined(end.SessionID)
	var startD startDetail
	decode(t, f.only(t, kindStart).Details, &startD)
	var endD endDetail
	decode(t, end.Details, &endD)
	if v, err := recording.Verify(bytes.NewReader(data), *startD.Recording, nil, endD.Recording); err != nil || v.Status != recording.StatusComplete {
		t.Errorf("the copy in quarantine is %+v, %v", v, err)
	}
}

// TestForgedBeforeRecovery: the place was taken while the bastion was down.
func TestForgedBeforeRecovery(t *testing.T) {
	dir := t.TempDir()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	killedSpool(t, dir, identity)
	want, err := os.ReadFile(filepath.Join(dir, "data", "spool", killedID+spoolSuffix))
	if err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(dir, "bucket", killedID)
	if err := errors.Join(os.MkdirAll(place, 0o700), os.WriteFile(filepath.Join(place, "00000000"), want[:len(want)-1], 0o600),
		os.WriteFile(filepath.Join(place, "00000001"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	control := newFakeControl(t)
	w := startIn(t, dir, control)
	if got := w.quarantined(killedID); !bytes.Equal(got, want) {
		t.Errorf("%d bytes in quarantine, the spool had %d", len(got), len(want))
	}
	if end := control.only(t, kindEnd); end.ID != killedEnd || !strings.Contains(end.Reason, "set aside") {
		t.Errorf("reported %+v", end)
	}
}
