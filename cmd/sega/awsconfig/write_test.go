//go:build unix

package awsconfig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// add is a change that adds a section, so that every one shows.
func add(name string) func(*File) error {
	return func(f *File) error {
		*f = *Parse(append(f.Bytes(), fmt.Sprintf("[profile %s]\n", name)...))
		return nil
	}
}

func nothing(*File) error { return nil }

func content(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// names are the files of a folder: what an Edit leaves behind shows here.
func names(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func TestEdit(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "config", "# mine\n")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	changed, err := Edit(t.Context(), path, add("a"))
	if err != nil || !changed || content(t, path) != "# mine\n[profile a]\n" {
		t.Errorf("%v, %v: %s", changed, err, content(t, path))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode became %v, %v", info.Mode(), err)
	}
	if got := names(t, dir); got != "config" {
		t.Errorf("the folder has %s", got)
	}
}

// TestEditNothing: where nothing changes, the very file stays: inode and times.
func TestEditNothing(t *testing.T) {
	path := write(t, t.TempDir(), "config", mark+"[profile a]\r\ngarbage")
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := Edit(t.Context(), path, nothing)
	is, statErr := os.Stat(path)
	if err != nil || statErr != nil || changed || !os.SameFile(was, is) || !was.ModTime().Equal(is.ModTime()) {
		t.Errorf("%v, %v, %v: %v became %v", changed, err, statErr, was, is)
	}
}

func TestEditNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".aws", "config")
	if changed, err := Edit(t.Context(), path, nothing); err != nil || changed {
		t.Fatalf("%v, %v", changed, err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder was made for nothing: %v", err)
	}
	if changed, err := Edit(t.Context(), path, add("a")); err != nil || !changed || content(t, path) != "[profile a]\n" {
		t.Fatalf("%v, %v", changed, err)
	}
	for p, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
	if got := names(t, filepath.Dir(path)); got != "config" {
		t.Errorf("the folder has %s", got)
	}
}

// TestEditThroughLinks: who keeps the file elsewhere finds it changed there.
func TestEditThroughLinks(t *testing.T) {
	for name, exists := range map[string]bool{"there": true, "not yet there": false} {
		t.Run(name, func(t *testing.T) {
			dir, kept := t.TempDir(), t.TempDir()
			file := filepath.Join(kept, "aws-config")
			if exists {
				write(t, kept, "aws-config", "# kept\n")
			}
			link, second := filepath.Join(dir, "config"), filepath.Join(dir, "second")
			if err := errors.Join(os.Symlink(file, second), os.Symlink("second", link)); err != nil {
				t.Fatal(err)
			}
			if changed, err := Edit(t.Context(), link, add("a")); err != nil || !changed || !strings.HasSuffix(content(t, file), "[profile a]\n") {
				t.Errorf("%v, %v", changed, err)
			}
			if to, err := os.Readlink(link); err != nil || to != "second" {
				t.Errorf("the link leads to %q, %v", to, err)
			}
			if info, err := os.Lstat(file); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%v, %v", info, err)
			}
			if got := names(t, dir) + "|" + names(t, kept); got != "config second|aws-config" {
				t.Errorf("the folders have %s", got)
			}
		})
	}
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	if _, err := Edit(t.Context(), loop, add("a")); err == nil || !strings.Contains(err.Error(), "link") {
		t.Errorf("a loop: %v", err)
	}
}

func TestEditNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{os.DevNull, dir, fifo} {
		if changed, err := Edit(t.Context(), path, add("a")); err == nil || changed {
			t.Errorf("%s was written", path)
		}
	}
}

// faulty is a temporary file of which one step fails.
type faulty struct {
	*os.File
	step string
}

func (f faulty) fail(step string) error {
	if f.step == step {
		return syscall.ENOSPC
	}
	return nil
}

func (f faulty) Write(p []byte) (int, error) {
	if err := f.fail("write"); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f faulty) Chmod(m fs.FileMode) error { return errors.Join(f.fail("chmod"), f.File.Chmod(m)) }
func (f faulty) Sync() error               { return errors.Join(f.fail("sync"), f.File.Sync()) }
func (f faulty) Close() error              { return errors.Join(f.fail("close"), f.File.Close()) }

// TestEditFaults: every step fails in turn; the error says so, and the file is as it was, or whole.
func TestEditFaults(t *testing.T) {
	for _, exists := range []bool{true, false} {
		for _, step := range []string{"create", "write", "chmod", "sync", "close", "rename", "link"} {
			if !exists && (step == "chmod" || step == "rename") || exists && step == "link" {
				continue
			}
			t.Run(fmt.Sprintf("%s %v", step, exists), func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "config")
				if exists {
					write(t, dir, "config", "# mine\n")
				}
				d := realDisk()
				fail := func(string, string) error { return syscall.ENOSPC }
				if step == "rename" || step == "link" {
					d.rename, d.link = fail, fail
				}
				d.create = func(dir string) (temporary, error) {
					if step == "create" {
						return nil, syscall.EROFS
					}
					f, err := os.CreateTemp(dir, "x")
					return faulty{f, step}, err
				}
				changed, err := d.edit(t.Context(), path, add("a"))
				if err == nil || changed || !strings.Contains(err.Error(), path+" is as it was") || !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EROFS) {
					t.Errorf("%v, %v", changed, err)
				}
				if exists && content(t, path) != "# mine\n" {
					t.Errorf("the file has %q", content(t, path))
				}
				if got := names(t, dir); got != map[bool]string{true: "config"}[exists] {
					t.Errorf("the folder has %q", got)
				}
			})
		}
	}
}

// TestEditWithoutLinks: a file system that has no links takes a new file all the same.
func TestEditWithoutLinks(t *testing.T) {
	d := realDisk()
	d.link = func(string, string) error { return syscall.EPERM }
	path := filepath.Join(t.TempDir(), "config")
	if changed, err := d.edit(t.Context(), path, add("a")); err != nil || !changed || content(t, path) != "[profile a]\n" {
		t.Errorf("%v, %v", changed, err)
	}
}

// TestEditRaces: whatever happens to the file between reading and writing, it is not undone.
func TestEditRaces(t *testing.T) {
	for name, meddle := range map[string]func(t *testing.T, path string){
		"written in place": func(t *testing.T, path string) { write(t, filepath.Dir(path), "config", "# theirs\n") },
		"replaced by the same text": func(t *testing.T, path string) {
			if err := os.Rename(write(t, filepath.Dir(path), "new", "# mine\n"), path); err != nil {
				t.Fatal(err)
			}
		},
		"removed": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, t.TempDir(), "config", "# mine\n")
			var after string
			changed, err := Edit(t.Context(), path, func(f *File) error {
				meddle(t, path)
				after = names(t, filepath.Dir(path))
				return add("a")(f)
			})
			if !errors.Is(err, ErrChanged) || changed || names(t, filepath.Dir(path)) != after {
				t.Errorf("%v, %v: %s, then %s", changed, err, after, names(t, filepath.Dir(path)))
			}
		})
	}
	t.Run("appeared", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "config")
		changed, err := Edit(t.Context(), path, func(f *File) error {
			write(t, filepath.Dir(path), "config", "# theirs\n")
			return add("a")(f)
		})
		if !errors.Is(err, ErrChanged) || changed || content(t, path) != "# theirs\n" {
			t.Errorf("%v, %v: %s", changed, err, content(t, path))
		}
	})
	t.Run("appeared last", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "config")
		d := realDisk()
		d.link = func(from, to string) error {
			write(t, filepath.Dir(path), "config", "# theirs\n")
			return os.Link(from, to)
		}
		if changed, err := d.edit(t.Context(), path, add("a")); !errors.Is(err, ErrChanged) || changed || content(t, path) != "# theirs\n" {
			t.Errorf("%v, %v: %s", changed, err, content(t, path))
		}
	})
}

// TestEditsInTurn: of many at once none is lost.
func TestEditsInTurn(t *testing.T) {
	const n = 20
	path := write(t, t.TempDir(), "config", "")
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := Edit(t.Context(), path, add(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(Parse([]byte(content(t, path))).Sections); got != n {
		t.Errorf("%d of %d sections are there", got, n)
	}
}

// TestEditWaits: while another holds the file, an edit waits, and does not wait for ever.
func TestEditWaits(t *testing.T) {
	path := write(t, t.TempDir(), "config", "")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockPoll)
	defer cancel()
	if changed, err := Edit(ctx, path, add("a")); err == nil || changed {
		t.Errorf("%v, %v", changed, err)
	}
	unlock()
	if changed, err := Edit(t.Context(), path, add("a")); err != nil || !changed {
		t.Errorf("%v, %v", changed, err)
	}
}

func TestEditRefused(t *testing.T) {
	path := write(t, t.TempDir(), "config", "# mine\n")
	refused := errors.New("refused")
	changed, err := Edit(t.Context(), path, func(f *File) error {
		return errors.Join(add("a")(f), refused)
	})
	if !errors.Is(err, refused) || changed || content(t, path) != "# mine\n" {
		t.Errorf("%v, %v: %s", changed, err, content(t, path))
	}
}
