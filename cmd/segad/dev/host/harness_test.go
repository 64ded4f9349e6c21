//go:build unix

package host

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

const (
	hostID   = "host-a"
	patience = 20 * time.Second
)

// TestMain fails where a goroutine of a server outlives the tests, all of which stop theirs.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := ""; code == 0 && !eventually(func() bool { left = goroutines(); return left == "" }) {
		fmt.Fprintf(os.Stderr, "goroutines left over:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

func goroutines() string {
	buf := make([]byte, 4<<20)
	var left []string
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if (strings.Contains(g, "dev/host.") || strings.Contains(g, "x/crypto/ssh.")) && !strings.Contains(g, "host.TestMain") {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}

// eventually polls what nobody announces, such as the end of somebody else's process.
func eventually(ok func() bool) bool {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-ticker.C {
		if ok() {
			return true
		}
	}
	return false
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// buffer collects output that a test waits for.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) await(t *testing.T, text string) {
	t.Helper()
	if !eventually(func() bool { return strings.Contains(b.String(), text) }) {
		t.Fatalf("%q does not come; so far: %q", text, b.String())
	}
}

func newKey(t testing.TB) (ed25519.PrivateKey, ssh.Signer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, signer
}

// world is a running server with its authorities and a bastion's key.
type world struct {
	home      string // of sessions: the start-up files of the account are nothing to the tests
	hop, host ssh.Signer
	key       ed25519.PrivateKey
	signer    ssh.Signer
	login     string
	addr      *net.TCPAddr
	log       *buffer
	stop      func() error // ends Run and returns its error
}

func loopback(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// config returns a complete configuration.
func (w *world) config(t testing.TB) Config {
	t.Helper()
	_, key := newKey(t)
	p := sshca.HostParams{Key: key.PublicKey(), Serial: 1, KeyID: "mch_1 " + hostID, Names: []string{hostID}}
	p.ValidAfter, p.ValidBefore = sshca.Host.Window(time.Now(), sshca.HostLifetime)
	cert, err := sshca.NewHost(p)
	if err == nil {
		err = sshca.Sign(cert, sshca.Host, w.host)
	}
	if err != nil {
		t.Fatal(err)
	}
	certified, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return Config{Listener: loopback(t), HostKey: certified, UserCAs: sshca.Bundle{w.hop.PublicKey()}, Login: w.login, Home: w.home, HostID: hostID,
		Log: slog.New(slog.NewTextHandler(w.log, nil))}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{login: u.Username, home: t.TempDir(), log: &buffer{}}
	_, w.hop = newKey(t)
	_, w.host = newKey(t)
	w.key, w.signer = newKey(t)
	return w
}

func start(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	cfg := w.config(t)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.addr = cfg.Listener.Addr().(*net.TCPAddr)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	w.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// hopParams describes a certificate that opens the server with a terminal.
func (w *world) hopParams() sshca.HopParams {
	p := sshca.HopParams{Key: w.signer.PublicKey(), Serial: 1<<32 | 8, Login: w.login, HostID: hostID, SourceAddresses: []string{"127.0.0.1"},
		KeyID: sshca.KeyID{Session: "ssh_abcdefghijkmnpqrstuv", Person: "jane@corp.example"}, PTY: true, PortForwarding: true, AgentForwarding: true}
	p.ValidAfter, p.ValidBefore = sshca.Hop.Window(time.Now(), sshca.HopLifetime)
	return p
}

func issue(t testing.TB, p sshca.HopParams, ca ssh.Signer) *ssh.Certificate {
	t.Helper()
	cert, err := sshca.NewHop(p)
	if err == nil {
		err = sshca.Sign(cert, sshca.Hop, ca)
	}
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func write(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// options are OpenSSH's, for a client that shows cert and knows the host CA.
func (w *world) options(t testing.TB, cert *ssh.Certificate) []string {
	t.Helper()
	dir := t.TempDir()
	block, err := ssh.MarshalPrivateKey(w.key, "")
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-F", "none", "-i", write(t, dir, "key", string(pem.EncodeToMemory(block))),
		"-o", "CertificateFile=" + write(t, dir, "key-cert.pub", sshca.MarshalLine(cert)+"\n"),
		"-o", "UserKnownHostsFile=" + write(t, dir, "known_hosts", "@cert-authority "+hostID+" "+sshca.MarshalLine(w.host.PublicKey())+"\n"),
		"-o", "GlobalKnownHostsFile=none", "-o", "HostKeyAlias=" + hostID, "-o", "StrictHostKeyChecking=yes",
		"-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes", "-o", "ControlPath=none", "-o", "LogLevel=ERROR"}
}

// ssh returns OpenSSH's client with arguments after the destination.
func (w *world) ssh(t testing.TB, options []string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatalf("these tests need OpenSSH's client: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	all := append(append([]string{}, options...), "-p", fmt.Sprint(w.addr.Port), w.login+"@127.0.0.1")
	return exec.CommandContext(ctx, program, append(all, args...)...)
}

// run runs a client to its end.
func run(t testing.TB, cmd *exec.Cmd, input []byte) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// dial connects as the bastion does.
func (w *world) dial(t testing.TB, cert *ssh.Certificate) *ssh.Client {
	t.Helper()
	signer, err := ssh.NewCertSigner(cert, w.signer)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", w.addr.String(), &ssh.ClientConfig{User: w.login, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, Timeout: patience,
		HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			cert, ok := key.(*ssh.Certificate)
			if !ok {
				return errors.New("no certificate")
			}
			return sshca.CheckHost(cert, sshca.Bundle{w.host.PublicKey()}, hostID, time.Now())
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (w *world) session(t testing.TB) *ssh.Session {
	t.Helper()
	s, err := w.dial(t, issue(t, w.hopParams(), w.hop)).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
