package keychain

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"

	"sega/keychain/secret"
)

// keyOf returns a copy of the key for a header, from memory if it is the one that was used last.
// The caller wipes it: Drop must not pull a key away from under whoever seals with it.
func (s *Store) keyOf(h header) (secret.Secret, error) {
	s.fetching.Lock()
	defer s.fetching.Unlock()
	key, drops := s.held.copy(h)
	if !key.Empty() {
		return key, nil
	}
	key, err := s.fetch(h)
	if err != nil {
		return secret.Secret{}, err
	}
	s.held.keep(h, key, drops)
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
	return fmt.Errorf("%w: it %s\nwithout it they cannot be read; to move them aside and begin anew run: sega login", ErrNoKey, why)
}

// unavailable says that a backend cannot be used now, and what a person can do about that.
func unavailable(backend string, err error) error {
	text := fmt.Errorf("%w: %s: %w", ErrUnavailable, backend, err)
	if hint := remedy(backend); hint != "" {
		return fmt.Errorf("%w\n%s", text, hint)
	}
	return text
}

// askKey derives the key from a passphrase.
func (s *Store) askKey(h header) (secret.Secret, error) {
	phrase, err := s.ask("passphrase of sega's secrets: ")
	if err != nil {
		return secret.Secret{}, err
	}
	defer phrase.Wipe()
	key, err := h.KDF.derive(phrase)
	if err != nil {
		return secret.Secret{}, unavailable(BackendPassphrase, err)
	}
	if keyCheck(key) != h.Check {
		return secret.Secret{}, fmt.Errorf("%w\nif it is lost, move %s away and run: sega login", ErrPassphrase, filepath.Join(s.cfg.Dir, sealedName))
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
func (s *Store) establish() (header, secret.Secret, error) {
	h := header{Backend: s.cfg.Backend, Item: randomHex()}
	var key secret.Secret
	var err error
	drops := s.held.count()
	switch h.Backend {
	case BackendPassphrase:
		h.KDF = newKDF()
		key, err = s.newPhrase(h)
	case "":
		key = newKey()
		h.Backend, err = s.probe(h.Item, key)
	default:
		key = newKey()
		err = s.keepIn(h.Backend, h.Item, key)
	}
	if err != nil {
		return header{}, secret.Secret{}, err
	}
	h.Check = keyCheck(key)
	s.held.keep(h, key, drops)
	return h, key, nil
}

func newKey() secret.Secret {
	raw := make([]byte, keySize)
	defer clear(raw)
	rand.Read(raw)
	return secret.New(raw)
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

// newPhrase asks for a new passphrase, twice, and derives the key.
func (s *Store) newPhrase(h header) (secret.Secret, error) {
	phrase, err := s.ask("new passphrase for sega's secrets: ")
	if err != nil {
		return secret.Secret{}, err
	}
	defer phrase.Wipe()
	again, err := s.ask("the same passphrase again: ")
	if err != nil {
		return secret.Secret{}, err
	}
	defer again.Wipe()
	if !phrase.Equal(again) {
		return secret.Secret{}, unavailable(BackendPassphrase, errors.New("the two passphrases differ"))
	}
	key, err := h.KDF.derive(phrase)
	if err != nil {
		return secret.Secret{}, unavailable(BackendPassphrase, err)
	}
	return key, nil
}

func randomHex() string {
	b := make([]byte, 8)
	rand.Read(b)
	return hex.EncodeToString(b)
}
