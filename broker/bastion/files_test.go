package bastion

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
	"sega/broker/api"
)

func sha(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// onFile is what the log says of an operation, as far as a test compares it.
type onFile struct {
	Kind, Outcome, Reason, Path, To string
	Read, Written                   *api.FileTransfer
}

// filesOf lists operations in the order in which they began; those that only looked are left out.
func (f *fakeControl) filesOf(t testing.TB, session string) (ops []onFile) {
	t.Helper()
	type numbered struct {
		onFile
		api.FileOperation
	}
	var all []numbered
	f.mu.Lock()
	reports := slices.Clone(f.reports)
	f.mu.Unlock()
	for _, r := range reports {
		if r.SessionID != session || !strings.HasPrefix(r.Kind, "sftp.") || r.Kind == "sftp.stat" {
			continue
		}
		var d api.FileOperation
		decode(t, r.Details, &d)
		all = append(all, numbered{onFile{r.Kind, r.Outcome, r.Reason, d.Path, d.To, d.Read, d.Written}, d})
	}
	slices.SortFunc(all, func(a, b numbered) int {
		return cmp.Or(cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.Number, b.Number))
	})
	for _, v := range all {
		ops = append(ops, v.onFile)
	}
	return ops
}

// whole is a transfer of a file from its beginning to its end.
func whole(b []byte) *api.FileTransfer { return partOf(b, 0) }

// partOf is a transfer of a file from an offset to its end.
func partOf(b []byte, from int) *api.FileTransfer {
	return &api.FileTransfer{Bytes: int64(len(b) - from), Runs: []api.FileRun{{Offset: uint64(from), Bytes: int64(len(b) - from), SHA256: sha(b[from:])}}}
}

// copier runs OpenSSH's sftp and scp through the bastion, with a folder that both ends share.
type copier struct {
	*openssh
	w       *world
	dir     string
	content []byte
}

func (w *world) copier(t testing.TB) *copier {
	t.Helper()
	c := &copier{openssh: w.openssh(t, w.control.credential(t)), w: w, dir: t.TempDir()}
	for i := range 20_000 {
		c.content = append(c.content, sha([]byte{byte(i), byte(i >> 8)})[:63]...)
		c.content = append(c.content, 0xff)
	}
	writeFile(t, filepath.Join(c.dir, "local"), string(c.content))
	return c
}

// ends waits for the end of the only session since the last call, and returns its report.
func (c *copier) ends(t testing.TB, n int) api.Report {
	t.Helper()
	var ends []api.Report
	eventually(t, "the end of a session", func() bool { ends = c.w.control.find(kindEnd); return len(ends) == n })
	return ends[n-1]
}

func (c *copier) run(t testing.TB, tool, stdin string, args ...string) (string, error) {
	t.Helper()
	limit := 2 * patience
	if os.Getenv("SEGA_SOAK") != "" {
		limit = 20 * patience
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, requireTool(t, tool), append([]string{"-F", filepath.Join(c.openssh.dir, "config")}, args...)...)
	cmd.Stdin, cmd.WaitDelay = strings.NewReader(strings.ReplaceAll(stdin, "{}", c.dir)), time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *copier) same(t testing.TB, name string) {
	t.Helper()
	if got, err := os.ReadFile(filepath.Join(c.dir, name)); err != nil || !bytes.Equal(got, c.content) {
		t.Errorf("%s: %v, %d bytes", name, err, len(got))
	}
}

// TestFilesAreEvents: what OpenSSH's tools do to files of both of its servers is in the log, with the
// digests of the files, and in the recording byte for byte.
func TestFilesAreEvents(t *testing.T) {
	for _, server := range []string{"internal-sftp", "/usr/lib/openssh/sftp-server"} {
		t.Run(filepath.Base(server), func(t *testing.T) {
			f := newFakeControl(t)
			f.startSSHD(t, "web-1", "host-web-1", server)
			w := start(t, f)
			c := w.copier(t)
			host := currentLogin(t) + "+web-1@bastion"
			half := len(c.content) / 2
			must := func(out string, err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			sessions := 0
			check := func(name string, want ...onFile) {
				t.Helper()
				sessions++
				end := c.ends(t, sessions)
				for i := range want {
					want[i].Kind, want[i].Outcome = "sftp."+want[i].Kind, cmp.Or(want[i].Outcome, "success")
					want[i].Path = strings.ReplaceAll(want[i].Path, "{}", c.dir)
					want[i].To = strings.ReplaceAll(want[i].To, "{}", c.dir)
				}
				if diff := gocmp.Diff(want, f.filesOf(t, end.SessionID)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			must(c.run(t, "sftp", "put {}/local {}/put\nget {}/put {}/got\n", "-q", "-b", "-", host))
			check("put and get", onFile{Kind: "write", Path: "{}/put", Written: whole(c.content)}, onFile{Kind: "read", Path: "{}/put", Read: whole(c.content)})
			c.same(t, "put")
			c.same(t, "got")
			frames := w.frames(c.ends(t, 1).SessionID)
			for _, s := range []recording.Stream{recording.StreamIn, recording.StreamOut} {
				if !strings.Contains(unframed(stream(frames, s)), string(c.content[:1<<20])) {
					t.Errorf("the recording of %s lacks the file", s)
				}
			}

			if server != "internal-sftp" {
				return // they differ in how they begin
			}
			must(c.run(t, "scp", "", "-q", filepath.Join(c.dir, "local"), host+":"+c.dir+"/scp"))
			check("scp there", onFile{Kind: "write", Path: "{}/scp", Written: whole(c.content)}, onFile{Kind: "setstat", Path: "{}/scp"})
			must(c.run(t, "scp", "", "-q", host+":"+c.dir+"/scp", filepath.Join(c.dir, "scp-got")))
			check("scp back", onFile{Kind: "read", Path: "{}/scp", Read: whole(c.content)})
			c.same(t, "scp-got")

			// More requests under way than the bastion lets through at once.
			must(c.run(t, "sftp", "put {}/local {}/put\nget {}/put {}/got\n", "-q", "-R", "4000", "-B", "500", "-b", "-", host))
			check("pipelined", onFile{Kind: "write", Path: "{}/put", Written: whole(c.content)}, onFile{Kind: "read", Path: "{}/put", Read: whole(c.content)})

			writeFile(t, filepath.Join(c.dir, "part"), string(c.content[:half]))
			writeFile(t, filepath.Join(c.dir, "half"), string(c.content[:half]))
			must(c.run(t, "sftp", "reput {}/local {}/part\nreget {}/local {}/half\nrm {}/part\n-rm {}/nothing\nmkdir {}/dir\nrename {}/half {}/dir/half\n", "-q", "-b", "-", host))
			check("resumed", onFile{Kind: "write", Path: "{}/part", Written: partOf(c.content, half)}, onFile{Kind: "read", Path: "{}/local", Read: partOf(c.content, half)},
				onFile{Kind: "remove", Path: "{}/part"}, onFile{Kind: "remove", Path: "{}/nothing", Outcome: "failure", Reason: "no such file"},
				onFile{Kind: "mkdir", Path: "{}/dir"}, onFile{Kind: "rename", Path: "{}/half", To: "{}/dir/half"})

			must(c.run(t, "scp", "", "-q", "-r", filepath.Join(c.dir, "dir"), host+":"+c.dir+"/copy"))
			check("a folder", onFile{Kind: "mkdir", Path: "{}/copy"}, onFile{Kind: "write", Path: "{}/copy/half", Written: whole(c.content)},
				onFile{Kind: "setstat", Path: "{}/copy/half"}, onFile{Kind: "setstat", Path: "{}/copy"})
		})
	}
}

// unframed is a stream without the heads of SFTP's packets of data: those of OpenSSH's writes and of data.
func unframed(s string) string {
	var out strings.Builder
	for len(s) >= 5 {
		n := int(s[0])<<24 | int(s[1])<<16 | int(s[2])<<8 | int(s[3])
		p := s[4:min(len(s), 4+n)]
		switch {
		case p[0] == 103 && len(p) > 9:
			out.WriteString(p[9:])
		case p[0] == 6 && len(p) > 25:
			out.WriteString(p[5+4+4+8+4:])
		}
		s = s[4+len(p):]
	}
	return out.String()
}

// TestContentLeftOut: where policy says so the recording has all but the bytes of files, and says itself
// that it is not complete; the log has their digests.
func TestContentLeftOut(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	f.set(func() {
		f.onChannel = func(r api.ChannelRequest) (api.ChannelGrant, error) {
			return api.ChannelGrant{Allow: true, OmitContent: r.Command == api.SubsystemSFTP}, nil
		}
	})
	w := start(t, f)
	c := w.copier(t)
	if out, err := c.run(t, "sftp", "put {}/local {}/put\nget {}/put {}/got\n", "-q", "-b", "-", currentLogin(t)+"+web-1@bastion"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.same(t, "got")
	end := c.ends(t, 1)
	want := []onFile{{Kind: "sftp.write", Outcome: "success", Path: c.dir + "/put", Written: whole(c.content)}, {Kind: "sftp.read", Outcome: "success", Path: c.dir + "/put", Read: whole(c.content)}}
	if diff := gocmp.Diff(want, f.filesOf(t, end.SessionID)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	frames, left := w.frames(end.SessionID), map[recording.Stream]uint64{}
	for _, fr := range frames {
		left[fr.Stream] += fr.Omitted
		for i := 0; i+64 < len(c.content); i += 64 {
			if i%6400 == 0 && bytes.Contains(fr.Data, c.content[i:i+64]) {
				t.Fatalf("%s holds bytes of the file", fr.Stream)
			}
		}
	}
	n := uint64(len(c.content))
	if diff := gocmp.Diff(map[recording.Stream]uint64{recording.StreamIn: n, recording.StreamOut: n, recording.StreamErr: 0, recording.StreamEvent: 0}, left, ignoreZero); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if text := stream(frames, recording.StreamIn); !strings.Contains(text, c.dir+"/put") {
		t.Error("the recording lacks the path")
	}
	var started startDetail
	var ended endDetail
	decode(t, f.only(t, kindStart).Details, &started)
	decode(t, end.Details, &ended)
	rc, err := w.bucket.Reader(context.Background(), end.SessionID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	v, err := recording.Verify(rc, *started.Recording, nil, ended.Recording)
	if err != nil || v.Status != recording.StatusOmitted || ended.Recording.Verdict != recording.StatusOmitted {
		t.Errorf("judged %+v, %v; the log says %q", v, err, ended.Recording.Verdict)
	}
}

var ignoreZero = gocmp.FilterValues(func(a, b map[recording.Stream]uint64) bool { return true }, gocmp.Transformer("nonzero", func(m map[recording.Stream]uint64) [5]uint64 {
	var out [5]uint64
	for s, n := range m {
		out[s] = n
	}
	return out
}))

// TestHostileSFTP: a host that does not speak SFTP ends the channel, not the session; the person reads
// why, and the log says so.
func TestHostileSFTP(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", func(ch ssh.Channel, reqs <-chan *ssh.Request) {
		for r := range reqs {
			_ = r.Reply(true, nil)
			if r.Type == "subsystem" {
				_, _ = ch.Write([]byte("Welcome to web-1\n"))
			}
		}
		_ = ch.Close()
	})
	w := start(t, f)
	c := w.copier(t)
	out, err := c.run(t, "sftp", "ls\n", "-b", "-", currentLogin(t)+"+web-1@bastion")
	if err == nil || !strings.Contains(out, "sega: the channel was ended: sftp: the host said its version without being asked") &&
		!strings.Contains(out, "sega: the channel was ended: sftp: the host sent a packet of 1466264675 bytes") {
		t.Errorf("%v: %s", err, out)
	}
	end := c.ends(t, 1)
	got := f.filesOf(t, end.SessionID)
	if len(got) != 1 || got[0].Kind != "sftp.refuse" || got[0].Outcome != "failure" || !strings.HasPrefix(got[0].Reason, "sftp: the host ") {
		t.Errorf("the log says %+v", got)
	}
	if text := stream(w.frames(end.SessionID), recording.StreamOut); text != "Welcome to web-1\n" {
		t.Errorf("the recording has %q", text)
	}
}

// TestReadOnlySFTP: where policy says so OpenSSH's tools read and list, and change nothing; each attempt
// is in the log.
func TestReadOnlySFTP(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	f.set(func() {
		f.onChannel = func(api.ChannelRequest) (api.ChannelGrant, error) {
			return api.ChannelGrant{Allow: true, ReadOnly: true}, nil
		}
	})
	w := start(t, f)
	c := w.copier(t)
	out, err := c.run(t, "sftp", "-put {}/local {}/put\n-rm {}/local\n-mkdir {}/dir\n-rename {}/local {}/other\n-chmod 777 {}/local\n-ln -s {}/local {}/link\nls {}\nget {}/local {}/got\n", "-q", "-b", "-", currentLogin(t)+"+web-1@bastion")
	if err != nil || strings.Count(out, "Permission denied") < 5 {
		t.Fatalf("%v: %s", err, out)
	}
	c.same(t, "local")
	c.same(t, "got")
	names, err := os.ReadDir(c.dir)
	if err != nil || len(names) != 2 {
		t.Errorf("the folder has %v, %v", names, err)
	}
	const no = "policy lets files only be read here"
	want := []onFile{{Kind: "write", Path: "/put"}, {Kind: "remove", Path: "/local"}, {Kind: "mkdir", Path: "/dir"}, {Kind: "rename", Path: "/local", To: "/other"},
		{Kind: "setstat", Path: "/local"}, {Kind: "symlink", Path: "/link", To: "/local"}}
	for i := range want {
		want[i].Kind, want[i].Outcome, want[i].Reason, want[i].Path = "sftp."+want[i].Kind, "denied", no, c.dir+want[i].Path
		if want[i].To != "" {
			want[i].To = c.dir + want[i].To
		}
	}
	want = append(want, onFile{Kind: "sftp.list", Outcome: "success", Path: c.dir + "/"}, onFile{Kind: "sftp.read", Outcome: "success", Path: c.dir + "/local", Read: whole(c.content)})
	if diff := gocmp.Diff(want, f.filesOf(t, c.ends(t, 1).SessionID)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDeniedSFTP: the person reads why.
func TestDeniedSFTP(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	f.set(func() {
		f.onChannel = func(r api.ChannelRequest) (api.ChannelGrant, error) {
			return api.ChannelGrant{Allow: r.Command != api.SubsystemSFTP, Reason: "files go by the pipeline"}, nil
		}
	})
	w := start(t, f)
	c := w.copier(t)
	for _, tool := range [][]string{{"sftp", "-b", "-"}, {"scp", filepath.Join(c.dir, "local")}} {
		args := append(tool[1:], currentLogin(t)+"+web-1@bastion"+map[string]string{"scp": ":" + c.dir + "/there"}[tool[0]])
		if out, err := c.run(t, tool[0], "ls\n", args...); err == nil || !strings.Contains(out, "files go by the pipeline") {
			t.Errorf("%s: %v: %s", tool[0], err, out)
		}
	}
	if _, err := os.Stat(filepath.Join(c.dir, "there")); err == nil {
		t.Error("the file was copied")
	}
}

// TestCustomClient: what no tool of OpenSSH's does, against its server: holes, bytes that go over twice,
// a client that breaks the protocol while another channel of its session lives on.
func TestCustomClient(t *testing.T) {
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	conn, path := w.direct(t), filepath.Join(t.TempDir(), "sparse")
	c := w.sftpClient(t, conn)
	handle := string(c.ask(sftpPacket(3, 1, path, 0x02|0x08, 0))[9:])
	write := func(id int, at uint64, text string) { c.ask(sftpPacket(6, id, handle, at, text)) }
	write(2, 0, "begin")
	write(3, 1<<30, "far")
	write(4, 5, "begun")
	write(5, 2, "GIN")
	c.ask(sftpPacket(4, 6, handle))
	run := func(at uint64, text string) api.FileRun {
		return api.FileRun{Offset: at, Bytes: int64(len(text)), SHA256: sha([]byte(text))}
	}
	second := w.sftpClient(t, conn)
	second.send([]byte("GET / HTTP/1.1\r\n\r\n"))
	second.wait()
	if !strings.Contains(second.err.String(), "sega: the channel was ended: sftp: the client sent a packet of 1195725856 bytes") {
		t.Errorf("the person reads %q", second.err)
	}
	c.ask(sftpPacket(13, 7, path))
	_ = c.ch.CloseWrite()
	c.wait()
	_ = conn.Close()
	end := f.only(t, kindEnd)
	want := []onFile{
		{Kind: "sftp.write", Outcome: "success", Path: path, Written: &api.FileTransfer{Bytes: 16, Runs: []api.FileRun{run(0, "beginbegun"), run(2, "GIN"), run(1<<30, "far")}}},
		{Kind: "sftp.remove", Outcome: "success", Path: path},
		{Kind: "sftp.refuse", Outcome: "failure", Reason: "sftp: the client sent a packet of 1195725856 bytes"},
	}
	if diff := gocmp.Diff(want, f.filesOf(t, end.SessionID)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := stream(w.frames(end.SessionID), recording.StreamIn); !strings.Contains(got, "GET / HTTP/1.1\r\n\r\n") {
		t.Error("what broke the protocol is not in the recording")
	}
}

// TestLargeFile: what a channel holds does not grow with what goes through it. SEGA_SOAK=1 makes it 1 GiB.
func TestLargeFile(t *testing.T) {
	size := 24 << 20
	if os.Getenv("SEGA_SOAK") != "" {
		size = 1 << 30
	}
	f := newFakeControl(t)
	f.startSSHD(t, "web-1", "host-web-1")
	w := start(t, f)
	c := w.copier(t)
	large, err := os.Create(filepath.Join(c.dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	for n := 0; n < size; n += len(c.content) {
		if _, err := io.MultiWriter(large, h).Write(c.content[:min(len(c.content), size-n)]); err != nil {
			t.Fatal(err)
		}
	}
	if err := large.Close(); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	most, done, sampled := uint64(0), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sampled)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapAlloc)
			}
		}
	}()
	began := time.Now()
	out, err := c.run(t, "sftp", "put {}/large {}/put\nget {}/put {}/got\n", "-q", "-b", "-", currentLogin(t)+"+web-1@bastion")
	close(done)
	<-sampled
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("2 × %d MiB in %s, heap from %d to %d KiB", size>>20, time.Since(began).Round(time.Millisecond), before.HeapAlloc>>10, most>>10)
	if grown := int64(most) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	for _, op := range f.filesOf(t, c.ends(t, 1).SessionID) {
		transfer := cmp.Or(op.Read, op.Written)
		if len(transfer.Runs) != 1 || transfer.Bytes != int64(size) || transfer.Runs[0].SHA256 != hex.EncodeToString(h.Sum(nil)) {
			t.Errorf("%s: %+v", op.Kind, transfer)
		}
	}
}
