package keychain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sega/keychain/secret"
)

// stores are the two stores of a Linux desktop on one bus.
func (b *fakeBus) stores(person bool) map[string]keyStore {
	return map[string]keyStore{"secret-service": secretService{desktop: b.desktop(person)}, "kwallet": kwallet{desktop: b.desktop(person)}}
}

func TestDesktopStores(t *testing.T) {
	for name, store := range newFakeBus(t, nil).stores(false) {
		t.Run(name, func(t *testing.T) {
			if _, err := store.load("0011223344556677"); !errors.Is(err, errNoItem) {
				t.Errorf("before: %v", err)
			}
			if err := keep(store, "0011223344556677", testKey()); err != nil {
				t.Error(err)
			}
			if _, err := store.load("ffff223344556677"); !errors.Is(err, errNoItem) {
				t.Errorf("another item: %v", err)
			}
		})
	}
}

func TestLockedDesktopStores(t *testing.T) {
	for name, tc := range map[string]struct {
		person, dismiss, ok bool
	}{"unlocked by the person": {true, false, true}, "dismissed": {true, true, false}, "nobody there": {false, false, false}} {
		for _, kind := range []string{"secret-service", "kwallet"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				b := newFakeBus(t, func(b *fakeBus) {
					b.locked, b.dismiss = true, tc.dismiss
					b.items["/item/aa"], b.items["aa"] = []byte(formatKey(testKey())), []byte(formatKey(testKey()))
				})
				store := b.stores(tc.person)[kind]
				got, err := store.load("aa")
				if (err == nil) != tc.ok || tc.ok && !got.Equal(testKey()) {
					t.Errorf("load: %v", err)
				}
				if !tc.person && !errors.Is(err, errLocked) {
					t.Errorf("load: %v", err)
				}
				b.mu.Lock()
				b.locked = true
				b.mu.Unlock()
				if err := store.save("bb", testKey()); (err == nil) != tc.ok {
					t.Errorf("save: %v", err)
				}
				prompts := b.prompts
				if !tc.person && prompts != 0 {
					t.Error("a prompt appeared where nobody sees it")
				}
				b.mu.Lock()
				b.locked = true
				b.mu.Unlock()
				if _, err := b.stores(true)[kind].(asker).quiet().load("aa"); !errors.Is(err, errLocked) || b.prompts != prompts {
					t.Errorf("quiet: %v, %d prompts", err, b.prompts-prompts)
				}
			})
		}
	}
}

// A bus that stops answering at any point is given up within its time, and never waited for.
func TestSilentBus(t *testing.T) {
	for kind, members := range map[string][]string{
		"secret-service": {"AUTH", "Hello", "OpenSession", "ReadAlias", "Unlock", "AddMatch", "Prompt", "CreateItem"},
		"kwallet":        {"AUTH", "Hello", "isEnabled", "networkWallet", "isOpen", "open", "writePassword"},
	} {
		for _, member := range members {
			t.Run(kind+" "+member, func(t *testing.T) {
				t.Parallel()
				b := newFakeBus(t, func(b *fakeBus) { b.silent, b.locked = member, member == "AddMatch" || member == "Prompt" })
				done := make(chan error, 1)
				go func() { done <- b.stores(true)[kind].save("aa", testKey()) }()
				select {
				case err := <-done:
					if !errors.Is(err, errSilent) {
						t.Errorf("got %v", err)
					}
				case <-time.After(20 * time.Second):
					t.Fatal("hangs")
				}
			})
		}
	}
}

func TestProbe(t *testing.T) {
	for name, tc := range map[string]struct {
		bus  func(*fakeBus)
		want string
	}{
		"secret service":       {nil, BackendSecretService},
		"kwallet":              {func(b *fakeBus) { b.noAlias = true }, BackendKWallet},
		"locked, nobody there": {func(b *fakeBus) { b.locked = true }, BackendFile},
		"neither":              {func(b *fakeBus) { b.noAlias, b.off = true, true }, BackendFile},
		"no bus":               {func(b *fakeBus) { b.silent = "no bus" }, BackendFile},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFakeBus(t, tc.bus)
			address := b.address
			if b.silent == "no bus" {
				address = "unix:path=/nonexistent"
			}
			t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
			t.Setenv("DISPLAY", "")
			t.Setenv("WAYLAND_DISPLAY", "")
			s := newStore(t, func(c *Config) { c.Backend = "" })
			put(t, s, "a", "1")
			if got := s.Describe(); got.Backend != tc.want {
				t.Fatalf("%+v", got)
			}
			again := reopen(t, s)
			wantItem(t, again, "a", "1")
			if tc.want == BackendFile {
				return
			}
			b.mu.Lock()
			clear(b.items) // as on another machine, to which the file was copied
			b.mu.Unlock()
			if _, err := reopen(t, s).Get("a"); !errors.Is(err, ErrNoKey) {
				t.Errorf("without the key: %v", err)
			}
			t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
			if err := reopen(t, s).Put("a", secret.FromString("2")); !errors.Is(err, ErrUnavailable) {
				t.Errorf("without the bus: %v", err)
			}
			if got := s.Describe(); got.Backend != tc.want {
				t.Errorf("the choice was made anew: %+v", got)
			}
		})
	}
}

// Of two daemons of KWallet the newer is asked, and what it says counts.
func TestKWalletOfPlasma6(t *testing.T) {
	b := newFakeBus(t, func(b *fakeBus) { b.daemon = "/modules/kwalletd6" })
	if err := keep(kwallet{desktop: b.desktop(false)}, "aa", testKey()); err != nil {
		t.Error(err)
	}
	b.mu.Lock()
	b.locked = true
	b.mu.Unlock()
	if _, err := (kwallet{desktop: b.desktop(false)}).load("aa"); !errors.Is(err, errLocked) {
		t.Errorf("got %v", err)
	}
}

// What was chosen at the first use stays, whatever appears, goes or comes first later.
func TestRememberedChoiceIsNotProbedAnew(t *testing.T) {
	nothing := func(b *fakeBus) { b.noAlias, b.off = true, true }
	everything := func(b *fakeBus) { b.noAlias, b.off = false, false }
	secrets := map[string]bool{"OpenSession": true, "ReadAlias": true, "CreateItem": true}
	wallet := map[string]bool{"isEnabled": true, "open": true, "writePassword": true}
	for name, tc := range map[string]struct {
		first, later func(*fakeBus)
		want         string
		err          error             // of later uses
		never        []map[string]bool // calls of later uses
	}{
		"a file, then a keyring appears":         {nothing, everything, BackendFile, nil, []map[string]bool{secrets, wallet}},
		"KWallet, then what is probed before it": {func(b *fakeBus) { b.noAlias = true }, everything, BackendKWallet, nil, []map[string]bool{secrets}},
		"KWallet, which is switched off":         {func(b *fakeBus) { b.noAlias = true }, func(b *fakeBus) { b.noAlias, b.off = false, true }, BackendKWallet, ErrUnavailable, []map[string]bool{secrets}},
		"a service that is locked later":         {everything, func(b *fakeBus) { b.locked = true }, BackendSecretService, ErrUnavailable, []map[string]bool{wallet}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFakeBus(t, tc.first)
			t.Setenv("DBUS_SESSION_BUS_ADDRESS", b.address)
			t.Setenv("DISPLAY", "")
			t.Setenv("WAYLAND_DISPLAY", "")
			s := newStore(t, func(c *Config) { c.Backend = "" })
			put(t, s, "a", "1")
			b.mu.Lock()
			tc.later(b)
			b.calls = nil
			b.mu.Unlock()
			for range 2 {
				if err := reopen(t, s).Put("a", secret.FromString("2")); !errors.Is(err, tc.err) {
					t.Errorf("got %v, want %v", err, tc.err)
				}
			}
			if got := reopen(t, s).Describe(); got.Backend != tc.want {
				t.Errorf("%+v, want %s", got, tc.want)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, call := range b.calls {
				for _, never := range tc.never {
					if never[call] {
						t.Errorf("probed anew: %v", b.calls)
					}
				}
			}
		})
	}
}

// What merely opens the store asks no bus, so that it costs a warm call nothing.
func TestOpenTouchesNoBus(t *testing.T) {
	b := newFakeBus(t, nil)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", b.address)
	s := newStore(t, func(c *Config) { c.Backend = "" })
	if _, err := s.Get("a"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	put(t, s, "a", "1")
	b.mu.Lock()
	b.calls = nil
	b.mu.Unlock()
	again := reopen(t, s)
	again.Describe()
	b.mu.Lock()
	calls := len(b.calls)
	b.mu.Unlock()
	if calls != 0 {
		t.Errorf("%d calls on the bus", calls)
	}
	for range 3 {
		wantItem(t, again, "a", "1")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if want := "[Hello OpenSession SearchItems GetSecret]"; fmt.Sprint(b.calls) != want {
		t.Errorf("calls %v, want %s once", b.calls, want)
	}
}

// A program with this package in it starts, and uses a key file, beside a bus that takes
// connections and says nothing. One that links 99designs/keyring never reaches main there.
func TestProgramStartsBesideASilentBus(t *testing.T) {
	b := newFakeBus(t, func(b *fakeBus) { b.silent = "AUTH" })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), "KEYCHAIN_TEST_DIR="+filepath.Join(t.TempDir(), "sega"), "KEYCHAIN_TEST_BACKEND="+BackendFile, "DBUS_SESSION_BUS_ADDRESS="+b.address)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestThisDesktop(t *testing.T) {
	run := t.TempDir()
	for name, tc := range map[string]struct {
		env     map[string]string
		address string
		person  bool
	}{
		"address":    {map[string]string{"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x", "DISPLAY": ":0"}, "unix:path=/x", true},
		"wayland":    {map[string]string{"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x", "WAYLAND_DISPLAY": "w"}, "unix:path=/x", true},
		"over SSH":   {map[string]string{"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x", "DISPLAY": ":0", "SSH_CONNECTION": "1"}, "unix:path=/x", false},
		"autolaunch": {map[string]string{"DBUS_SESSION_BUS_ADDRESS": "autolaunch:"}, "", false},
		"nothing":    {nil, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, k := range []string{"DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"} {
				t.Setenv(k, tc.env[k])
			}
			t.Setenv("XDG_RUNTIME_DIR", run)
			if d := thisDesktop(); d.address != tc.address || d.person != tc.person {
				t.Errorf("%+v", d)
			}
		})
	}
}

func FuzzSocketPath(f *testing.F) {
	f.Add("unix:path=/run/user/1/bus,guid=0")
	f.Add("tcp:host=x;unix:abstract=/tmp/dbus-x")
	f.Add("unix:path=%2Frun%zz")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := socketPath(s); (err == nil) != (p != "") {
			t.Fatalf("%q, %v", p, err)
		}
	})
}
