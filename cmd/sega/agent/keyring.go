package agent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
	sshagent "golang.org/x/crypto/ssh/agent"

	"sega/sshca"
)

// Key is a person's SSH key with its access certificate, in memory.
type Key struct {
	Private     ed25519.PrivateKey
	Certificate *ssh.Certificate
}

// NewKey makes a key and has it certified.
func NewKey(ctx context.Context, certify func(ctx context.Context, public ssh.PublicKey) (*ssh.Certificate, error)) (Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, err
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		return Key{}, err
	}
	cert, err := certify(ctx, public)
	if err != nil {
		return Key{}, err
	}
	if !bytes.Equal(cert.Key.Marshal(), public.Marshal()) {
		return Key{}, errors.New("agent: the certificate is of another key")
	}
	return Key{private, cert}, nil
}

// Keyring is an SSH agent (draft-ietf-sshm-ssh-agent) with the key of one login. It signs user
// authentication alone, and that only over a connection to a bastion: one that OpenSSH has bound
// (session-bind@openssh.com) to a host key which the front CA has certified (R12). Nobody adds, removes
// or locks anything, and what comes through a forwarded connection is refused.
type Keyring struct {
	Key   func(ctx context.Context) (Key, error) // made anew with its certificate, where that ends soon
	Front func() (sshca.Bundle, error)
	Now   func() time.Time

	// Unbound is for a client that we start ourselves, at a socket of its own, and tell which host keys to
	// take: older versions of OpenSSH bind nothing.
	Unbound bool
}

// keyTime is how long a client waits for its key's certificate.
const keyTime = 20 * time.Second

var (
	errNoSign    = errors.New("agent: only SSH user authentication is signed here")
	errUnbound   = errors.New("agent: this connection is not bound to a bastion: OpenSSH 8.9 or newer does that")
	errForwarded = errors.New("agent: a forwarded agent signs nothing")
)

// Serve answers one client until it closes.
func (k *Keyring) Serve(conn net.Conn) error { return sshagent.ServeAgent(&client{ring: k}, conn) }

// client is one connection to a Keyring.
type client struct {
	ring    *Keyring
	bound   map[string][]byte // session identifier → host key
	refused error
}

func (c *client) key() (Key, error) {
	ctx, cancel := context.WithTimeout(context.Background(), keyTime)
	defer cancel()
	return c.ring.Key(ctx)
}

func (c *client) List() ([]*sshagent.Key, error) {
	k, err := c.key()
	if err != nil {
		return nil, err
	}
	return []*sshagent.Key{{Format: k.Certificate.Type(), Blob: k.Certificate.Marshal(), Comment: "sega"}}, nil
}

func (c *client) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	return c.SignWithFlags(key, data, 0)
}

// SignWithFlags signs for a bastion. The flags choose among RSA's algorithms, which this key has not.
func (c *client) SignWithFlags(key ssh.PublicKey, data []byte, _ sshagent.SignatureFlags) (*ssh.Signature, error) {
	u, ok := parseUserAuth(data)
	if !ok {
		return nil, errNoSign
	}
	if c.refused != nil {
		return nil, c.refused
	}
	host, ok := c.bound[string(u.session)]
	if (!ok || u.hostKey != nil && !bytes.Equal(host, u.hostKey)) && !c.ring.Unbound {
		return nil, errUnbound
	}
	k, err := c.key()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key.Marshal(), k.Certificate.Marshal()) {
		return nil, errors.New("agent: there is no such key here any more")
	}
	signer, err := ssh.NewSignerFromKey(k.Private)
	if err != nil {
		return nil, err
	}
	return signer.Sign(rand.Reader, data)
}

// Extension takes the one extension that matters here.
func (c *client) Extension(kind string, contents []byte) ([]byte, error) {
	if kind != "session-bind@openssh.com" || c.ring.Unbound {
		return nil, sshagent.ErrExtensionUnsupported
	}
	if err := c.bind(contents); err != nil {
		c.refused = err
		return nil, err
	}
	return []byte{6}, nil // SSH_AGENT_SUCCESS
}

// bind holds a connection against the front CA (OpenSSH's PROTOCOL.agent §1).
func (c *client) bind(contents []byte) error {
	var b struct {
		HostKey, Session, Signature []byte
		Forwarding                  bool
	}
	if err := ssh.Unmarshal(contents, &b); err != nil {
		return fmt.Errorf("agent: session-bind: %w", err)
	}
	if b.Forwarding {
		return errForwarded
	}
	key, err := ssh.ParsePublicKey(b.HostKey)
	if err != nil {
		return fmt.Errorf("agent: session-bind: %w", err)
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal(b.Signature, &sig); err != nil {
		return fmt.Errorf("agent: session-bind: %w", err)
	}
	if err := key.Verify(b.Session, &sig); err != nil {
		return errors.New("agent: session-bind: the host has not signed that session")
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return errUnbound
	}
	cas, err := c.ring.Front()
	if err != nil {
		return err
	}
	if err := sshca.CheckFront(cert, cas, c.ring.Now()); err != nil {
		return fmt.Errorf("agent: the host is no bastion: %w", err)
	}
	if c.bound == nil {
		c.bound = map[string][]byte{}
	}
	c.bound[string(b.Session)] = b.HostKey
	return nil
}

func (c *client) Add(sshagent.AddedKey) error    { return errNoSign }
func (c *client) Remove(ssh.PublicKey) error     { return errNoSign }
func (c *client) RemoveAll() error               { return errNoSign }
func (c *client) Lock([]byte) error              { return errNoSign }
func (c *client) Unlock([]byte) error            { return errNoSign }
func (c *client) Signers() ([]ssh.Signer, error) { return nil, errNoSign }
