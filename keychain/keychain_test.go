package keychain

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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

// TestMain also is the other process of TestProcesses.
func TestMain(m *testing.M) {
	if dir := os.Getenv("KEYCHAIN_TEST_DIR"); dir != "" {
		if err := countUp(dir, 20); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// countUp adds 1 to the secret "n", and a secret of its own, n times.
func countUp(dir string, n int) error {
	for i := range n {
		s, err := Open(Config{Dir: dir, Backend: BackendFile})
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

// brokenFile fails at one step.
type brokenFile struct {
	diskFile
	write, sync, close error
}

func (f brokenFile) Write(p []byte) (int, error) {
	if f.write != nil {
		n, _ := f.diskFile.Write(p[:len(p)/2]) // a full disk takes a part
		return n, f.write
	}
	return f.diskFile.Write(p)
}

func (f brokenFile) Sync() error {
	if f.sync != nil {
		return f.sync
	}
	return f.diskFile.Sync()
}

func (f brokenFile) Close() error { return errors.Join(f.diskFile.Close(), f.close) }

func TestDiskFaults(t *testing.T) {
	fault := errors.New("no space left on device")
	broken := func(change func(*brokenFile)) func(*disk) {
		return func(d *disk) {
			create := d.create
			d.create = func(path string) (diskFile, error) {
				f, err := create(path)
				if err != nil {
					return nil, err
				}
				b := brokenFile{diskFile: f}
				change(&b)
				return b, nil
			}
		}
	}
	for name, harm := range map[string]func(*disk){
		"create": func(d *disk) { d.create = func(string) (diskFile, error) { return nil, fault } },
		"write":  broken(func(b *brokenFile) { b.write = fault }),
		"sync":   broken(func(b *brokenFile) { b.sync = fault }),
		"close":  broken(func(b *brokenFile) { b.close = fault }),
		"rename": func(d *disk) { d.rename = func(string, string) error { return fault } },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, nil)
			put(t, s, "a", "old")
			before, err := readSealed(s.cfg.Dir)
			if err != nil {
				t.Fatal(err)
			}
			harm(&s.disk)
			if err := s.Put("a", secret.FromString("new")); !errors.Is(err, fault) {
				t.Errorf("got %v", err)
			}
			after, err := readSealed(s.cfg.Dir)
			if err != nil || !slices.Equal(before, after) {
				t.Errorf("the file has changed (%v)", err)
			}
			if _, err := os.Stat(filepath.Join(s.cfg.Dir, newName)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a part was left behind: %v", err)
			}
			wantItem(t, s, "a", "old")
			s.disk = realDisk()
			put(t, s, "a", "new")
			wantItem(t, reopen(t, s), "a", "new")
		})
	}
	t.Run("directory sync", func(t *testing.T) {
		s := newStore(t, nil)
		s.disk.syncDir = func(string) error { return fault }
		if err := s.Put("a", secret.FromString("x")); !errors.Is(err, fault) {
			t.Errorf("a rename that may be lost is no error: %v", err)
		}
	})
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
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "sega")
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), "KEYCHAIN_TEST_DIR="+dir)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
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

func TestKeyThatIsMissingOrAnother(t *testing.T) {
	a, b := newStore(t, nil), newStore(t, nil)
	put(t, a, "a", "1")
	put(t, b, "a", "1")
	keyOf := func(s *Store) string {
		keys, err := filepath.Glob(filepath.Join(s.cfg.Dir, "key-*"))
		if err != nil || len(keys) != 1 {
			t.Fatal(keys, err)
		}
		return keys[0]
	}
	other, err := os.ReadFile(keyOf(b))
	if err != nil {
		t.Fatal(err)
	}
	before, err := readSealed(a.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	path := keyOf(a)
	for name, tc := range map[string]struct {
		content []byte // nil: no file
		mode    fs.FileMode
		want    error
	}{
		"missing":        {nil, 0, ErrNoKey},
		"another":        {other, 0o400, ErrNoKey},
		"short":          {other[:40], 0o400, ErrUnavailable},
		"not a key":      {[]byte(strings.Repeat("x", 65)), 0o400, ErrUnavailable},
		"group-readable": {other, 0o440, ErrUnavailable},
		"world-readable": {other, 0o404, ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if tc.content != nil {
				if err := os.WriteFile(path, tc.content, tc.mode); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, tc.mode); err != nil {
					t.Fatal(err)
				}
			}
			s := reopen(t, a)
			if _, err := s.Get("a"); !errors.Is(err, tc.want) {
				t.Errorf("Get: %v", err)
			} else if tc.want == ErrNoKey && !strings.Contains(err.Error(), "sega login") {
				t.Errorf("no hint in %v", err)
			}
			if err := s.Put("a", secret.FromString("2")); !errors.Is(err, tc.want) {
				t.Errorf("Put: %v", err)
			}
			if after, err := readSealed(a.cfg.Dir); err != nil || !slices.Equal(before, after) {
				t.Errorf("the file was touched (%v)", err)
			}
		})
	}
	t.Run("symlink", func(t *testing.T) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(keyOf(b), path); err != nil {
			t.Fatal(err)
		}
		if _, err := reopen(t, a).Get("a"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestEveryBitIsBound(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "a", canary)
	good, err := readSealed(s.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.cfg.Dir, sealedName)
	refuse := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for name, use := range map[string]func() error{
			"Get": func() error { _, err := reopen(t, s).Get("a"); return err },
			"Put": func() error { return reopen(t, s).Put("a", secret.FromString("x")) },
		} {
			if err := use(); err == nil || errors.Is(err, ErrNotFound) || strings.Contains(err.Error(), canary) {
				t.Fatalf("%s after %s: %v", name, what, err)
			}
		}
		if now, err := os.ReadFile(path); err != nil || !slices.Equal(now, data) {
			t.Fatalf("after %s the file was overwritten", what)
		}
	}
	s.cfg.Backend = "" // a changed backend must not be refused for that reason alone
	for i := range good {
		bent := slices.Clone(good)
		bent[i] ^= 1
		refuse(fmt.Sprint("a bit of byte ", i), bent)
	}
	for _, n := range []int{0, 1, len(magic), len(good) / 2, len(good) - 1} {
		refuse(fmt.Sprint("a cut at ", n), good[:n])
	}
	refuse("an addition", append(slices.Clone(good), 0))
	refuse("another version", []byte(strings.Replace(string(good), " v1", " v2", 1)))
	if _, err := reopen(t, s).Get("a"); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "sega login") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	wantItem(t, reopen(t, s), "a", canary)
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

func TestPassphrase(t *testing.T) {
	var prompts []string
	answers := []string{}
	cfg := Config{Dir: filepath.Join(t.TempDir(), "sega"), Backend: BackendPassphrase, Passphrase: func(prompt string) (secret.Secret, error) {
		prompts = append(prompts, prompt)
		if len(answers) == 0 {
			return secret.Secret{}, errors.New("no terminal")
		}
		a := answers[0]
		answers = answers[1:]
		return secret.FromString(a), nil
	}}
	open := func() *Store {
		t.Helper()
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := open().Put("a", secret.FromString("1")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without a terminal: %v", err)
	}
	answers = []string{"horse", "house"}
	if err := open().Put("a", secret.FromString("1")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("two passphrases: %v", err)
	}
	answers = []string{""}
	if err := open().Put("a", secret.FromString("1")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an empty passphrase: %v", err)
	}
	answers = []string{"horse", "horse"}
	s := open()
	put(t, s, "a", "1")
	put(t, s, "b", "2")
	wantItem(t, s, "a", "1") // the key is remembered
	if d := s.Describe(); d.Backend != BackendPassphrase {
		t.Errorf("%+v", d)
	}
	prompts, answers = nil, []string{"house"}
	if _, err := open().Get("a"); !errors.Is(err, ErrPassphrase) || strings.Contains(err.Error(), "house") {
		t.Errorf("got %v", err)
	}
	answers = []string{"horse"}
	s = open()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { wantItem(t, s, "a", "1") })
	}
	wg.Wait()
	if len(prompts) != 2 {
		t.Errorf("asked %d times: %q", len(prompts), prompts)
	}
	keys, err := filepath.Glob(filepath.Join(cfg.Dir, "key-*"))
	if err != nil || len(keys) != 0 {
		t.Errorf("a key lies about: %v %v", keys, err)
	}
}

func TestNothingLeaks(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "name", canary)
	key := string(formatKey(s.key))
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
	if data, err := s.key.MarshalText(); err != nil || string(data) != secret.Redacted {
		t.Errorf("%s, %v", data, err)
	}
}

func testHeader() header {
	return header{Backend: BackendFile, Item: "0123456789abcdef", Check: "0123456789abcdef"}
}

func FuzzParseSealed(f *testing.F) {
	raw := make([]byte, keySize)
	rand.Read(raw) // each process of the fuzzer its own, so that no seed of another opens here
	key := secret.New(raw)
	good, err := seal(testHeader(), key, map[string]secret.Secret{"a": secret.FromString("1")})
	if err != nil {
		f.Fatal(err)
	}
	phrase := testHeader()
	phrase.Backend, phrase.KDF = BackendPassphrase, newKDF()
	other, err := seal(phrase, key, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(other)
	f.Add([]byte(magic))
	f.Add([]byte(magic + "{}\n" + strings.Repeat("x", 40)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSealed(data)
		if err != nil {
			return
		}
		back, err := s.format()
		if err != nil || !slices.Equal(back, data) {
			t.Fatalf("%q becomes %q, %v", data, back, err)
		}
		if items, err := s.open(key); err == nil && !slices.Equal(data, good) && !slices.Equal(data, other) {
			t.Fatalf("a forged file opens: %v", slices.Sorted(maps.Keys(items)))
		}
	})
}

func FuzzSealRoundTrip(f *testing.F) {
	f.Add("a", []byte("1"), "b", []byte{})
	f.Add("", []byte{0xff}, "\xff", []byte("\n"))
	key := secret.New(make([]byte, keySize))
	f.Fuzz(func(t *testing.T, n1 string, v1 []byte, n2 string, v2 []byte) {
		if strings.ToValidUTF8(n1, "") != n1 || strings.ToValidUTF8(n2, "") != n2 || len(v1)+len(v2) > 1<<20 {
			return // names are constants of the program
		}
		items := map[string]secret.Secret{n1: secret.New(v1), n2: secret.New(v2)}
		data, err := seal(testHeader(), key, items)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseSealed(data)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.open(key)
		if err != nil || !maps.EqualFunc(items, got, secret.Secret.Equal) {
			t.Fatalf("%v", err)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(strings.Repeat("0a", 32) + "\n")
	f.Add("")
	f.Add(strings.Repeat("zz", 32))
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parseKey(text)
		if err == nil && formatKey(k) != strings.ToLower(strings.TrimSuffix(text, "\n"))+"\n" {
			t.Fatalf("%q", text)
		}
	})
}

func parsedTestKey(t *testing.T) secret.Secret {
	t.Helper()
	k, err := parseKey(strings.Repeat("5a", keySize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}
