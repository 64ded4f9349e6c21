package keychain

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"

	"sega/keychain/secret"
)

// keyOf returns the key for a header, from memory if it is the one that was used last.
func (s *Store) keyOf(h header) (secret.Secret, error) {
	s.keys.Lock()
	defer s.keys.Unlock()
	if !s.key.Empty() && s.of.Item == h.Item && s.of.Check == h.Check && s.of.Backend == h.Backend {
		return s.key, nil
	}
	key, err := s.fetch(h)
	if err != nil {
		return secret.Secret{}, err
	}
	s.key, s.of = key, h
	return key, nil
}

// fetch gets the key from where the header says it is.
func (s *Store) fetch(h header) (secret.Secret, error) {
	if h.Backend == BackendPassphrase {
		return s.askKey(h)
	}
	store, err := s.store(h.Backend)
	if err != nil {
		return secret.Secret{}, s.noKey("lies elsewhere: " + describe(h.Backend, s.cfg.Dir))
	}
	key, err := store.load(h.Item)
	if errors.Is(err, errNoItem) {
		return secret.Secret{}, s.noKey("was not found: " + describe(h.Backend, s.cfg.Dir))
	}
	if err != nil {
		return secret.Secret{}, unavailable(h.Backend, err)
	}
	if keyCheck(key) != h.Check {
		return secret.Secret{}, s.noKey("does not fit: " + describe(h.Backend, s.cfg.Dir))
	}
	return key, nil
}

func (s *Store) noKey(why string) error {
	return fmt.Errorf("%w: it %s\nwithout it they cannot be read: move %s away and run: sega login", ErrNoKey, why, filepath.Join(s.cfg.Dir, sealedName))
}

func unavailable(backend string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, backend, err)
}

// askKey derives the key from a passphrase.
func (s *Store) askKey(h header) (secret.Secret, error) {
	phrase, err := s.ask("passphrase of sega's secrets: ")
	if err != nil {
		return secret.Secret{}, err
	}
	key, err := h.KDF.derive(phrase)
	if err != nil {
		return secret.Secret{}, unavailable(BackendPassphrase, err)
	}
	if keyCheck(key) != h.Check {
		return secret.Secret{}, ErrPassphrase
	}
	return key, nil
}

func (s *Store) ask(prompt string) (secret.Secret, error) {
	if s.cfg.Passphrase == nil {
		return secret.Secret{}, unavailable(BackendPassphrase, errors.New("nobody can be asked for it here"))
	}
	phrase, err := s.cfg.Passphrase(prompt)
	if err != nil {
		return secret.Secret{}, unavailable(BackendPassphrase, err)
	}
	if phrase.Empty() {
		return secret.Secret{}, unavailable(BackendPassphrase, errors.New("it is empty"))
	}
	return phrase, nil
}

// establish makes the key of a new sealed file and keeps it; the header remembers where. It is
// called under the lock, and the file is not there yet.
func (s *Store) establish() (*header, error) {
	h := header{Backend: s.cfg.Backend, Item: randomHex()}
	if h.Backend == BackendPassphrase {
		return s.establishPhrase(h)
	}
	raw := make([]byte, keySize)
	rand.Read(raw)
	key := secret.New(raw)
	clear(raw)
	var err error
	if h.Backend == "" {
		h.Backend, err = s.probe(h.Item, key)
	} else {
		err = s.keepIn(h.Backend, h.Item, key)
	}
	if err != nil {
		return nil, err
	}
	h.Check = keyCheck(key)
	s.remember(h, key)
	return &h, nil
}

func (s *Store) keepIn(backend, item string, key secret.Secret) error {
	store, err := s.store(backend)
	if err != nil {
		return err
	}
	if err := keep(store, item, key); err != nil {
		return unavailable(backend, err)
	}
	return nil
}

// establishPhrase asks for a new passphrase, twice.
func (s *Store) establishPhrase(h header) (*header, error) {
	phrase, err := s.ask("new passphrase for sega's secrets: ")
	if err != nil {
		return nil, err
	}
	again, err := s.ask("the same passphrase again: ")
	if err != nil {
		return nil, err
	}
	if !phrase.Equal(again) {
		return nil, unavailable(BackendPassphrase, errors.New("the two passphrases differ"))
	}
	h.KDF = newKDF()
	key, err := h.KDF.derive(phrase)
	if err != nil {
		return nil, unavailable(BackendPassphrase, err)
	}
	h.Check = keyCheck(key)
	s.remember(h, key)
	return &h, nil
}

func (s *Store) remember(h header, key secret.Secret) {
	s.keys.Lock()
	defer s.keys.Unlock()
	s.key, s.of = key, h
}

func randomHex() string {
	b := make([]byte, 8)
	rand.Read(b)
	return hex.EncodeToString(b)
}
