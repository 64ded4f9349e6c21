package signer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/keychain/secret"
	"sega/sshca"
	"sega/sshca/softkey"
)

// signTime bounds one signature, opening the key anew included.
const signTime = 10 * time.Second

// ErrChanged means that another key stands in the place of the one that was opened.
var ErrChanged = errors.New("another key stands in its place")

// ErrSlow means that a key did not sign in time.
var ErrSlow = errors.New("the key did not answer in time")

// Config is what opening a key needs beside its place.
type Config struct {
	Passphrase secret.Secret                            // of files
	Path       func(path string) string                 // resolves paths in places; nil: as they are
	Secret     func(path string) (secret.Secret, error) // reads a PIN's file
}

func (c Config) path(p string) string {
	if c.Path == nil || p == "" {
		return p
	}
	return c.Path(p)
}

// Open opens the key of a place. A signer of anything but a file is to be closed.
func Open(ctx context.Context, place string, c Config) (ssh.Signer, error) {
	if IsFile(place) {
		return softkey.Open(c.path(place), c.Passphrase)
	}
	scheme, u, err := parse(place)
	if err != nil {
		return nil, err
	}
	var open opener
	switch scheme {
	case schemePKCS11:
		open, err = openPKCS11(u, c)
	case schemeAWS:
		open, err = openAWS(place, u)
	default:
		open, err = openAgent(u, c)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", scheme, err)
	}
	s := &remote{open: open, busy: make(chan struct{}, 1)}
	key, err := s.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", scheme, err)
	}
	if s.public, err = ssh.ParsePublicKey(key.PublicKey().Marshal()); err == nil { // an agent's own type shows no size
		err = sshca.CheckKey(s.public)
	}
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("%s: %w", scheme, err)
	}
	return s, nil
}

// key is a key that is open.
type key struct {
	ssh.Signer
	close func() error // may be nil
}

// opener opens a key, each time anew.
type opener func(ctx context.Context) (key, error)

// remote is the signer of a key that may go away.
type remote struct {
	open   opener
	public ssh.PublicKey
	busy   chan struct{} // one opens or signs with what is not safe for many

	mu  sync.Mutex
	key *key
}

// PublicKey implements ssh.Signer.
func (r *remote) PublicKey() ssh.PublicKey { return r.public }

// Sign implements ssh.Signer: with rsa-sha2-512 where the key is RSA.
func (r *remote) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	algorithm := r.public.Type()
	if algorithm == ssh.KeyAlgoRSA {
		algorithm = ssh.KeyAlgoRSASHA512
	}
	return r.SignWithAlgorithm(rand, data, algorithm)
}

// SignWithAlgorithm implements ssh.AlgorithmSigner. An error closes the key; the next signature opens it anew.
func (r *remote) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	ctx, cancel := context.WithTimeout(context.Background(), signTime)
	defer cancel()
	type answer struct {
		signature *ssh.Signature
		err       error
	}
	done := make(chan answer, 1)
	go func() { // ends with the library's own time limits, at the latest when the process does: an HSM's module cannot be interrupted
		signature, err := r.sign(ctx, rand, data, algorithm)
		done <- answer{signature, err}
	}()
	select {
	case a := <-done:
		return a.signature, a.err
	case <-ctx.Done():
		// An HSM's module closes when nothing signs with it any more, which may be never: nobody waits for that.
		if k := r.forget(); k != nil {
			go k.shut()
		}
		return nil, ErrSlow
	}
}

func (r *remote) sign(ctx context.Context, rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	k, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	signature, err := signWith(k.Signer, rand, data, algorithm)
	if err == nil {
		err = r.public.Verify(data, signature)
	}
	if err != nil {
		r.drop()
		return nil, err
	}
	return signature, nil
}

func signWith(s ssh.Signer, rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	if a, ok := s.(ssh.AlgorithmSigner); ok {
		return a.SignWithAlgorithm(rand, data, algorithm)
	}
	return s.Sign(rand, data)
}

// current returns the open key, and opens it where it is not. One opens at a time.
func (r *remote) current(ctx context.Context) (*key, error) {
	if k := r.opened(); k != nil {
		return k, nil
	}
	select {
	case r.busy <- struct{}{}:
		defer func() { <-r.busy }()
	case <-ctx.Done():
		return nil, ErrSlow
	}
	if k := r.opened(); k != nil {
		return k, nil
	}
	k, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	if r.public != nil && sshca.MarshalLine(k.PublicKey()) != sshca.MarshalLine(r.public) {
		return nil, errors.Join(ErrChanged, k.shut())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.key = &k
	return r.key, nil
}

func (r *remote) opened() *key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.key
}

// drop closes the key.
func (r *remote) drop() {
	if k := r.forget(); k != nil {
		_ = k.shut()
	}
}

// forget returns the key if it is open; the next signature opens it anew.
func (r *remote) forget() *key {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.key
	r.key = nil
	return k
}

func (k key) shut() error {
	if k.close == nil {
		return nil
	}
	return k.close()
}

// Close lets the key go.
func (r *remote) Close() error {
	r.drop()
	return nil
}
