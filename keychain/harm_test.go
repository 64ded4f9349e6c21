package keychain

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sega/keychain/secret"
)

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
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
