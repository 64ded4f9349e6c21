//go:build linux

package chaos

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/cmd/segad/dev/devtest"
)

func mustKey() ssh.PublicKey {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		panic(err)
	}
	return key
}

// dial opens a connection to the host through the bastion, whose name it checks.
func (r *rig) dial(id identity, within time.Duration) (*ssh.Client, error) {
	checker := ssh.CertChecker{IsHostAuthority: func(k ssh.PublicKey, _ string) bool { return bytes.Equal(k.Marshal(), r.front.Marshal()) }}
	conn, err := net.DialTimeout("tcp", r.bfile.Listen, within)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(within))
	c, chans, reqs, err := ssh.NewClientConn(conn, bastionName+":22", &ssh.ClientConfig{User: r.Host.Login + "+" + hostName,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(id.signer)}, HostKeyCallback: checker.CheckHostKey, Timeout: within})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return ssh.NewClient(c, chans, reqs), conn.SetDeadline(time.Time{})
}

// shell is a program on the host, with what its person has received of it.
type shell struct {
	client *ssh.Client
	sess   *ssh.Session
	in     io.WriteCloser
	out    *sink
	errs   *sink
	ended  chan struct{} // closed when the connection has ended
}

// sink collects output.
type sink struct {
	mu   sync.Mutex
	data []byte
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = append(s.data, p...)
	return len(p), nil
}

func (s *sink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.data)
}

func (s *sink) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.data)
}

// open starts a program; with tty it gets a terminal.
func (r *rig) open(id identity, command string, tty bool) (*shell, error) {
	client, err := r.dial(id, 20*time.Second)
	if err != nil {
		return nil, err
	}
	sh := &shell{client: client, out: &sink{}, errs: &sink{}, ended: make(chan struct{})}
	if err := sh.begin(command, tty); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	go func() { _ = client.Wait(); close(sh.ended) }() // ends with the connection
	return sh, nil
}

func (s *shell) begin(command string, tty bool) (err error) {
	if s.sess, err = s.client.NewSession(); err != nil {
		return err
	}
	s.sess.Stdout, s.sess.Stderr = s.out, s.errs
	if s.in, err = s.sess.StdinPipe(); err != nil {
		return err
	}
	if tty {
		if err := s.sess.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
			return err
		}
	}
	return s.sess.Start(command)
}

// mustOpen is open where nothing is in the way.
func (r *rig) mustOpen(id identity, command string, tty bool) *shell {
	r.t.Helper()
	s, err := r.open(id, command, tty)
	if err != nil {
		r.t.Fatalf("open a session: %v", err)
	}
	r.t.Cleanup(func() { _ = s.client.Close(); <-s.ended })
	return s
}

// echo types a line into a session that runs cat, and waits for it to come back.
func (s *shell) echo(t testing.TB, line string) {
	t.Helper()
	if _, err := io.WriteString(s.in, line+"\n"); err != nil {
		t.Fatalf("type %q: %v; the person reads %q", line, err, s.errs.text())
	}
	devtest.Eventually(t, 10*time.Second, "no echo", func() error {
		if !strings.Contains(s.out.text(), line+"\n") {
			return fmt.Errorf("%q is missing", line)
		}
		return nil
	})
}

// awaitEnd waits until the connection has ended.
func (s *shell) awaitEnd(t testing.TB, within time.Duration) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(within):
		t.Fatalf("the session goes on after %s", within)
	}
}

// run runs a command to its end and returns what it printed.
func (r *rig) run(id identity, command string) (out, errs string, err error) {
	s, err := r.open(id, command, false)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = s.client.Close(); <-s.ended }()
	err = s.sess.Wait()
	return s.out.text(), s.errs.text(), err
}
