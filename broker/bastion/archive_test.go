package bastion

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
	"sega/audit/recording/bucket"
	"sega/broker/api"
)

// TestRecordingVerifiesAgainstTheLog takes what the log has of a session, announcement, heads and
// end, and judges the bucket by it.
func TestRecordingVerifiesAgainstTheLog(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f, func(c *Config) { c.HeadsEvery, c.UploadEvery = 20*time.Millisecond, 20*time.Millisecond })
	s := newSession(t, w.direct(t))
	in, _ := s.StdinPipe()
	s.Stdout = io.Discard
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	id := f.only(t, kindStart).SessionID
	sealed := func() (heads []recording.Head) {
		for _, r := range f.find(kindHeads) {
			var d headsDetail
			decode(t, r.Details, &d)
			for _, h := range d.Sessions {
				if h.ID == id && h.Segments > 0 {
					heads = append(heads, recording.Head{Segments: h.Segments, Bytes: h.Bytes, Hash: h.Hash})
				}
			}
		}
		return heads
	}
	eventually(t, "a head in the log", func() bool { return len(sealed()) > 0 })
	eventually(t, "a part in the bucket while the session lives", func() bool {
		e, err := w.bucket.Extent(t.Context(), id)
		return err == nil && e.Bytes >= sealed()[0].Bytes
	})
	_ = in.Close()
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	var startD startDetail
	decode(t, f.only(t, kindStart).Details, &startD)
	var endD endDetail
	decode(t, f.only(t, kindEnd).Details, &endD)
	rc, err := w.bucket.Reader(t.Context(), id, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	v, err := recording.Verify(rc, *startD.Recording, sealed(), endD.Recording)
	if err != nil || v.Status != recording.StatusComplete {
		t.Errorf("verdict %+v, %v", v, err)
	}
	if diff := cmp.Diff([]int64{5, 5, 0}, []int64{endD.In, endD.Out, endD.Err}); diff != "" {
		t.Errorf("bytes (-want +got):\n%s", diff)
	}
}

// brokenStore is a bucket that can be out of order.
type brokenStore struct {
	bucket.Store
	broken atomic.Bool
}

func (s *brokenStore) Put(ctx context.Context, id string, seq int, data *io.SectionReader) error {
	if s.broken.Load() {
		return errors.New("bucket unreachable")
	}
	return s.Store.Put(ctx, id, seq, data)
}

// TestSpoolOutlivesABrokenBucket keeps the spool until the bucket has it, over a restart.
func TestSpoolOutlivesABrokenBucket(t *testing.T) {
	dir := t.TempDir()
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := startIn(t, dir, f, func(c *Config) {
		store := &brokenStore{Store: c.Bucket}
		store.broken.Store(true)
		c.Bucket, c.ShutdownGrace = store, 50*time.Millisecond
	})
	if err := newSession(t, w.direct(t)).Run("true"); err != nil {
		t.Fatal(err)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	id := f.only(t, kindEnd).SessionID
	if _, err := os.Stat(dir + "/data/spool/" + id + spoolSuffix); err != nil {
		t.Fatalf("the spool is gone: %v", err)
	}
	again := startIn(t, dir, f)
	again.identity = w.identity
	if got := events(t, again.frames(id)); len(got) == 0 {
		t.Error("the recording is empty")
	}
	if end := f.only(t, kindEnd); end.Outcome == "unknown" {
		t.Errorf("reported anew: %+v", end)
	}
}

// TestRevocationOfAPersonWhoDoesNotRead has a terminal that takes nothing: it must not hold up the cut.
func TestRevocationOfAPersonWhoDoesNotRead(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", func(ch ssh.Channel, reqs <-chan *ssh.Request) {
		go ssh.DiscardRequests(acceptRequests(reqs))
		for block := make([]byte, 32<<10); ; {
			if _, err := ch.Write(block); err != nil {
				return
			}
		}
	})
	w := start(t, f)
	client := w.direct(t)
	ch, reqs, err := client.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(nameRequest{"flood"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	id := f.only(t, kindStart).SessionID
	size := func() int64 {
		info, err := os.Stat(w.b.spool.path(id))
		if err != nil {
			return 0
		}
		return info.Size()
	}
	eventually(t, "a window that is full", func() bool { return size() > 2<<20 })
	f.set(func() { f.revoked = append(f.revoked, api.Revocation{Index: 1, SessionID: id}) })
	eventually(t, "an acknowledgement", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.acks) == 1 })
	if end := f.only(t, kindEnd); end.Outcome != "revoked" {
		t.Errorf("reported %+v", end)
	}
}

func TestLoginGrace(t *testing.T) {
	w := start(t, newFakeControl(t), func(c *Config) { c.LoginGrace = 50 * time.Millisecond })
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("SSH-2.0-idle\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, c)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("an idle connection is kept")
	}
}

func TestHandshakesAreBounded(t *testing.T) {
	w := start(t, newFakeControl(t), func(c *Config) { c.MaxHandshakes = 1 })
	first, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := first.Read(make([]byte, len(serverVersion)+2)); err != nil {
		t.Fatal(err)
	}
	second, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := second.Read(make([]byte, len(serverVersion))); err != nil {
		t.Errorf("the newest was not answered: %v", err)
	}
	if err := first.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, first)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("two handshakes at a time")
	}
}

// TestBufferedConnKeepsEverythingInOrder writes more than fits, in pieces of every size, to a slow reader.
func TestBufferedConnKeepsEverythingInOrder(t *testing.T) {
	here, there := net.Pipe()
	b := newBufferedConn(here, new(buffers))
	var want bytes.Buffer
	for i := range 2000 {
		want.Write(bytes.Repeat([]byte{byte(i)}, i%1500+1))
	}
	got := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(there)
		got <- all
	}()
	for rest := want.Bytes(); len(rest) > 0; {
		n := min(len(rest), 777)
		if _, err := b.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(<-got, want.Bytes()) {
		t.Error("bytes were lost or moved")
	}
	if _, err := b.Write([]byte("x")); err == nil {
		t.Error("a closed connection takes bytes")
	}
}

func TestBufferedConnAbortsAStuckWriter(t *testing.T) {
	here, there := net.Pipe() // nobody reads
	defer there.Close()
	b := newBufferedConn(here, new(buffers))
	failed := make(chan error, 1)
	go func() {
		for block := make([]byte, 64<<10); ; {
			if _, err := b.Write(block); err != nil {
				failed <- err
				return
			}
		}
	}()
	eventually(t, "a full buffer", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.pending) >= maxPending })
	b.Abort()
	if err := <-failed; !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) { // whichever side is first
		t.Errorf("the writer got %v", err)
	}
}

func TestCommandRequest(t *testing.T) {
	long := strings.Repeat("x", maxCommand+1)
	for name, tc := range map[string]struct {
		event recording.Event
		want  api.ChannelRequest
	}{
		"shell":     {recording.Event{Type: recording.EventShell}, api.ChannelRequest{Channel: 2, Type: "shell"}},
		"subsystem": {recording.Event{Type: recording.EventSubsystem, Name: "sftp"}, api.ChannelRequest{Channel: 2, Type: "subsystem", Command: "sftp"}},
		"bytes":     {recording.Event{Type: recording.EventExec, Command: "a\xff"}, api.ChannelRequest{Channel: 2, Type: "exec", Command: "a\uFFFD", Raw: []byte("a\xff")}},
		"long":      {recording.Event{Type: recording.EventExec, Command: long}, api.ChannelRequest{Channel: 2, Type: "exec", Command: long[1:], Cut: true}},
	} {
		if diff := cmp.Diff(tc.want, commandRequest(2, tc.event)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
