package keychain

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sega/keychain/secret"
)

// Places for the key.
const (
	BackendFile          = "file"           // a file of mode 0400 beside the sealed one
	BackendPassphrase    = "passphrase"     // derived from what a person types
	BackendSecretService = "secret-service" // GNOME Keyring, KeePassXC and others, over D-Bus
	BackendKWallet       = "kwallet"
	BackendKeychain      = "keychain" // macOS
	BackendWinCred       = "wincred"  // Windows Credential Manager
	BackendPass          = "pass"     // the standard unix password manager
)

const (
	// answerTime is what a system's store gets for a load or a save in which nobody has to be asked.
	answerTime = 3 * time.Second
	// personTime is what a person gets to unlock a store that asks one.
	personTime = time.Minute
)

// keyStore keeps 32-byte keys by name. Its methods give up by themselves: after answerTime, or
// after personTime where the store is known to be asking a person. load returns errNoItem
// where the store works and has no such key.
type keyStore interface {
	load(item string) (secret.Secret, error)
	save(item string, key secret.Secret) error
}

// asker is a keyStore that may ask a person; quiet is the same one where nobody is to be asked.
type asker interface{ quiet() keyStore }

var (
	errNoItem = errors.New("the key is not there")
	errLocked = errors.New("it is locked, and nobody can be asked to unlock it from here")
	errSilent = errors.New("it does not answer")
	errAbsent = errors.New("it does not run")

	errDismissed = errors.New("it was not unlocked")
)

// store returns the store of a backend other than BackendPassphrase.
func (s *Store) store(backend string) (keyStore, error) {
	if backend == BackendFile {
		return keyFile{dir: s.cfg.Dir}, nil
	}
	if open, ok := systemStores()[backend]; ok {
		store := open()
		if asks, ok := store.(asker); ok && s.cfg.Quiet {
			store = asks.quiet()
		}
		return store, nil
	}
	return nil, fmt.Errorf("keychain: there is no backend %q in this build of sega: it has %s", backend, strings.Join(Backends(), ", "))
}

// Backends are the names that this build knows, sorted.
func Backends() []string {
	names := []string{BackendFile, BackendPassphrase}
	for name := range systemStores() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// probe puts a key into the first of the system's stores that takes and returns it, or else into a
// key file. It is done once in a sealed file's life.
func (s *Store) probe(item string, key secret.Secret) (backend string, err error) {
	for _, name := range probeOrder() {
		store, err := s.store(name)
		if err == nil && keep(store, item, key) == nil {
			return name, nil
		}
	}
	if err := keep(keyFile{dir: s.cfg.Dir}, item, key); err != nil {
		return "", fmt.Errorf("keychain: keep the key in a file: %w", err)
	}
	return BackendFile, nil
}

// keep saves the key and reads it back.
func keep(store keyStore, item string, key secret.Secret) error {
	if err := store.save(item, key); err != nil {
		return err
	}
	got, err := store.load(item)
	if err != nil {
		return err
	}
	if !got.Equal(key) {
		return errors.New("the store returns another key than the one it took")
	}
	return nil
}

// describe says where a key lies, for people.
func describe(backend, dir string) string {
	switch backend {
	case "":
		return "nothing is kept yet"
	case BackendFile:
		return "key beside the file: whoever can read " + dir + " can read the secrets"
	case BackendPassphrase:
		return "key derived from a passphrase (Argon2id)"
	case BackendSecretService:
		return "key in the desktop's Secret Service"
	case BackendKWallet:
		return "key in KWallet"
	case BackendKeychain:
		return "key in the macOS keychain"
	case BackendWinCred:
		return "key in the Windows Credential Manager"
	case BackendPass:
		return "key in pass, the password manager"
	}
	return "key in " + backend + ", which this build of sega does not know"
}

// remedy says what to do about a store that cannot be used, where its own errors do not.
func remedy(backend string) string {
	const elsewhere = "; or keep them elsewhere from the next login on: SEGA_KEYRING_BACKEND=file sega login"
	switch backend {
	case BackendSecretService, BackendKWallet:
		return "unlock or restart the desktop's keyring" + elsewhere
	case BackendKeychain:
		return "run: security unlock-keychain" + elsewhere
	case BackendWinCred:
		return "log in to Windows at its own screen" + elsewhere
	case BackendPass:
		return "make sure that pass can decrypt here (gpg asks where GPG_TTY or a display is)" + elsewhere
	}
	return ""
}
