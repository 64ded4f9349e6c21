package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const session = "ssh_0123456789abcdef"

func newDir(t testing.TB) (*Dir, string) {
	t.Helper()
	path := t.TempDir()
	d, err := OpenDir(path)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d, path
}

// text is what Put takes, of a string.
func text(s string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(s), 0, int64(len(s)))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, d *Dir) string {
	t.Helper()
	r, err := d.Reader(t.Context(), session, 0)
	must(t, err)
	data, err := io.ReadAll(r)
	must(t, err)
	must(t, r.Close())
	return string(data)
}

func TestPutAndRead(t *testing.T) {
	d, path := newDir(t)
	for i, part := range []string{"first", "", "third\xff"} {
		must(t, d.Put(t.Context(), session, i, text(part)))
	}
	if got := read(t, d); got != "firstthird\xff" {
		t.Fatalf("%q", got)
	}
	size, err := d.Size(t.Context(), session)
	must(t, err)
	if size != 11 {
		t.Fatalf("size %d", size)
	}
	want := []string{"00000000", "00000001", "00000002"}
	if diff := cmp.Diff(want, names(t, filepath.Join(path, session))); diff != "" {
		t.Fatal(diff)
	}
}

func names(t testing.TB, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	must(t, err)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestPutNeverReplaces(t *testing.T) {
	d, path := newDir(t)
	must(t, d.Put(t.Context(), session, 0, text("true")))
	must(t, d.Put(t.Context(), session, 0, text("true")))
	for _, other := range []string{"", "false", "tru", "truth"} {
		if err := d.Put(t.Context(), session, 0, text(other)); !errors.Is(err, ErrConflict) {
			t.Errorf("%q: %v", other, err)
		}
	}
	if got := read(t, d); got != "true" {
		t.Fatalf("%q", got)
	}
	if got := names(t, filepath.Join(path, session)); len(got) != 1 {
		t.Fatalf("left behind: %q", got)
	}
}

// TestPutRace: of many that put different bytes under one name exactly one wins, in two Dirs as
// two processes would have them.
func TestPutRace(t *testing.T) {
	d, path := newDir(t)
	second, err := OpenDir(path)
	must(t, err)
	defer second.Close()
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() { errs[i] = []*Dir{d, second}[i%2].Put(t.Context(), session, 0, text(fmt.Sprint("writer ", i))) })
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner < 0:
			winner = i
		case err == nil:
			t.Errorf("both %d and %d won", winner, i)
		case !errors.Is(err, ErrConflict):
			t.Error(err)
		}
	}
	if got := read(t, d); got != fmt.Sprint("writer ", winner) {
		t.Fatalf("%q, and %d won", got, winner)
	}
}

func TestNamesAreChecked(t *testing.T) {
	d, path := newDir(t)
	must(t, os.WriteFile(filepath.Join(filepath.Dir(path), "outside"), nil, 0o600))
	bad := []string{"", "..", "ssh_", "ssh_short", "ssh_../../outside", "ssh_0123456789ABC", "ses_0123456789abcdef",
		"ssh_0123456789\n", "ssh_" + strings.Repeat("a", 41), "ssh_0123456789/x", "/ssh_0123456789abc"}
	for _, id := range bad {
		_, readErr := d.Reader(t.Context(), id, 0)
		_, sizeErr := d.Size(t.Context(), id)
		_, upErr := NewUploader(UploaderConfig{Store: d, Spool: "x", SessionID: id})
		if err := d.Put(t.Context(), id, 0, text("")); err == nil || readErr == nil || sizeErr == nil || upErr == nil {
			t.Errorf("%q taken", id)
		}
	}
	for _, seq := range []int{-1, maxObjects} {
		if err := d.Put(t.Context(), session, seq, text("")); err == nil {
			t.Errorf("number %d taken", seq)
		}
	}
	if got := names(t, path); got != nil {
		t.Fatalf("made %q", got)
	}
}

func TestNothingThere(t *testing.T) {
	d, path := newDir(t)
	for range 2 {
		if _, err := d.Reader(t.Context(), session, 0); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if _, err := d.Size(t.Context(), session); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if e, err := d.Extent(t.Context(), session); err != nil || e != (Extent{}) {
			t.Fatalf("%+v, %v", e, err)
		}
		must(t, os.MkdirAll(filepath.Join(path, session), 0o700)) // an empty folder is nothing either
	}
}

func TestMissingNumberIsNamed(t *testing.T) {
	for _, seq := range []int{0, 1, 2} {
		d, path := newDir(t)
		for i := range 4 {
			must(t, d.Put(t.Context(), session, i, text("x")))
		}
		name := fmt.Sprintf("%s/%08d", session, seq)
		must(t, os.Remove(filepath.Join(path, name)))
		_, err := d.Reader(t.Context(), session, 0)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want it to name %s", err, name)
		}
	}
}

func TestObjectThatGoesWhileReading(t *testing.T) {
	d, path := newDir(t)
	for i := range 2 {
		must(t, d.Put(t.Context(), session, i, text("x")))
	}
	r, err := d.Reader(t.Context(), session, 0)
	must(t, err)
	must(t, os.Remove(filepath.Join(path, session, "00000001")))
	if data, err := io.ReadAll(r); err == nil || !strings.Contains(err.Error(), "00000001") {
		t.Fatalf("%q, %v", data, err)
	}
}

func TestListShowsSessionsAlone(t *testing.T) {
	d, path := newDir(t)
	other := "ssh_aaaaaaaaaaaa"
	must(t, d.Put(t.Context(), session, 0, text("")))
	must(t, d.Put(t.Context(), other, 0, text("")))
	must(t, os.Mkdir(filepath.Join(path, "lost+found"), 0o700))
	must(t, os.WriteFile(filepath.Join(path, "ssh_bbbbbbbbbbbb"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(path, session, "README"), []byte("not an object"), 0o600))
	got, err := d.List(t.Context())
	must(t, err)
	if diff := cmp.Diff([]string{session, other}, got); diff != "" {
		t.Fatal(diff)
	}
	if got := read(t, d); got != "" {
		t.Fatalf("%q", got)
	}
}

func TestNothingLeavesTheFolder(t *testing.T) {
	d, path := newDir(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "00000000"), []byte("secret"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(path, session)))
	if r, err := d.Reader(t.Context(), session, 0); err == nil {
		data, err := io.ReadAll(r)
		t.Fatalf("followed a link out: %q, %v", data, err)
	}
	if err := d.Put(t.Context(), session, 1, text("x")); err == nil {
		t.Fatal("wrote through a link")
	}
	inside := "ssh_aaaaaaaaaaaa"
	must(t, os.Mkdir(filepath.Join(path, inside), 0o700))
	must(t, os.Symlink(filepath.Join(outside, "00000000"), filepath.Join(path, inside, "00000000")))
	if _, err := d.Reader(t.Context(), inside, 0); err == nil {
		t.Fatal("read a link")
	}
}

func TestContextEnds(t *testing.T) {
	d, _ := newDir(t)
	must(t, d.Put(t.Context(), session, 0, text(strings.Repeat("x", 100))))
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	r, err := d.Reader(ctx, session, 0)
	must(t, err)
	cancel(why)
	if _, err := r.Read(make([]byte, 1)); err != why {
		t.Fatal(err)
	}
	_, sizeErr := d.Size(ctx, session)
	_, listErr := d.List(ctx)
	for _, err := range []error{sizeErr, listErr, d.Put(ctx, session, 1, text(""))} {
		if err != why {
			t.Fatal(err)
		}
	}
}
