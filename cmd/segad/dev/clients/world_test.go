//go:build linux

package clients

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

const (
	alice = "alice@example.com"
	carol = "carol@example.com"

	// patience is how long a test waits for what comes within milliseconds on a machine at rest.
	patience = 20 * time.Second

	size = 1 << 20 // of what is carried each way
)

// world is one environment with a person in it, and what `sega` has given her for her clients.
type world struct {
	*devtest.Person
	reviewer *devtest.Person

	config string // block of `sega configure --ssh`, keys in the agent
	files  string // the same with key and certificate in files
	key    string // private key; beside it -cert.pub, and the front CA's known_hosts
	addr   string // of the bastion
	port   string
	dir    string // short, for sockets
	data   string // file of random bytes
	sum    [sha256.Size]byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	e := devtest.Up(t)
	e.PID("host")                                 // is sshd, and not what stands in for it
	dir, err := os.MkdirTemp("", "sega-clients-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{Person: e.LoggedIn(alice), reviewer: e.LoggedIn(carol), dir: dir, data: filepath.Join(dir, "data")}
	if w.addr, w.port, err = net.SplitHostPort(e.Bastion); err != nil {
		t.Fatal(err)
	}
	w.config = w.save(t, "config", expect(t, w.Sega("configure", "--ssh", "--print"), 0).Out)
	w.files = w.save(t, "files", expect(t, w.Sega("configure", "--ssh", "--print", "--no-agent"), 0).Out)
	expect(t, w.Sega("ssh", "--renew", "--no-agent"), 0)
	w.key = filepath.Join(w.Home, "ssh", "id")
	content := make([]byte, size)
	rand.Read(content)
	w.save(t, "data", string(content))
	w.sum = sha256.Sum256(content)
	return w
}

func (w *world) save(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// fresh returns the path of a file in a folder of this row alone, which does not exist yet.
func (w *world) fresh(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp(w.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// same fails the test unless each file holds the bytes that were sent.
func (w *world) same(t testing.TB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil || sha256.Sum256(content) != w.sum {
			t.Errorf("%s has %d bytes, not those that were sent (%v)", filepath.Base(path), len(content), err)
		}
	}
}

// expect fails the test unless a command ended with code and its output, both streams together, contains every text.
func expect(t testing.TB, r devtest.Result, code int, texts ...string) devtest.Result {
	t.Helper()
	both := r.Out + r.Err
	if r.Code != code {
		t.Fatalf("exit %d, want %d\n%s", r.Code, code, both)
	}
	for _, text := range texts {
		if !strings.Contains(both, text) {
			t.Errorf("%q is not in:\n%s", text, both)
		}
	}
	return r
}

// tellApart runs a program over ssh that writes to both streams and ends with a status of its own.
func tellApart(t testing.TB, r devtest.Result) {
	t.Helper()
	if r.Code != 3 || r.Out != "out\n" || !strings.HasSuffix(strings.ReplaceAll(r.Err, "\r\n", "\n"), "err\n") {
		t.Errorf("exit %d, stdout %q, stderr %q", r.Code, r.Out, r.Err)
	}
}

const apart = "echo out; echo err >&2; exit 3"

// needFile skips, or in CI fails, where a file of the system is missing.
func needFile(t testing.TB, path, what string) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing: %s", path, what)
	}
	t.Skipf("%s is missing: %s", path, what)
}

// field returns a field of an event, "" where there is none. Dots go deeper.
func field(v map[string]any, path string) string {
	var at any = v
	for _, name := range strings.Split(path, ".") {
		m, ok := at.(map[string]any)
		if !ok {
			return ""
		}
		at = m[name]
	}
	if at == nil {
		return ""
	}
	return fmt.Sprint(at)
}

var errNotYet = errors.New("not yet")
