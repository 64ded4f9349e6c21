package keychain

import (
	"fmt"
	"sync"

	"sega/keychain/secret"
)

// Key returns a copy of the key that the stored secrets are sealed under, from memory or from where
// it lies; a person is asked where that place asks one. ErrNotFound where nothing is stored yet.
func (s *Store) Key() (secret.Secret, error) {
	h, err := s.header()
	if err != nil {
		return secret.Secret{}, err
	}
	return s.keyOf(h)
}

// Adopt takes the key that another process has fetched, a copy of it, so that this one asks
// neither the system's store nor a person. ErrNoKey where it is not the key of what is stored,
// ErrNotFound where nothing is.
func (s *Store) Adopt(key secret.Secret) error {
	h, err := s.header()
	if err != nil {
		return err
	}
	if len(key.Reveal()) != keySize || keyCheck(key) != h.Check {
		return s.noKey("does not fit: " + describe(h.Backend, s.cfg.Dir))
	}
	s.held.keep(h, key, s.held.count())
	return nil
}

// Drop forgets the key in memory, and that of a fetch which is under way: the next use of a secret
// fetches it anew. It waits for nobody.
func (s *Store) Drop() { s.held.drop() }

// header is that of the sealed file, ErrNotFound where there is none.
func (s *Store) header() (header, error) {
	file, found, err := s.read()
	if err == nil && !found {
		err = fmt.Errorf("%w: %s", ErrNotFound, describe("", s.cfg.Dir))
	}
	return file.header, err
}

// heldKey is the key in memory and the header that it fits.
type heldKey struct {
	mu    sync.Mutex
	key   secret.Secret
	of    header
	drops int // how often it was dropped
}

// copy returns the key for a header, empty where it is not held, and what keep must be told.
func (k *heldKey) copy(h header) (key secret.Secret, drops int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key.Empty() || k.of.Item != h.Item || k.of.Check != h.Check || k.of.Backend != h.Backend {
		return secret.Secret{}, k.drops
	}
	return secret.New(k.key.Reveal()), k.drops
}

func (k *heldKey) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.drops
}

// keep holds a copy of the key, unless keys were dropped since drops was read.
func (k *heldKey) keep(h header, key secret.Secret, drops int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if drops != k.drops {
		return
	}
	k.key.Wipe()
	k.key, k.of = secret.New(key.Reveal()), h
}

func (k *heldKey) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.key.Wipe()
	k.key, k.of = secret.Secret{}, header{}
	k.drops++
}
