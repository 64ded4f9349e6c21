package keychain

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sega/keychain/secret"
)

// Errors that a caller tells apart. Their texts say what to do next.
var (
	ErrNotFound     = errors.New("keychain: no such secret")
	ErrNoKey        = errors.New("keychain: the key of the stored secrets is missing, or is another one")
	ErrCorrupt      = errors.New("keychain: the stored secrets are damaged")
	ErrOtherBackend = errors.New("keychain: the secrets are kept under another backend")
	ErrUnavailable  = errors.New("keychain: the place of the key cannot be used now")
	ErrPassphrase   = errors.New("keychain: the passphrase is wrong")
	ErrBusy         = errors.New("keychain: another process holds the store")
)

// Config says where the secrets are and, at the first use, where their key goes.
type Config struct {
	Dir     string // of mode 0700; made when the first secret is put
	Backend string // one of Backends(); "": the remembered choice, else the first store that works

	// Passphrase asks a person; needed with BackendPassphrase alone. The Store wipes the answer. nil
	// in a process that has no terminal to ask on, like the agent.
	Passphrase func(prompt string) (secret.Secret, error)

	// Quiet is for looking alone: a store that would have to ask a person is ErrUnavailable instead. Of
	// macOS's keychain that cannot be said before it asks; it is given up after the answer time.
	Quiet bool
	Now   func() time.Time // nil: time.Now
}

// Store is the laptop's secrets. Safe for concurrent use, by processes too.
type Store struct {
	cfg  Config
	disk disk

	writing sync.Mutex // in front of the kernel's lock, so that goroutines do not poll it

	fetching sync.Mutex // held while a key is fetched, so that a person is asked once
	held     heldKey
}

// Description says where the key lies.
type Description struct {
	Backend string `json:"backend"` // "" before the first secret
	Text    string `json:"text"`
}

// Open checks the configuration against what is stored. It asks nobody and touches no key: that
// happens with the first use of a secret.
func Open(cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("keychain: no directory is configured")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Store{cfg: cfg, disk: realDisk()}
	if cfg.Backend != "" && cfg.Backend != BackendPassphrase {
		if _, err := s.store(cfg.Backend); err != nil {
			return nil, err
		}
	}
	if err := private(cfg.Dir); err != nil {
		return nil, err
	}
	if _, _, err := s.read(); err != nil && !errors.Is(err, ErrCorrupt) {
		return nil, err // a damaged file is told with the first use, so that Reset can be called
	}
	return s, nil
}

// Get returns a secret, or ErrNotFound.
func (s *Store) Get(name string) (secret.Secret, error) {
	items, _, err := s.items()
	if err != nil {
		return secret.Secret{}, err
	}
	v, ok := items[name]
	if !ok {
		return secret.Secret{}, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return v, nil
}

// Put keeps a secret under a name, in the place of what was there.
func (s *Store) Put(name string, v secret.Secret) error {
	return s.Update(func(items map[string]secret.Secret) error {
		items[name] = v
		return nil
	})
}

// Delete forgets secrets; those that are not there are no error.
func (s *Store) Delete(names ...string) error {
	return s.Update(func(items map[string]secret.Secret) error {
		for _, name := range names {
			delete(items, name)
		}
		return nil
	})
}

// Update lets f change the secrets while no other process can, and makes the result durable. An
// error of f, which is returned as it is, or of the disk leaves what was there. f must not use the Store.
func (s *Store) Update(f func(items map[string]secret.Secret) error) error {
	return s.alone(func() error {
		before, h, err := s.items()
		if err != nil {
			return err
		}
		items := maps.Clone(before)
		if err := f(items); err != nil {
			return err
		}
		if maps.EqualFunc(before, items, secret.Secret.Equal) {
			return nil
		}
		return s.write(h, items)
	})
}

// Ready makes sure that a secret can be kept here and now: it fetches the key, or makes it where
// nothing is stored yet, and writes what is stored once more. For whoever is about to do what would be lost otherwise.
func (s *Store) Ready() error {
	return s.alone(func() error {
		items, h, err := s.items()
		if err != nil {
			return err
		}
		return s.write(h, items)
	})
}

// alone does what no other process may do at the same time. A person is asked before it waits for them.
func (s *Store) alone(do func() error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if _, _, err := s.items(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("keychain: make the directory: %w", err)
	}
	unlock, err := lock(s.cfg.Dir, lockTime)
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}

// write replaces the sealed file, or makes it where there is no header. Under the lock.
func (s *Store) write(h *header, items map[string]secret.Secret) error {
	of, key, err := s.keyFor(h)
	if err != nil {
		return err
	}
	defer key.Wipe()
	data, err := seal(of, key, items)
	if err != nil {
		return fmt.Errorf("keychain: seal the secrets: %w", err)
	}
	if err := s.disk.replace(s.cfg.Dir, data); err != nil {
		return fmt.Errorf("keychain: write the secrets: %w", err)
	}
	return nil
}

// keyFor returns the key of a header, or makes both where there is no sealed file yet.
func (s *Store) keyFor(h *header) (header, secret.Secret, error) {
	if h == nil {
		return s.establish()
	}
	key, err := s.keyOf(*h)
	return *h, key, err
}

// Describe says where the key lies, without touching it.
func (s *Store) Describe() Description {
	file, found, err := s.read()
	switch {
	case err != nil:
		return Description{Text: err.Error()}
	case !found:
		return Description{Text: describe("", s.cfg.Dir)}
	}
	return Description{Backend: file.header.Backend, Text: describe(file.header.Backend, s.cfg.Dir)}
}

// Aside is Reset for a Config that Open refuses with ErrOtherBackend.
func Aside(cfg Config) (aside string, err error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Store{cfg: cfg, disk: realDisk()}
	if err := private(cfg.Dir); err != nil {
		return "", err
	}
	return s.Reset()
}

// Reset moves the sealed file aside, as evidence, so that a login can begin a new one; it returns
// where it is now, "" where there was none. Keys stay where they are.
func (s *Store) Reset() (aside string, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	path := filepath.Join(s.cfg.Dir, sealedName)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	unlock, err := lock(s.cfg.Dir, lockTime)
	if err != nil {
		return "", err
	}
	defer unlock()
	aside = fmt.Sprintf("%s.aside-%s", path, s.cfg.Now().UTC().Format("20060102T150405.000000000Z"))
	if err := s.disk.rename(path, aside); err != nil {
		return "", fmt.Errorf("keychain: move the sealed file aside: %w", err)
	}
	return aside, s.disk.syncDir(s.cfg.Dir)
}

// read returns the sealed file, taken apart, and whether there is one.
func (s *Store) read() (file sealed, found bool, err error) {
	data, err := readSealed(s.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return sealed{}, false, nil
	}
	if err != nil {
		return sealed{}, false, fmt.Errorf("keychain: read the secrets: %w", err)
	}
	file, err = parseSealed(data)
	if err != nil {
		return sealed{}, true, s.damaged(err)
	}
	if want := s.cfg.Backend; want != "" && want != file.header.Backend {
		return sealed{}, true, fmt.Errorf("%w: %q, and %q is asked for\nleave the choice out (SEGA_KEYRING_BACKEND) to go on with it, or begin anew: sega login",
			ErrOtherBackend, file.header.Backend, want)
	}
	return file, true, nil
}

// items returns what is stored and the file's header, nil where there is no file yet.
func (s *Store) items() (map[string]secret.Secret, *header, error) {
	file, found, err := s.read()
	if err != nil {
		return nil, nil, err
	}
	if !found {
		return map[string]secret.Secret{}, nil, nil
	}
	key, err := s.keyOf(file.header)
	if err != nil {
		return nil, nil, err
	}
	defer key.Wipe()
	items, err := file.open(key)
	if err != nil {
		return nil, nil, s.damaged(err)
	}
	return items, &file.header, nil
}

func (s *Store) damaged(err error) error {
	return fmt.Errorf("%w: %s: %w\nto move it aside and begin anew run: sega login", ErrCorrupt, filepath.Join(s.cfg.Dir, sealedName), err)
}
