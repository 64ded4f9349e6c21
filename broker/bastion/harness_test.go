package bastion

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
	"sega/audit/recording/bucket"
	"sega/broker/api"
	"sega/cmd/segad/dev/freeport"
	"sega/sshca"
	"sega/sshca/sshtest"
)

const (
	bastionName = "bastion.test"
	person      = "ada@corp.test"
	issuer      = "https://idp.test"
	subjectID   = "00u-ada"
	loginID     = "ses_abcdefghijkmnpqr2345"
	patience    = 40 * time.Second
)

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	return sshtest.Signer(t)
}

// eventually waits for a condition; it is polled because it lies outside of this process or of the test's reach.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// only waits for exactly one report of a kind.
func (f *fakeControl) only(t testing.TB, kind string) api.Report {
	t.Helper()
	eventually(t, "one "+kind, func() bool { return len(f.find(kind)) > 0 })
	got := f.find(kind)
	if len(got) != 1 {
		t.Fatalf("%d reports of %s, want one: %+v", len(got), kind, got)
	}
	return got[0]
}

// world is a running bastion with its fake broker, its bucket and its recipients.
type world struct {
	t        testing.TB
	control  *fakeControl
	b        *Bastion
	dir      string
	bucket   readable
	identity *age.X25519Identity
	addr     string
	stop     func() error
}

// readable is a bucket that a test can read, too.
type readable interface {
	bucket.Store
	Reader(ctx context.Context, sessionID string, from int64) (io.ReadCloser, error)
}

func testConfig(t testing.TB, dir string, f *fakeControl) (Config, *bucket.Dir, *age.X25519Identity) {
	t.Helper()
	reviewer, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	recovery, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "bucket"), 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := bucket.OpenDir(filepath.Join(dir, "bucket"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return Config{Name: bastionName, Listener: l, Control: f, DataDir: filepath.Join(dir, "data"), Bucket: store,
		Recipients: []age.Recipient{reviewer.Recipient(), recovery.Recipient()}, RecipientNames: []string{"reviewer", "recovery"},
		Log: slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))}, store, reviewer
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// start runs a bastion; change may adapt its configuration.
func start(t testing.TB, f *fakeControl, change ...func(*Config)) *world {
	t.Helper()
	return startIn(t, t.TempDir(), f, change...)
}

func startIn(t testing.TB, dir string, f *fakeControl, change ...func(*Config)) *world {
	t.Helper()
	cfg, store, identity := testConfig(t, dir, f)
	for _, c := range change {
		c(&cfg)
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	var kept readable = store
	if r, ok := cfg.Bucket.(readable); ok {
		kept = r
	}
	w := &world{t: t, control: f, b: b, dir: dir, bucket: kept, identity: identity, addr: cfg.Listener.Addr().String()}
	w.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	eventually(t, "a feed that is connected", func() bool { return b.feed.open() == nil })
	return w
}

// frames plays a session's recording from the bucket, once it is there, and verifies it on the way.
func (w *world) frames(id string) []recording.Frame {
	w.t.Helper()
	eventually(w.t, "an empty spool", func() bool {
		ids, err := w.b.spool.sessions()
		return err == nil && len(ids) == 0
	})
	rc, err := w.bucket.Reader(context.Background(), id, 0)
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
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, f)
	}
}

// stream joins the bytes of one stream of a recording.
func stream(frames []recording.Frame, s recording.Stream) string {
	var b strings.Builder
	for _, f := range frames {
		if f.Stream == s {
			b.Write(f.Data)
		}
	}
	return b.String()
}

func events(t testing.TB, frames []recording.Frame) []recording.Event {
	t.Helper()
	var out []recording.Event
	for _, f := range frames {
		if f.Stream != recording.StreamEvent {
			continue
		}
		e, err := f.Event()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// credential is a person's key with an access certificate.
type credential struct {
	key    ed25519.PrivateKey
	signer ssh.Signer
	cert   *ssh.Certificate
}

func (f *fakeControl) credential(t testing.TB) credential {
	t.Helper()
	return f.credentialOf(t, sshca.KeyID{Session: loginID, Person: person})
}

func (f *fakeControl) credentialOf(t testing.TB, id sshca.KeyID) credential {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	after, before := sshca.Access.Window(time.Now(), sshca.AccessLifetime)
	cert, err := sshca.NewAccess(sshca.AccessParams{Key: plain.PublicKey(), Serial: f.access.next(t),
		KeyID: id, ValidAfter: after, ValidBefore: before})
	f.access.sign(t, cert, err)
	signer, err := ssh.NewCertSigner(cert, plain)
	if err != nil {
		t.Fatal(err)
	}
	return credential{key: key, signer: signer, cert: cert}
}

func requireTool(t testing.TB, path string) string {
	t.Helper()
	found, err := exec.LookPath(path)
	if err == nil {
		return found
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing, and CI must not skip what it proves", path)
	}
	t.Skipf("skipped: %s is not installed", path)
	return ""
}

func currentLogin(t testing.TB) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

// startSSHD runs a stock sshd that trusts the hop CA for LOGIN@hostID alone, and adds it to the inventory.
func (f *fakeControl) startSSHD(t testing.TB, name, hostID string, sftpServer ...string) testHost {
	t.Helper()
	sshd := requireTool(t, "/usr/sbin/sshd")
	_ = os.MkdirAll("/run/sshd", 0o755) // sshd's privilege separation, where the test may make it
	dir := t.TempDir()
	_, hostKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(hostKey)
	if err != nil {
		t.Fatal(err)
	}
	after, before := sshca.Host.Window(time.Now(), time.Hour)
	cert, err := sshca.NewHost(sshca.HostParams{Key: signer.PublicKey(), Serial: f.hosts.next(t), KeyID: hostID, Names: []string{hostID}, ValidAfter: after, ValidBefore: before})
	f.hosts.sign(t, cert, err)
	writeKey(t, filepath.Join(dir, "host"), hostKey)
	writeFile(t, filepath.Join(dir, "host-cert.pub"), sshca.MarshalLine(cert)+"\n")
	writeFile(t, filepath.Join(dir, "hop-ca.pub"), f.hop.line()+"\n")
	writeFile(t, filepath.Join(dir, "principals"), currentLogin(t)+"@"+hostID+"\n")
	port := freeport.For(t)
	writeFile(t, filepath.Join(dir, "config"), fmt.Sprintf(`
Port %d
ListenAddress 127.0.0.1
HostKey %[2]s/host
HostCertificate %[2]s/host-cert.pub
TrustedUserCAKeys %[2]s/hop-ca.pub
AuthorizedPrincipalsFile %[2]s/principals
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
UsePAM no
StrictModes no
PidFile none
AcceptEnv SEGA_*
SetEnv HOME=%[2]s
MaxSessions 10
X11Forwarding yes
LogLevel VERBOSE
Subsystem sftp %[3]s
`, port, dir, append(sftpServer, "internal-sftp")[0]))
	host := testHost{address: fmt.Sprintf("127.0.0.1:%d", port), hostID: hostID}
	runUntilCleanup(t, exec.Command(sshd, "-D", "-e", "-f", filepath.Join(dir, "config")))
	eventually(t, "sshd", func() bool {
		c, err := net.Dial("tcp", host.address)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	f.set(func() { f.inventory[name] = host })
	return host
}

func runUntilCleanup(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd:\n%s", log.String())
		}
	})
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func writeKey(t testing.TB, path string, key ed25519.PrivateKey) {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, string(pemEncode(block)))
}
