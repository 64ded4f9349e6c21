package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"sega/audit/recording"
)

// memory is a Store that can fail, before or after it has taken an object.
type memory struct {
	mu      sync.Mutex
	objects [][]byte
	before  error
	after   error
}

func (m *memory) Put(_ context.Context, _ string, seq int, from *io.SectionReader) error {
	data, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.before != nil {
		return m.before
	}
	switch {
	case seq < len(m.objects) && !bytes.Equal(m.objects[seq], data):
		return ErrConflict
	case seq > len(m.objects):
		return errors.New("a number is missing")
	case seq == len(m.objects):
		m.objects = append(m.objects, bytes.Clone(data))
	}
	return m.after
}

func (m *memory) Extent(context.Context, string) (Extent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Extent{Objects: len(m.objects), Bytes: int64(len(bytes.Join(m.objects, nil)))}, nil
}

func (m *memory) Reader(_ context.Context, _ string, from int64) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.objects) == 0 {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(bytes.Join(m.objects, nil)[from:])), nil
}

func (m *memory) fail(before, after error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before, m.after = before, after
}

func (m *memory) strings() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []string
	for _, o := range m.objects {
		list = append(list, string(o))
	}
	return list
}

func newUploader(t testing.TB, s Store, spool string, onError func(error)) *Uploader {
	t.Helper()
	u, err := NewUploader(UploaderConfig{Store: s, Spool: spool, SessionID: session, MaxObject: 4, OnError: onError})
	must(t, err)
	return u
}

func writeSpool(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spool")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestUploadCopiesWhatIsNew(t *testing.T) {
	m := &memory{}
	spool := writeSpool(t, "abcdefghijk")
	u := newUploader(t, m, spool, nil)
	for _, upTo := range []int64{0, 2, 2, 1, 9, 11} {
		must(t, u.Upload(t.Context(), upTo))
	}
	if diff := cmp.Diff([]string{"ab", "cdef", "ghi", "jk"}, m.strings()); diff != "" {
		t.Fatal(diff)
	}
	if err := u.Upload(t.Context(), 12); err == nil {
		t.Fatal("uploaded more than there is")
	}
}

func TestUploadContinuesAfterARestart(t *testing.T) {
	m := &memory{}
	spool := writeSpool(t, "abcdefgh")
	must(t, newUploader(t, m, spool, nil).Upload(t.Context(), 3))
	must(t, newUploader(t, m, spool, nil).Upload(t.Context(), 8))
	if diff := cmp.Diff([]string{"abc", "defg", "h"}, m.strings()); diff != "" {
		t.Fatal(diff)
	}
	short := writeSpool(t, "abc")
	if err := newUploader(t, m, short, nil).Upload(t.Context(), 3); !errors.Is(err, ErrConflict) {
		t.Fatalf("a spool shorter than the bucket: %v", err)
	}
}

// TestUploadAfterFailures: whether or not the bucket took an object before it failed, nothing
// comes twice and nothing is left out.
func TestUploadAfterFailures(t *testing.T) {
	lost := errors.New("connection lost")
	m := &memory{}
	u := newUploader(t, m, writeSpool(t, "abcdefgh"), nil)
	for _, f := range []struct{ before, after error }{{lost, nil}, {nil, lost}, {lost, nil}, {nil, lost}} {
		m.fail(f.before, f.after)
		if err := u.Upload(t.Context(), 8); !errors.Is(err, lost) {
			t.Fatal(err)
		}
	}
	m.fail(nil, nil)
	must(t, u.Upload(t.Context(), 8))
	if diff := cmp.Diff([]string{"abcd", "efgh"}, m.strings()); diff != "" {
		t.Fatal(diff)
	}
}

// TestForgedObjects: whoever may put objects cannot make the uploader take them for its own, neither
// those that were there before nor those that come in its way.
func TestForgedObjects(t *testing.T) {
	both(t, func(t *testing.T, open func() kept) {
		const mine = "TRUE-BYTES-OF-THE-RECORDING"
		spool := writeSpool(t, mine)
		must(t, open().Put(t.Context(), session, 0, text("forged!")))
		u := newUploader(t, open(), spool, nil)
		for range 2 {
			if err := u.Upload(t.Context(), int64(len(mine))); !errors.Is(err, ErrConflict) {
				t.Fatalf("before the first: %v", err)
			}
		}
		if err := u.Compare(t.Context()); !errors.Is(err, ErrConflict) {
			t.Errorf("compared: %v", err)
		}
	})
	both(t, func(t *testing.T, open func() kept) {
		const mine = "TRUE-BYTES-OF-THE-RECORDING"
		spool := writeSpool(t, mine)
		u := newUploader(t, open(), spool, nil)
		must(t, u.Upload(t.Context(), 8))
		must(t, open().Put(t.Context(), session, 2, text("forg")))
		for range 3 {
			if err := u.Upload(t.Context(), int64(len(mine))); !errors.Is(err, ErrConflict) {
				t.Fatalf("in the middle: %v", err)
			}
		}
		if err := newUploader(t, open(), spool, nil).Upload(t.Context(), int64(len(mine))); !errors.Is(err, ErrConflict) {
			t.Errorf("after a restart: %v", err)
		}
	})
}

// TestCompare: a spool may go where the bucket is the spool, and nowhere else.
func TestCompare(t *testing.T) {
	for name, c := range map[string]struct {
		there []string
		same  bool
	}{
		"all":       {[]string{"abcd", "ef"}, true},
		"cut":       {[]string{"abcd", "e"}, false},
		"more":      {[]string{"abcd", "ef", "g"}, false},
		"other":     {[]string{"abcd", "eF"}, false},
		"nothing":   {nil, false},
		"no object": {[]string{"abcd"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, open func() kept) {
				for i, part := range c.there {
					must(t, open().Put(t.Context(), session, i, text(part)))
				}
				err := newUploader(t, open(), writeSpool(t, "abcdef"), nil).Compare(t.Context())
				if c.same && err != nil || !c.same && !errors.Is(err, ErrConflict) {
					t.Error(err)
				}
			})
		})
	}
	must(t, newUploader(t, &memory{}, writeSpool(t, ""), nil).Compare(t.Context()))
}

func TestRunUploadsAtIntervals(t *testing.T) {
	spool := writeSpool(t, "abcdefgh")
	synctest.Test(t, func(t *testing.T) {
		var sealed atomic.Int64
		var failures atomic.Int32
		m := &memory{}
		u := newUploader(t, m, spool, func(error) { failures.Add(1) })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- u.Run(ctx, sealed.Load) }()
		var seen []string
		step := func(to int64, fault error) {
			sealed.Store(to)
			m.fail(fault, nil)
			time.Sleep(defaultInterval)
			synctest.Wait()
			seen = append(seen, fmt.Sprint(m.strings()))
		}
		step(2, nil)
		step(3, errors.New("down"))
		step(4, nil)
		step(4, nil)
		cancel()
		must(t, <-done)
		if diff := cmp.Diff([]string{"[ab]", "[ab]", "[ab cd]", "[ab cd]"}, seen); diff != "" {
			t.Fatal(diff)
		}
		if failures.Load() != 1 {
			t.Fatalf("told of %d failures", failures.Load())
		}
	})
}

// TestFullFlowIsPutOff: what grows fast is uploaded when it rests, and after ten seconds in any case.
func TestFullFlowIsPutOff(t *testing.T) {
	const fast = 100
	for name, c := range map[string]struct {
		interval time.Duration
		at       []int64 // the spool at each look
		uploads  []int64
	}{
		"rests":           {2 * time.Second, []int64{150, 300, 301, 301}, []int64{301, 301}},
		"never fast":      {2 * time.Second, []int64{100, 200, 300}, []int64{100, 200, 300}},
		"never rests":     {2 * time.Second, []int64{200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800, 2000}, []int64{1000, 2000}},
		"fast once more":  {2 * time.Second, []int64{200, 210, 400, 410}, []int64{210, 410}},
		"few looks":       {5 * time.Second, []int64{200, 400, 600, 800}, []int64{400, 800}},
		"looks too rare":  {6 * time.Second, []int64{200, 400}, []int64{200, 400}},
		"looks very rare": {time.Minute, []int64{200, 400}, []int64{200, 400}},
	} {
		t.Run(name, func(t *testing.T) {
			f := flow{interval: c.interval, fast: fast}
			var got []int64
			for _, at := range c.at {
				if !f.holds(at) {
					got = append(got, at)
				}
			}
			if diff := cmp.Diff(c.uploads, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRunPutsOffFullFlow: bytes in full flow reach the bucket ten seconds later at the latest, and those at rest at once.
func TestRunPutsOffFullFlow(t *testing.T) {
	const object = 4
	spool := writeSpool(t, strings.Repeat("a", 40*flowObjects*object))
	synctest.Test(t, func(t *testing.T) {
		var sealed atomic.Int64
		m := &memory{}
		u := newUploader(t, m, spool, nil)
		u.cfg.MaxObject = object
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- u.Run(ctx, sealed.Load) }()
		var seen []int
		for i := range 7 {
			if i < 6 {
				sealed.Add(2 * flowObjects * object)
			}
			time.Sleep(defaultInterval)
			synctest.Wait()
			seen = append(seen, len(m.strings()))
		}
		cancel()
		must(t, <-done)
		of := func(steps int) int { return steps * 2 * flowObjects }
		if diff := cmp.Diff([]int{0, 0, 0, 0, of(5), of(5), of(6)}, seen); diff != "" {
			t.Errorf("objects after each interval (-want +got):\n%s", diff)
		}
	})
}

func TestUploaderNeedsItsParts(t *testing.T) {
	for _, cfg := range []UploaderConfig{{Spool: "x", SessionID: session}, {Store: &memory{}, SessionID: session}} {
		if _, err := NewUploader(cfg); err == nil {
			t.Errorf("%+v taken", cfg)
		}
	}
}

// TestRecordingThroughABucket records, uploads sealed prefixes while it grows, and verifies what the
// bucket holds at each step by the heads that the log would have.
func TestRecordingThroughABucket(t *testing.T) {
	d, path := newDir(t)
	spool := filepath.Join(t.TempDir(), "spool")
	f, err := os.OpenFile(spool, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	must(t, err)
	defer f.Close()
	var to []age.Recipient
	for range 2 {
		id, err := age.GenerateX25519Identity()
		must(t, err)
		to = append(to, id.Recipient())
	}
	w, err := recording.New(f, recording.Config{SessionID: session, Recipients: to})
	must(t, err)
	u, err := NewUploader(UploaderConfig{Store: d, Spool: spool, SessionID: session, MaxObject: 1000})
	must(t, err)
	heads := []recording.Head{w.Head()}
	for range 5 {
		must(t, w.Write(0, recording.StreamOut, make([]byte, 1500)))
		must(t, w.Seal())
		heads = append(heads, w.Head())
		must(t, w.Write(0, recording.StreamOut, []byte("not sealed yet")))
		must(t, u.Upload(t.Context(), w.Head().Bytes))
		if v := judge(t, d, w.Announce(), heads, nil); v.Status != recording.StatusInterrupted || v.Head != w.Head() || v.TailBytes != 0 {
			t.Fatalf("%+v", v)
		}
	}
	head, err := w.Close("done")
	must(t, err)
	must(t, u.Upload(t.Context(), head.Bytes))
	end := recording.Complete(head)
	if v := judge(t, d, w.Announce(), heads, &end); v.Status != recording.StatusComplete {
		t.Fatalf("%+v", v)
	}
	last := filepath.Join(path, session, names(t, filepath.Join(path, session))[len(names(t, filepath.Join(path, session)))-1])
	must(t, os.Remove(last))
	if v := judge(t, d, w.Announce(), heads, &end); v.Status != "gap at 6" {
		t.Fatalf("with the last object gone: %+v", v)
	}
}

func judge(t testing.TB, d *Dir, a recording.Announcement, heads []recording.Head, end *recording.End) recording.Verdict {
	t.Helper()
	r, err := d.Reader(t.Context(), session, 0)
	must(t, err)
	defer r.Close()
	v, err := recording.Verify(r, a, heads, end)
	must(t, err)
	return v
}
