package recording

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
)

// film is a recording on a clock of its own: output at 1 s and 61 s, a resize at 62 s, standard
// error of another channel at 64 s.
func film(t testing.TB, p people, end bool) []byte {
	t.Helper()
	cfg := p.config()
	at := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	cfg.Now = func() time.Time { return at }
	f := &spool{}
	w := newWriter(t, f, cfg)
	at = at.Add(time.Second)
	must(t, w.Write(0, StreamOut, []byte("a\xff")))
	must(t, w.Write(0, StreamIn, []byte("typed")))
	at = at.Add(time.Minute)
	must(t, w.Write(0, StreamOut, []byte("b")))
	at = at.Add(time.Second)
	must(t, w.WriteEvent(0, Event{Type: EventResize, Cols: 132, Rows: 43}))
	at = at.Add(2 * time.Second)
	must(t, w.Write(1, StreamErr, []byte("c")))
	if end {
		_, err := w.Close("")
		must(t, err)
	}
	return f.Bytes()
}

// screen notes what arrives when.
type screen struct {
	start time.Time
	lines []string
}

func (s *screen) note(what string) {
	s.lines = append(s.lines, fmt.Sprintf("%s %s", time.Since(s.start), what))
}

func (s *screen) Write(p []byte) (int, error) {
	s.note(fmt.Sprintf("%q", p))
	return len(p), nil
}

func (s *screen) event(_ uint32, e Event) error {
	s.note(fmt.Sprintf("%s %dx%d", e.Type, e.Cols, e.Rows))
	return nil
}

func TestPlay(t *testing.T) {
	p := newPeople(t)
	one := uint32(1)
	tests := []struct {
		name string
		o    PlayOptions
		want []string
	}{
		{"as it was", PlayOptions{}, []string{`1s "a\xff"`, `1m1s "b"`, `1m2s resize 132x43`, `1m4s "c"`}},
		{"twice as fast", PlayOptions{Speed: 2}, []string{`500ms "a\xff"`, `30.5s "b"`, `31s resize 132x43`, `32s "c"`}},
		{"without long pauses", PlayOptions{MaxIdle: 1500 * time.Millisecond}, []string{`1s "a\xff"`, `2.5s "b"`, `3.5s resize 132x43`, `5s "c"`}},
		{"fast without long pauses", PlayOptions{MaxIdle: 2 * time.Second, Speed: 4}, []string{`250ms "a\xff"`, `750ms "b"`, `1s resize 132x43`, `1.5s "c"`}},
		{"instantly", PlayOptions{Instant: true}, []string{`0s "a\xff"`, `0s "b"`, `0s resize 132x43`, `0s "c"`}},
		{"one channel", PlayOptions{Channel: &one}, []string{`1m4s "c"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, end := range []bool{true, false} {
				raw := film(t, p, end)
				synctest.Test(t, func(t *testing.T) {
					s := &screen{start: time.Now()}
					tt.o.OnEvent = s.event
					if err := play(t.Context(), raw, s, tt.o, p.recovery); (err == nil) != end || !end && err != ErrInterrupted {
						t.Fatalf("with end %t: %v", end, err)
					}
					if diff := cmp.Diff(tt.want, s.lines); diff != "" {
						t.Fatal(diff)
					}
				})
			}
		})
	}
}

func play(ctx context.Context, raw []byte, w io.Writer, o PlayOptions, id age.Identity) error {
	r, err := Open(bytes.NewReader(raw), id)
	if err != nil {
		return err
	}
	return Play(ctx, r, w, o)
}

func TestPlayEndsEarly(t *testing.T) {
	p := newPeople(t)
	raw := film(t, p, true)
	why := errors.New("enough")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Second, func() { cancel(why) })
		s := &screen{start: time.Now()}
		if err := play(ctx, raw, s, PlayOptions{}, p.recovery); err != why {
			t.Fatal(err)
		}
		if d := time.Since(s.start); d != 10*time.Second || len(s.lines) != 1 {
			t.Fatalf("after %s: %q", d, s.lines)
		}
	})
	if err := play(t.Context(), raw, brokenPipe{}, PlayOptions{Instant: true}, p.recovery); err != io.ErrClosedPipe {
		t.Fatal(err)
	}
	stop := PlayOptions{Instant: true, OnEvent: func(uint32, Event) error { return why }}
	if err := play(t.Context(), raw, io.Discard, stop, p.recovery); err != why {
		t.Fatal(err)
	}
	if err := play(t.Context(), raw, io.Discard, PlayOptions{Speed: -1}, p.recovery); err == nil {
		t.Fatal("plays backwards")
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
