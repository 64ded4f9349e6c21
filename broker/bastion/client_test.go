package bastion

import (
	"bytes"
	"fmt"
	"net"
	"testing"

	"golang.org/x/crypto/ssh"
)

// dialConfig is a person's SSH client that trusts the front CA alone.
func (w *world) dialConfig(user string, signers ...ssh.Signer) *ssh.ClientConfig {
	checker := ssh.CertChecker{IsHostAuthority: func(auth ssh.PublicKey, _ string) bool {
		return bytes.Equal(auth.Marshal(), w.control.front.PublicKey().Marshal())
	}}
	return &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signers...)},
		HostKeyCallback: func(_ string, remote net.Addr, key ssh.PublicKey) error {
			cert, ok := key.(*ssh.Certificate)
			if !ok {
				return fmt.Errorf("plain host key")
			}
			return checker.CheckHostKey(cert.ValidPrincipals[0]+":22", remote, key)
		}}
}

// dial connects to the bastion.
func (w *world) dial(user string, signers ...ssh.Signer) (*ssh.Client, error) {
	return ssh.Dial("tcp", w.addr, w.dialConfig(user, signers...))
}

func (w *world) mustDial(t testing.TB, user string, signers ...ssh.Signer) *ssh.Client {
	t.Helper()
	c, err := w.dial(user, signers...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = c.Wait() })
	return c
}

// direct connects to web-1 by user name.
func (w *world) direct(t testing.TB) *ssh.Client {
	t.Helper()
	return w.mustDial(t, currentLogin(t)+"%web-1", w.control.credential(t).signer)
}

func newSession(t testing.TB, c *ssh.Client) *ssh.Session {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
