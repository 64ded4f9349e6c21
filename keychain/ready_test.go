package keychain

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sega/keychain/secret"
)

func TestReady(t *testing.T) {
	t.Run("the first time", func(t *testing.T) {
		s := newStore(t, nil)
		if err := s.Ready(); err != nil {
			t.Fatal(err)
		}
		if got := reopen(t, s).Describe(); got.Backend != BackendFile {
			t.Errorf("%+v", got)
		}
		if _, err := reopen(t, s).Get("a"); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
		put(t, reopen(t, s), "a", "1")
		keys, err := filepath.Glob(filepath.Join(s.cfg.Dir, "key-*"))
		if err != nil || len(keys) != 1 {
			t.Errorf("%d keys, %v", len(keys), err)
		}
	})
	t.Run("keeps what is stored", func(t *testing.T) {
		s := newStore(t, nil)
		put(t, s, "a", "1")
		if err := reopen(t, s).Ready(); err != nil {
			t.Fatal(err)
		}
		wantItem(t, reopen(t, s), "a", "1")
	})
	t.Run("a disk that takes nothing", func(t *testing.T) {
		s := newStore(t, nil)
		put(t, s, "a", "1")
		full := errors.New("no space left on device")
		s.disk.create = func(string) (diskFile, error) { return nil, full }
		if err := s.Ready(); !errors.Is(err, full) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no key", func(t *testing.T) {
		s := newStore(t, nil)
		put(t, s, "a", "1")
		if err := os.Remove(keyFile{dir: s.cfg.Dir}.path(headerOf(t, s).Item)); err != nil {
			t.Fatal(err)
		}
		if err := reopen(t, s).Ready(); !errors.Is(err, ErrNoKey) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a passphrase that nobody gives", func(t *testing.T) {
		s := newStore(t, func(c *Config) { c.Backend = BackendPassphrase })
		if err := s.Ready(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

// Another backend takes over when what is stored is moved aside, and that stays readable.
func TestAside(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "a", "1")
	other := Config{Dir: s.cfg.Dir, Backend: BackendPassphrase, Passphrase: func(string) (secret.Secret, error) { return secret.FromString("horse"), nil }}
	if _, err := Open(other); !errors.Is(err, ErrOtherBackend) {
		t.Fatalf("got %v", err)
	}
	aside, err := Aside(other)
	if err != nil || filepath.Dir(aside) != s.cfg.Dir {
		t.Fatalf("%q, %v", aside, err)
	}
	fresh, err := Open(other)
	if err != nil {
		t.Fatal(err)
	}
	put(t, fresh, "a", "2")
	if got := fresh.Describe(); got.Backend != BackendPassphrase {
		t.Errorf("%+v", got)
	}
	if err := os.Rename(aside, filepath.Join(s.cfg.Dir, sealedName)); err != nil {
		t.Fatal(err)
	}
	wantItem(t, reopen(t, s), "a", "1")
	if again, err := Aside(Config{Dir: filepath.Join(t.TempDir(), "none")}); again != "" || err != nil {
		t.Errorf("of nothing: %q, %v", again, err)
	}
}
