package bastion

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/broker/bastion/sftp"
)

// sftpPacket builds a packet of SFTP: uint32 and uint64 as they are, strings with their length.
func sftpPacket(typ byte, parts ...any) []byte {
	b := []byte{0, 0, 0, 0, typ}
	for _, p := range parts {
		switch v := p.(type) {
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		case uint64:
			b = binary.BigEndian.AppendUint64(b, v)
		case string:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func readSFTP(r io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head))
	_, err := io.ReadFull(r, body)
	return body, err
}

// sftpHost is a host whose SFTP server answers each request by what answer says; nil is no answer.
func (f *fakeControl) sftpHost(t testing.TB, answer func(request []byte) []byte) *goHost {
	return f.newGoHost(t, "web-1", "host-web-1", func(ch ssh.Channel, reqs <-chan *ssh.Request) {
		var wg sync.WaitGroup
		for r := range reqs {
			_ = r.Reply(true, nil)
			if r.Type != "subsystem" {
				continue
			}
			wg.Go(func() {
				defer ch.Close()
				for {
					p, err := readSFTP(ch)
					if err != nil {
						return
					}
					reply := answer(p)
					if p[0] == 1 {
						reply = sftpPacket(2, 3)
					}
					if _, err := ch.Write(reply); err != nil {
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

// sftpClient is a person's program that sends what the test wants.
type sftpClient struct {
	t     testing.TB
	ch    ssh.Channel
	err   *lockedBuffer
	ended chan struct{} // closed when the bastion has closed the channel and all of its words are in err
}

func (w *world) sftpClient(t testing.TB, c *ssh.Client) *sftpClient {
	t.Helper()
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &sftpClient{t: t, ch: ch, err: &lockedBuffer{}, ended: make(chan struct{})}
	go func() {
		defer close(v.ended)
		_, _ = io.Copy(v.err, ch.Stderr())
		ssh.DiscardRequests(reqs)
	}()
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(nameRequest{"sftp"})); !ok || err != nil {
		t.Fatalf("no subsystem: %v", err)
	}
	v.ask(sftpPacket(1, 3))
	return v
}

// wait returns when the channel has ended.
func (v *sftpClient) wait() {
	v.t.Helper()
	select {
	case <-v.ended:
	case <-time.After(patience):
		v.t.Fatalf("the channel lives on; %s", v.err)
	}
}

func (v *sftpClient) send(packets ...[]byte) {
	v.t.Helper()
	if _, err := v.ch.Write(bytes.Join(packets, nil)); err != nil {
		v.t.Fatal(err)
	}
}

func (v *sftpClient) ask(packet []byte) []byte {
	v.t.Helper()
	v.send(packet)
	b, err := readSFTP(v.ch)
	if err != nil {
		v.t.Fatalf("no answer: %v; %s", err, v.err)
	}
	return b
}

func sftpOK(request []byte) []byte {
	return sftpPacket(101, int(binary.BigEndian.Uint32(request[1:])), 0, "", "")
}

// journal is what stands beside the spool of operations on files.
func (w *world) journal() string {
	names, _ := filepath.Glob(filepath.Join(w.dir, "data", "spool", "*"+operationsSuffix))
	if len(names) != 1 {
		return fmt.Sprint(names)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func killedOperations() []api.Report {
	report := func(id, kind, outcome, reason, path string) api.Report {
		return api.Report{ID: id, Time: time.Unix(1_800_000_000, 0).UTC(), Kind: kind, Outcome: outcome, Reason: reason, SessionID: killedID, Details: details(api.FileOperation{Protocol: api.ProtocolSFTP, Path: path})}
	}
	return []api.Report{report("begun", "sftp.remove", "unknown", begunReason, "/a"), report("ended", "sftp.write", "unknown", begunReason, "/b"), report("ended", "sftp.write", "success", "", "/b")}
}

// TestOperationsAfterKill: what had begun when a bastion was killed, and what had ended and was not with
// the broker, reaches the log once, and before the session's end.
func TestOperationsAfterKill(t *testing.T) {
	for name, torn := range map[string]string{"clean end": "", "torn end": `{"id":"torn","kind":"sftp.rem`} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			identity, err := age.GenerateX25519Identity()
			if err != nil {
				t.Fatal(err)
			}
			killedSpool(t, dir, identity)
			journal := filepath.Join(dir, "data", "spool", killedID+operationsSuffix)
			f, err := os.OpenFile(journal, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = io.WriteString(f, torn)
			}
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			control := newFakeControl(t)
			startIn(t, dir, control)
			control.only(t, kindEnd)
			want := killedOperations()
			var got []api.Report
			control.mu.Lock()
			for _, r := range control.reports {
				if r.Kind == kindEnd {
					break
				}
				got = append(got, r)
			}
			control.mu.Unlock()
			if diff := cmp.Diff([]api.Report{want[0], want[2]}, got); diff != "" {
				t.Errorf("before the end (-want +got):\n%s", diff)
			}
			eventually(t, "no journal", func() bool { _, err := os.Stat(journal); return errors.Is(err, os.ErrNotExist) })
		})
	}
}

// TestJournalAlone: a journal that stayed when its session's other files went is found by the next start. What it
// says of its own session is repeated, and the session does not end once more.
func TestJournalAlone(t *testing.T) {
	dir := t.TempDir()
	spool := filepath.Join(dir, "data", "spool")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	want, foreign := killedOperations(), killedOperations()[2]
	foreign.ID, foreign.SessionID = "foreign", "ssh_"+strings.Repeat("a", 22)
	var lines []byte
	for _, r := range append(want, foreign) {
		lines = append(append(lines, details(r)...), '\n')
	}
	writeFile(t, filepath.Join(spool, killedID+operationsSuffix), string(lines))
	control := newFakeControl(t)
	w := startIn(t, dir, control)
	eventually(t, "an empty spool", func() bool { left, err := os.ReadDir(spool); return err == nil && len(left) == 0 })
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]api.Report{want[0], want[2]}, control.reports); diff != "" {
		t.Errorf("reported (-want +got):\n%s", diff)
	}
}

// TestOperationIsKeptBeforeTheHostSeesIt reads the journal at the moment at which the host has a request,
// and at which the person has the answer.
func TestOperationIsKeptBeforeTheHostSeesIt(t *testing.T) {
	f := newFakeControl(t)
	var w *world
	seen := make(chan string, 1)
	f.sftpHost(t, func(request []byte) []byte {
		if request[0] == 13 {
			seen <- w.journal()
		}
		return sftpOK(request)
	})
	f.set(func() {
		f.onReport = func(r api.Report) error {
			if strings.HasPrefix(r.Kind, "sftp.") {
				return errors.New("the broker is away")
			}
			return nil
		}
	})
	w = start(t, f)
	c := w.sftpClient(t, w.direct(t))
	c.ask(sftpPacket(13, 7, "/etc/shadow"))
	if at := <-seen; !strings.Contains(at, `"path":"/etc/shadow"`) || !strings.Contains(at, begunReason) {
		t.Errorf("when the host sees it the journal has %q", at)
	}
	if at := w.journal(); !strings.Contains(at, `"outcome":"success"`) {
		t.Errorf("when the person has the answer the journal has %q", at)
	}
	f.set(func() { f.onReport = nil })
	_ = c.ch.CloseWrite()
	f.only(t, "sftp.remove")
}

// TestTooManyWait: while the broker takes nothing an SFTP channel stands still, in bounded memory and
// journal, and goes on when the broker is back.
func TestTooManyWait(t *testing.T) {
	f := newFakeControl(t)
	f.sftpHost(t, sftpOK)
	away := true
	f.set(func() {
		f.onReport = func(r api.Report) error {
			if away && strings.HasPrefix(r.Kind, "sftp.") {
				return errors.New("the broker is away")
			}
			return nil
		}
	})
	w := start(t, f)
	c := w.sftpClient(t, w.direct(t))
	const n = 3000
	answered := make(chan int, n)
	go func() {
		defer close(answered)
		for i := range n {
			if _, err := readSFTP(c.ch); err != nil {
				return
			}
			answered <- i
		}
	}()
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			if _, err := c.ch.Write(sftpPacket(13, i, "/a")); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	waiting := func() int { return strings.Count(w.journal(), `"outcome":"success"`) }
	eventually(t, "a channel that stands still", func() bool { return waiting() > maxOperations })
	if got := waiting(); got > maxOperations+largeBuffer/13 {
		t.Errorf("%d operations wait", got)
	}
	if got := len(answered); got > maxOperations+1 {
		t.Errorf("%d requests are answered", got)
	}
	f.set(func() { away = false })
	for i := range n {
		select {
		case _, ok := <-answered:
			if !ok {
				t.Fatalf("%d answers", i)
			}
		case <-time.After(patience):
			t.Fatalf("%d answers", i)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	_ = c.ch.CloseWrite()
	c.wait()
	eventually(t, "each operation once", func() bool { return len(f.find("sftp.remove")) == n })
}

// TestNoJournalNoOperation: where an operation cannot be kept, the session ends before the host sees it.
func TestNoJournalNoOperation(t *testing.T) {
	f := newFakeControl(t)
	seen := make(chan byte, 16)
	f.sftpHost(t, func(request []byte) []byte {
		seen <- request[0]
		return sftpOK(request)
	})
	files := 0
	w := start(t, f, func(c *Config) {
		c.Spool = func(s SpoolFile) SpoolFile {
			if files++; files == 1 { // of the recording
				return s
			}
			return fullDisk{s}
		}
	})
	c := w.sftpClient(t, w.direct(t))
	c.send(sftpPacket(13, 7, "/etc/shadow"))
	end := f.only(t, kindEnd)
	if end.Outcome != "failure" || end.Reason != recordingFailed().reason {
		t.Errorf("the end is %q, %q", end.Outcome, end.Reason)
	}
	for len(seen) > 0 {
		if typ := <-seen; typ != 1 {
			t.Errorf("the host saw a request of type %d", typ)
		}
	}
}

// fullDisk takes nothing.
type fullDisk struct{ SpoolFile }

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestRefusedOperation: an operation that the broker does not take for good is set aside, and holds up
// none behind it.
func TestRefusedOperation(t *testing.T) {
	f := newFakeControl(t)
	f.sftpHost(t, sftpOK)
	f.set(func() {
		f.onReport = func(r api.Report) error {
			if strings.Contains(string(r.Details), "/bad") {
				return api.Errorf(api.KindInvalid, "no")
			}
			return nil
		}
	})
	w := start(t, f)
	c := w.sftpClient(t, w.direct(t))
	for i, path := range []string{"/a", "/bad", "/b"} {
		c.ask(sftpPacket(13, i, path))
	}
	eventually(t, "the others", func() bool { return len(f.find("sftp.remove")) == 2 })
	eventually(t, "one set aside", func() bool {
		names, _ := filepath.Glob(filepath.Join(w.dir, "data", quarantineDir, "*.json"))
		return len(names) == 1
	})
}

func TestJournalIsWrittenAnew(t *testing.T) {
	s, err := openSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	o := newOperations(&Bastion{spool: s, cfg: Config{Log: discardLog(), Control: newFakeControl(t)}}, killedID)
	for i := range 200 {
		r := killedOperations()
		for j := range r {
			r[j].ID += fmt.Sprint(i)
			r[j].Details = details(api.FileOperation{Path: strings.Repeat("x", 1000)})
		}
		if err := errors.Join(o.put(r[1:]), o.flush(t.Context())); err != nil {
			t.Fatal(err)
		}
		if i == 100 {
			if err := o.put(r[:1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	raw, err := s.root.ReadFile(killedID + operationsSuffix)
	if err != nil || len(raw) > 2*keepOperations || len(raw) != o.size {
		t.Errorf("the journal has %d bytes, and should have %d: %v", len(raw), o.size, err)
	}
	if !strings.Contains(string(raw), `"begun100"`) {
		t.Error("what has not ended is not in it")
	}
}

// counting is a broker that looks at the size of what it is sent.
type counting struct {
	*fakeControl
	most, all int
}

func (c *counting) Report(_ context.Context, reports []api.Report) error {
	c.all, c.most = c.all+len(reports), max(c.most, len(details(reports)))
	return nil
}

// TestBatchesFitARequest: long paths come in smaller batches, so that the broker does not refuse them.
func TestBatchesFitARequest(t *testing.T) {
	s, err := openSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	c := &counting{fakeControl: newFakeControl(t)}
	o := newOperations(&Bastion{spool: s, cfg: Config{Log: discardLog(), Control: c}}, killedID)
	odd := strings.Repeat("\xff", 4096)
	for i := range 200 {
		r := killedOperations()[2]
		r.ID += fmt.Sprint(i)
		path, raw := utf8Path(odd)
		r.Details = details(api.FileOperation{Protocol: api.ProtocolSFTP, Path: path, Raw: raw, To: path, ToBytes: &api.RawBytes{Raw: raw}})
		if err := o.put([]api.Report{r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.all != 200 || c.most > 512<<10 {
		t.Errorf("%d operations came, the largest request has %d bytes", c.all, c.most)
	}
}

// TestExtensionsAreShort: however somebody names an extension, the broker takes the report of it.
func TestExtensionsAreShort(t *testing.T) {
	for _, name := range []string{"copy-data", strings.Repeat("\x01", 64), strings.Repeat("\xff\n", 32), strings.Repeat("ẞ", 21), ""} {
		if got := fileOperation(1, api.ProtocolSFTP, sftp.Operation{Name: name}).Extension; len(got) > 64 || !utf8.ValidString(got) || name == "copy-data" && got != name {
			t.Errorf("%q is told as %q", name, got)
		}
	}
}
