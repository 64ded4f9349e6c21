package sftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// teeEnv makes the test's own program an SFTP server, which is OpenSSH's with a transcript of both
// streams: `sftp -D` starts it.
const teeEnv = "SEGA_TEST_SFTP_TRANSCRIPT"

var update = flag.Bool("update", false, "write new transcripts of real sessions")

func TestMain(m *testing.M) {
	if path := os.Getenv(teeEnv); path != "" {
		if err := tee(path); err != nil {
			panic(err)
		}
		return
	}
	flag.Parse()
	os.Exit(m.Run())
}

// transcript is chunks of both directions in the order in which they came: for each a byte, 0 for the
// client's and 1 for the host's, two bytes of length, and the bytes.
type transcript struct {
	mu sync.Mutex
	b  []byte
}

func (s *transcript) add(side byte, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = append(s.b, side)
	s.b = binary.BigEndian.AppendUint16(s.b, uint16(len(b)))
	s.b = append(s.b, b...)
}

// each calls do with every chunk; what is not whole at the end is a shorter one.
func each(b []byte, do func(side byte, chunk []byte)) {
	for len(b) >= 3 {
		n := min(int(binary.BigEndian.Uint16(b[1:])), len(b)-3)
		do(b[0]&1, b[3:3+n])
		b = b[3+n:]
	}
}

// tee copies until the client is done. A chunk is in the transcript before it goes on, so that no
// answer stands before its request.
func tee(path string) error {
	cmd := exec.Command("/usr/lib/openssh/sftp-server")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var s transcript
	copyAll := func(side byte, from io.Reader, to io.Writer) {
		buf := make([]byte, 8<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				s.add(side, buf[:n])
				_, _ = to.Write(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}
	go func() { copyAll(0, os.Stdin, in); _ = in.Close() }()
	copyAll(1, out, os.Stdout)
	return errors.Join(cmd.Wait(), os.WriteFile(path, s.b, 0o600))
}

// sessions are what people do; {} is a folder.
var sessions = map[string]string{
	"put":    "put -p {}/local {}/new\nchmod 600 {}/new\nln -s new {}/link\nln {}/new {}/hard\n",
	"get":    "get {}/local {}/back\nls -l {}\ndf {}\nreput {}/local {}/part\nreget {}/local {}/half\n",
	"change": "mkdir {}/d\nrename {}/old {}/d/old\nrm {}/d/old\nrmdir {}/d\n-rm {}/nothing\n-get {}/nothing\ncopy {}/local {}/copy\n",
}

// TestRealSessions follows OpenSSH's client and server.
func TestRealSessions(t *testing.T) {
	sftp, err := exec.LookPath("sftp")
	if err == nil {
		_, err = os.Stat("/usr/lib/openssh/sftp-server")
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("needs OpenSSH's sftp and sftp-server: ", err)
	}
	local := text(3000)
	digest := sum(local)
	for name, want := range map[string][]Operation{
		"put": {
			{Kind: Setstat, Outcome: Success, Path: "{}/new"}, // times, before it is closed
			{Kind: Write, Outcome: Success, Path: "{}/new", Written: &Transfer{Bytes: 3000, Runs: []Run{{0, 3000, digest}}}},
			{Kind: Setstat, Outcome: Success, Path: "{}/new"},
			{Kind: Symlink, Outcome: Success, Path: "{}/link", To: "new"}, {Kind: Link, Outcome: Success, Path: "{}/hard", To: "{}/new"},
		},
		"get": {
			{Kind: Read, Outcome: Success, Path: "{}/local", Read: &Transfer{Bytes: 3000, Runs: []Run{{0, 3000, digest}}}},
			{Kind: List, Outcome: Success, Path: "{}/"},
			{Kind: Write, Outcome: Success, Path: "{}/part", Written: &Transfer{Bytes: 2000, Runs: []Run{{1000, 2000, sum(local[1000:])}}}},
			{Kind: Read, Outcome: Success, Path: "{}/local", Read: &Transfer{Bytes: 1500, Runs: []Run{{1500, 1500, sum(local[1500:])}}}},
		},
		"change": {
			{Kind: Mkdir, Outcome: Success, Path: "{}/d"}, {Kind: Rename, Outcome: Success, Path: "{}/old", To: "{}/d/old"},
			{Kind: Remove, Outcome: Success, Path: "{}/d/old"}, {Kind: Rmdir, Outcome: Success, Path: "{}/d"},
			{Kind: Remove, Outcome: Failure, Reason: "no such file", Path: "{}/nothing"},
			{Kind: Copy, Outcome: Success, Path: "{}/local", To: "{}/copy", Range: &Range{}},
			{Kind: Read, Outcome: Success, Path: "{}/local"}, {Kind: Write, Outcome: Success, Path: "{}/copy", Written: &Transfer{Runs: []Run{{SHA256: sum(nil)}}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, b := range map[string][]byte{"local": local, "old": local, "part": local[:1000], "half": local[:1500]} {
				if err := os.WriteFile(filepath.Join(dir, file), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			record := filepath.Join(t.TempDir(), "transcript")
			cmd := exec.Command(sftp, "-q", "-B", "700", "-D", self, "-b", "-")
			cmd.Dir, cmd.Env = "/", append(os.Environ(), teeEnv+"="+record)
			cmd.Stdin = bytes.NewReader(bytes.ReplaceAll([]byte(sessions[name]), []byte("{}"), []byte(dir)))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			all, err := os.ReadFile(record)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(filepath.Join("testdata", "sessions", name), all, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got := followed(t, all, dir)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// followed is what an observer says of a transcript that fits, without what is not of interest.
func followed(t *testing.T, all []byte, dir string) (ops []Operation) {
	t.Helper()
	w := &world{t: t, o: New(Config{Content: true})}
	var came [2][]byte
	each(all, func(side byte, chunk []byte) {
		came[side] = append(came[side], chunk...)
		[]func(...[]byte){w.client, w.host}[side](chunk)
	})
	w.end()
	if w.err != nil {
		t.Fatal(w.err)
	}
	if !bytes.Equal(came[0], w.toHost) || !bytes.Equal(came[1], w.toPerson) || !bytes.Equal(came[0], w.recorded[0]) || !bytes.Equal(came[1], w.recorded[1]) {
		t.Error("other bytes went on, or into the recording, than came")
	}
	for _, op := range w.ended() {
		if op.Kind == Stat {
			continue
		}
		op.Number, op.Flags, op.Attrs, op.Entries = 0, "", nil, 0
		for _, path := range []*string{&op.Path, &op.To} {
			*path = string(bytes.ReplaceAll([]byte(*path), []byte(dir), []byte("{}")))
		}
		ops = append(ops, op)
	}
	return ops
}
