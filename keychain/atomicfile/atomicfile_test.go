package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestReplace: a file is replaced whole, with its mode, and nothing is left beside it, whether it works or not.
func TestReplace(t *testing.T) {
	for name, replace := range map[string]func(string, []byte, os.FileMode) error{"durable": Replace, "soon": ReplaceSoon} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x")
			for text, mode := range map[string]os.FileMode{"first, and longer": 0o600, "": 0o644, "another": 0o755} {
				if err := replace(path, []byte(text), mode); err != nil {
					t.Fatal(err)
				}
				info, err := os.Stat(path)
				if err != nil || info.Mode() != mode {
					t.Errorf("%q: mode %v, %v", text, info.Mode(), err)
				}
				if got, err := os.ReadFile(path); err != nil || string(got) != text {
					t.Errorf("%q, want %q: %v", got, text, err)
				}
			}
			if err := os.Mkdir(filepath.Join(dir, "full"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "full", "y"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := replace(filepath.Join(dir, "full"), []byte("x"), 0o600); err == nil {
				t.Error("a folder was replaced")
			}
			if err := replace(filepath.Join(dir, "none", "x"), []byte("x"), 0o600); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("in a folder that is none: %v", err)
			}
			if all, err := os.ReadDir(dir); err != nil || len(all) != 2 {
				t.Errorf("left over: %v, %v", all, err)
			}
		})
	}
}

// TestReplaceLinks: a link is replaced, and what it leads to stays.
func TestReplaceLinks(t *testing.T) {
	dir := t.TempDir()
	to, link := filepath.Join(dir, "to"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(to, []byte("kept"), 0o600), os.Symlink(to, link), Replace(link, []byte("new"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{to: "kept", link: "new"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

// TestReplaceWhileRead: whoever reads meanwhile finds one content or the other, whole.
func TestReplaceWhileRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	contents := [][]byte{bytes.Repeat([]byte("a"), 64<<10), bytes.Repeat([]byte("b"), 32<<10)}
	if err := Replace(path, contents[0], 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
				t.Errorf("%d bytes of neither: %v", len(got), err)
				return
			}
		}
	})
	for i := range 50 {
		if err := ReplaceSoon(path, contents[i%2], 0o600); err != nil {
			t.Error(err)
		}
	}
	close(done)
	readers.Wait()
}

func TestSyncDir(t *testing.T) {
	dir := t.TempDir()
	if err := SyncDir(dir); err != nil {
		t.Error(err)
	}
	if err := SyncDir(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is none: %v", err)
	}
}
