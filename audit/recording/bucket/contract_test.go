package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// kept is what broker and bastion use of a bucket.
type kept interface {
	Store
	Reader(ctx context.Context, sessionID string, from int64) (io.ReadCloser, error)
	Size(ctx context.Context, sessionID string) (int64, error)
	List(ctx context.Context) ([]string, error)
}

// both runs a test on a folder and on S3. open opens the same bucket once more, as another process.
func both(t *testing.T, test func(t *testing.T, open func() kept)) {
	t.Run("dir", func(t *testing.T) {
		path := t.TempDir()
		test(t, func() kept {
			d, err := OpenDir(path)
			must(t, err)
			t.Cleanup(func() { must(t, d.Close()) })
			return d
		})
	})
	t.Run("s3", func(t *testing.T) {
		s := newS3(t)
		test(t, func() kept { return s.open(t) })
	})
}

func readFrom(t testing.TB, b kept, from int64) string {
	t.Helper()
	r, err := b.Reader(t.Context(), session, from)
	must(t, err)
	data, err := io.ReadAll(r)
	must(t, errors.Join(err, r.Close()))
	return string(data)
}

func TestContract(t *testing.T) {
	both(t, func(t *testing.T, open func() kept) {
		b := open()
		if e, err := b.Extent(t.Context(), session); err != nil || e != (Extent{}) {
			t.Fatalf("%+v, %v", e, err)
		}
		_, readErr := b.Reader(t.Context(), session, 0)
		if _, err := b.Size(t.Context(), session); !errors.Is(err, fs.ErrNotExist) || !errors.Is(readErr, fs.ErrNotExist) {
			t.Fatalf("%v, %v", err, readErr)
		}
		for i, part := range []string{"first", "", "third\xff"} {
			must(t, b.Put(t.Context(), session, i, text(part)))
			must(t, open().Put(t.Context(), session, i, text(part)))
			for _, other := range []string{"x", part + "x", strings.Repeat("y", len(part)+1)} {
				if err := b.Put(t.Context(), session, i, text(other)); !errors.Is(err, ErrConflict) {
					t.Errorf("%q over %q: %v", other, part, err)
				}
			}
		}
		for from, want := range []string{"firstthird\xff", "irstthird\xff", "rstthird\xff", "stthird\xff", "tthird\xff", "third\xff", "hird\xff"} {
			if got := readFrom(t, b, int64(from)); got != want {
				t.Errorf("from %d: %q", from, got)
			}
		}
		if got := readFrom(t, b, 11); got != "" {
			t.Errorf("behind the end: %q", got)
		}
		for _, from := range []int64{-1, 12} {
			if _, err := b.Reader(t.Context(), session, from); !errors.Is(err, ErrRange) {
				t.Errorf("from %d: %v", from, err)
			}
		}
		must(t, b.Put(t.Context(), "ssh_aaaaaaaaaaaa", 0, text("x")))
		ids, err := b.List(t.Context())
		must(t, err)
		if diff := cmp.Diff([]string{session, "ssh_aaaaaaaaaaaa"}, ids); diff != "" {
			t.Error(diff)
		}
		if n, err := b.Size(t.Context(), session); err != nil || n != 11 {
			t.Errorf("%d, %v", n, err)
		}
	})
}

// TestReaderFollows: a reader that has come to the end goes on when there is more.
func TestReaderFollows(t *testing.T) {
	both(t, func(t *testing.T, open func() kept) {
		b := open()
		must(t, b.Put(t.Context(), session, 0, text("one")))
		r, err := b.Reader(t.Context(), session, 1)
		must(t, err)
		defer r.Close()
		var got []string
		for i, part := range []string{"", "two", "", "three"} {
			if part != "" {
				must(t, b.Put(t.Context(), session, (i+1)/2, text(part)))
			}
			data, err := io.ReadAll(r)
			must(t, err)
			got = append(got, string(data))
		}
		if diff := cmp.Diff([]string{"ne", "two", "", "three"}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestOneOfManyWins: of those who put different bytes under one name at once, exactly one.
func TestOneOfManyWins(t *testing.T) {
	both(t, func(t *testing.T, open func() kept) {
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			b := open()
			wg.Go(func() { errs[i] = b.Put(t.Context(), session, 0, text(fmt.Sprint("writer ", i))) })
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
		if got := readFrom(t, open(), 0); got != fmt.Sprint("writer ", winner) {
			t.Errorf("%q, and %d won", got, winner)
		}
	})
}

// TestManyObjects: a listing has more than one page.
func TestManyObjects(t *testing.T) {
	both(t, func(t *testing.T, open func() kept) {
		b := open()
		const n = 1100
		for i := range n {
			must(t, b.Put(t.Context(), session, i, text("ab")))
		}
		if e, err := b.Extent(t.Context(), session); err != nil || e != (Extent{Objects: n, Bytes: 2 * n}) {
			t.Fatalf("%+v, %v", e, err)
		}
		if got := readFrom(t, b, 2*n-5); got != "babab" {
			t.Errorf("%q", got)
		}
	})
}
