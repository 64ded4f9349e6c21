package keychain

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sega/keychain/secret"
)

// askedStore is a passphrase store and how often it has asked. Its file holds the secret "a".
func askedStore(t *testing.T) (cfg Config, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	cfg = Config{Dir: filepath.Join(t.TempDir(), "sega"), Backend: BackendPassphrase, Passphrase: func(string) (secret.Secret, error) {
		asked.Add(1)
		return secret.FromString("horse"), nil
	}}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", "1")
	asked.Store(0)
	return cfg, asked
}

// One process asks the person, and the one without a terminal goes on with the key.
func TestKeyIsAdopted(t *testing.T) {
	cfg, asked := askedStore(t)
	terminal, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	key, err := terminal.Key()
	if err != nil || asked.Load() != 1 {
		t.Fatalf("asked %d times, %v", asked.Load(), err)
	}
	cfg.Passphrase = nil
	agent, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agent.Get("a"); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "nobody can be asked") {
		t.Errorf("before: %v", err)
	}
	if err := agent.Adopt(key); err != nil {
		t.Fatal(err)
	}
	key.Wipe() // the agent has its own copy
	wantItem(t, agent, "a", "1")
	put(t, agent, "a", "2")
	agent.Drop()
	if _, err := agent.Get("a"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after Drop: %v", err)
	}
	if err := agent.Put("a", secret.FromString("3")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after Drop: %v", err)
	}
	wantItem(t, terminal, "a", "2")
}

func TestAdoptRefusesAnotherKey(t *testing.T) {
	s, other := newStore(t, nil), newStore(t, nil)
	put(t, s, "a", "1")
	put(t, other, "a", "2")
	wrong, err := other.Key()
	if err != nil {
		t.Fatal(err)
	}
	right, err := s.Key()
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]secret.Secret{"of another file": wrong, "empty": {}, "cut": secret.New(right.Reveal()[:31]),
		"longer": secret.New(append([]byte{}, append(right.Reveal(), 0)...))} {
		again := reopen(t, s)
		if err := again.Adopt(key); !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: %v", name, err)
		}
		if !again.held.key.Empty() {
			t.Errorf("%s: it is held", name)
		}
		wantItem(t, again, "a", "1")
	}
	if err := newStore(t, nil).Adopt(right); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing stored: %v", err)
	}
	if _, err := newStore(t, nil).Key(); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing stored: %v", err)
	}
}

func TestDropFetchesAnew(t *testing.T) {
	cfg, asked := askedStore(t)
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Drop() // of nothing
	for want := int32(1); want <= 3; want++ {
		wantItem(t, s, "a", "1")
		if err := s.Update(func(items map[string]secret.Secret) error {
			items["b"] = secret.FromString(fmt.Sprint(want))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if asked.Load() != want {
			t.Fatalf("asked %d times, want %d", asked.Load(), want)
		}
		bytes := s.held.key.Reveal()
		s.Drop()
		if strings.Trim(string(bytes), "\x00") != "" {
			t.Error("the key is still in memory")
		}
	}
}

// A fetch that was under way when the key was dropped serves its caller and leaves nothing behind.
func TestDropDuringAFetch(t *testing.T) {
	cfg, _ := askedStore(t)
	var s *Store
	cfg.Passphrase = func(string) (secret.Secret, error) {
		s.Drop() // does not wait for the fetch that it runs in
		return secret.FromString("horse"), nil
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	wantItem(t, s, "a", "1")
	if !s.held.key.Empty() {
		t.Error("the fetch has put the key back")
	}
}

// Dropping while others read and write neither spoils what they do nor what is stored.
func TestDropWhileInUse(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "n", "0")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 10 {
				if err := increment(s, fmt.Sprint(i, "-", j)); err != nil {
					t.Error(err)
				}
				if _, err := s.Get("n"); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 500 {
				s.Drop()
			}
		})
	}
	wg.Wait()
	wantItem(t, reopen(t, s), "n", "40")
}
