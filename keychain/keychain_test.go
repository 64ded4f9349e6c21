package keychain

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/keychain/secret"
)

const canary = "CANARY-88e1c0"

// TestMain also is the other process of TestProcesses, and security(1).
func TestMain(m *testing.M) {
	playSecurity()
	if dir := os.Getenv("KEYCHAIN_TEST_DIR"); dir != "" {
		if err := countUp(Config{Dir: dir, Backend: os.Getenv("KEYCHAIN_TEST_BACKEND")}, 20); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// countUp adds 1 to the secret "n", and a secret of its own, n times.
func countUp(cfg Config, n int) error {
	for i := range n {
		s, err := Open(cfg)
		if err != nil {
			return err
		}
		if err := increment(s, fmt.Sprintf("%d-%d", os.Getpid(), i)); err != nil {
			return err
		}
	}
	return nil
}

func increment(s *Store, own string) error {
	return s.Update(func(items map[string]secret.Secret) error {
		n := 0
		if v, ok := items["n"]; ok {
			var err error
			if n, err = strconv.Atoi(string(v.Reveal())); err != nil {
				return err
			}
		}
		items["n"] = secret.FromString(strconv.Itoa(n + 1))
		items[own] = secret.FromString(own)
		return nil
	})
}

func newStore(t testing.TB, change func(*Config)) *Store {
	t.Helper()
	cfg := Config{Dir: filepath.Join(t.TempDir(), "sega"), Backend: BackendFile}
	if change != nil {
		change(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reopen is another process's view.
func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	again, err := Open(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func put(t testing.TB, s *Store, name, value string) {
	t.Helper()
	if err := s.Put(name, secret.FromString(value)); err != nil {
		t.Fatal(err)
	}
}

func wantItem(t testing.TB, s *Store, name, value string) {
	t.Helper()
	if got, err := s.Get(name); err != nil || string(got.Reveal()) != value {
		t.Errorf("%s is %q, %v; want %q", name, got.Reveal(), err, value)
	}
}

func TestRoundTrip(t *testing.T) {
	s := newStore(t, nil)
	if _, err := s.Get("a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := s.Delete("a"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(s.cfg.Dir, sealedName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made for nothing: %v", err)
	}
	put(t, s, "a", "1")
	put(t, s, "b", "\x00\xff\n")
	put(t, s, "a", "2")
	other := reopen(t, s)
	wantItem(t, other, "a", "2")
	wantItem(t, other, "b", "\x00\xff\n")
	if err := other.Delete("a", "nothing"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted by the other process, got %v", err)
	}
	wantItem(t, s, "b", "\x00\xff\n")
}

func TestModes(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "a", "1")
	modes := map[string]fs.FileMode{}
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(e.Name(), "-")
		modes[name] = info.Mode()
	}
	dir, err := os.Stat(s.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	modes["."] = dir.Mode()
	if d := cmp.Diff(map[string]fs.FileMode{".": fs.ModeDir | 0o700, "lock": 0o600, "key": 0o400, "secrets.sealed": 0o600}, modes); d != "" {
		t.Error(d)
	}
}

func TestFailedUpdateChangesNothing(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "a", "1")
	no := errors.New("no")
	err := s.Update(func(items map[string]secret.Secret) error {
		items["a"] = secret.FromString("2")
		delete(items, "b")
		return no
	})
	if !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
	wantItem(t, s, "a", "1")
}

func TestLeftoverOfADeadProcess(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "a", "1")
	if err := os.WriteFile(filepath.Join(s.cfg.Dir, newName), []byte("half"), 0o400); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", "2")
	wantItem(t, reopen(t, s), "a", "2")
}

func TestGoroutines(t *testing.T) {
	s := newStore(t, nil)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			store := s
			if i%2 == 0 { // half of them with a Store of their own
				var err error
				if store, err = Open(s.cfg); err != nil {
					t.Error(err)
					return
				}
			}
			if err := increment(store, fmt.Sprint("own-", i)); err != nil {
				t.Error(err)
			}
			if _, err := store.Get("n"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantItem(t, s, "n", "50")
	for i := range 50 {
		wantItem(t, s, fmt.Sprint("own-", i), fmt.Sprint("own-", i))
	}
}

func TestProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sega")
	countInProcesses(t, dir, BackendFile, 6)
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	wantItem(t, s, "n", "120")
	items, _, err := s.items()
	if err != nil || len(items) != 121 {
		t.Errorf("%d secrets, %v", len(items), err)
	}
	keys, err := filepath.Glob(filepath.Join(dir, "key-*"))
	if err != nil || len(keys) != 1 {
		t.Errorf("the first use by many made %d keys, %v", len(keys), err)
	}
}

// countInProcesses runs n processes at once that each add 20 to the secret "n".
func countInProcesses(t *testing.T, dir, backend string, n int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), "KEYCHAIN_TEST_DIR="+dir, "KEYCHAIN_TEST_BACKEND="+backend)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
}

// needPrograms skips, or in CI fails, where a program of the system is missing.
func needPrograms(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing: run scripts/deps", p)
			}
			t.Skipf("%s is missing: run scripts/deps", p)
		}
	}
}

func TestLockIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(dir, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir, 20*time.Millisecond); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
	unlock()
	again, err := lock(dir, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestChoiceIsRememberedAndNotProbedAgain(t *testing.T) {
	s := newStore(t, nil)
	if d := cmp.Diff(Description{Text: "nothing is kept yet"}, s.Describe()); d != "" {
		t.Error(d)
	}
	put(t, s, "a", "1")
	remembering, err := Open(Config{Dir: s.cfg.Dir})
	if err != nil {
		t.Fatal(err)
	}
	wantItem(t, remembering, "a", "1")
	put(t, remembering, "a", "2")
	got := remembering.Describe()
	if got.Backend != BackendFile || !strings.Contains(got.Text, "key beside the file") {
		t.Errorf("%+v", got)
	}
	_, err = Open(Config{Dir: s.cfg.Dir, Backend: BackendPassphrase})
	if !errors.Is(err, ErrOtherBackend) || !strings.Contains(err.Error(), "SEGA_KEYRING_BACKEND") || !strings.Contains(err.Error(), `"file"`) {
		t.Errorf("got %v", err)
	}
	if _, err := Open(Config{Dir: s.cfg.Dir, Backend: "floppy"}); err == nil || !strings.Contains(err.Error(), BackendPassphrase) {
		t.Errorf("got %v", err)
	}
}

func TestReset(t *testing.T) {
	s := newStore(t, func(c *Config) { c.Now = func() time.Time { return time.Unix(1e9, 5) } })
	if aside, err := s.Reset(); aside != "" || err != nil {
		t.Errorf("%q, %v", aside, err)
	}
	put(t, s, "a", "1")
	bad := []byte("damaged")
	if err := os.WriteFile(filepath.Join(s.cfg.Dir, sealedName), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("a", secret.FromString("2")); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	aside, err := s.Reset()
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := os.ReadFile(aside); err != nil || string(kept) != "damaged" {
		t.Errorf("the evidence is %q, %v", kept, err)
	}
	put(t, s, "a", "3")
	wantItem(t, reopen(t, s), "a", "3")
}

func TestOpenRefuses(t *testing.T) {
	open := t.TempDir()
	if err := os.Chmod(open, 0o750); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{"no directory": {}, "open to the group": {Dir: open}, "a file": {Dir: file}} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNothingLeaks(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "name", canary)
	key := string(formatKey(s.held.key))
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		fmt.Fprintf(&out, verb, s)
		fmt.Fprintf(&out, verb, s.Describe())
	}
	sealedBytes, err := readSealed(s.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"the store printed": out.String(), "the sealed file": string(sealedBytes)} {
		for _, needle := range []string{canary, strings.TrimSpace(key), "name\"", "Q0FOQVJZ"} {
			if strings.Contains(text, needle) {
				t.Errorf("%s shows %q", what, needle)
			}
		}
	}
	if data, err := s.held.key.MarshalText(); err != nil || string(data) != secret.Redacted {
		t.Errorf("%s, %v", data, err)
	}
}

func testKey() secret.Secret { return secret.FromString(strings.Repeat("k", keySize)) }

func parsedTestKey(t *testing.T) secret.Secret {
	t.Helper()
	k, err := parseKey(strings.Repeat("5a", keySize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func headerOf(t *testing.T, s *Store) header {
	t.Helper()
	h, err := s.header()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// late is what a busy machine adds to a time that is kept. What would be wrong waits for a person: personTime.
const late = 10 * time.Second

// wantRefused reads and writes in vain, within answerTime each, and nothing stored changes.
func wantRefused(t *testing.T, s *Store, kind error, text string) {
	t.Helper()
	before, err := readSealed(s.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, use := range map[string]func() error{
		"Get": func() error { _, err := reopen(t, s).Get("a"); return err },
		"Put": func() error { return reopen(t, s).Put("a", secret.FromString("2")) },
	} {
		begin := time.Now()
		if err := use(); !errors.Is(err, kind) || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "sega login") {
			t.Errorf("%s: %v, want %v with %q and a hint", name, err, kind, text)
		}
		if took := time.Since(begin); took > answerTime+late {
			t.Errorf("%s took %v", name, took)
		}
	}
	if after, err := readSealed(s.cfg.Dir); err != nil || !slices.Equal(before, after) {
		t.Errorf("the file has changed (%v)", err)
	}
}
