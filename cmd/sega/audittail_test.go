package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit/recording"
	"sega/broker/api"
)

var errBroken = api.Errorf(api.KindUnreachable, "connection lost")

// TestGrowing: however often the connection breaks, every byte comes once and in order, and what no
// new connection mends is told.
func TestGrowing(t *testing.T) {
	const whole = "0123456789"
	revoked := api.Errorf(api.KindRevoked, "access was revoked")
	part := func(from, to int, end error) io.Reader {
		return io.MultiReader(strings.NewReader(whole[from:to]), iotest.ErrReader(end))
	}
	for name, c := range map[string]struct {
		connections []any // an io.Reader or an error, one for each
		want        string
		err         error
		asked       []int64
	}{
		"whole":                  {[]any{part(0, 10, io.EOF)}, whole, nil, []int64{0}},
		"breaks":                 {[]any{part(0, 3, errBroken), part(3, 3, errBroken), part(3, 9, errBroken), part(9, 10, io.EOF)}, whole, nil, []int64{0, 3, 3, 9}},
		"cannot connect at once": {[]any{errBroken, errBroken, part(0, 10, io.EOF)}, whole, nil, []int64{0, 0, 0}},
		"revoked":                {[]any{part(0, 4, errBroken), revoked}, "0123", revoked, []int64{0, 4}},
		"refused":                {[]any{revoked}, "", revoked, []int64{0}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked []int64
				g := &growing{ctx: t.Context(), talk: io.Discard, connect: func(_ context.Context, from int64) (io.ReadCloser, error) {
					next := c.connections[len(asked)]
					asked = append(asked, from)
					if r, ok := next.(io.Reader); ok {
						return io.NopCloser(r), nil
					}
					return nil, next.(error)
				}}
				data, err := io.ReadAll(g)
				if string(data) != c.want || !errors.Is(err, c.err) {
					t.Errorf("%q, %v", data, err)
				}
				if diff := cmp.Diff(c.asked, asked); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestGrowingGivesUp: without a broker a tail ends after a while, or at once when its reader leaves.
func TestGrowingGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &growing{ctx: t.Context(), talk: io.Discard, connect: func(context.Context, int64) (io.ReadCloser, error) { return nil, errBroken }}
		begun := time.Now()
		if _, err := io.ReadAll(g); !errors.Is(err, errBroken) || time.Since(begun) < reconnectTime || time.Since(begun) > 2*reconnectTime {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		g.ctx = ctx
		time.AfterFunc(time.Second, func() { cancel(errCancelled) })
		if _, err := io.ReadAll(g); !errors.Is(err, errCancelled) {
			t.Errorf("%v", err)
		}
	})
}

func tailOf(t *testing.T, tp *tape, out, talk io.Writer) *tail {
	t.Helper()
	a, _, _ := testApp(t)
	a.out, a.err = out, talk
	return &tail{app: a, evidence: tp.evidence, frames: make(chan recording.Frame), now: time.Now}
}

func TestTailShowsWhatComes(t *testing.T) {
	r := newReel(t)
	r.write(0, "one ")
	r.must(r.writer.Seal())
	half := r.file.Len()
	r.write(0, "two")
	r.close()
	in, feed := io.Pipe()
	var out, talk bytes.Buffer
	tp := tapeOf(t, r)
	done := make(chan error, 1)
	tl := tailOf(t, tp, &out, &talk)
	go func() {
		done <- tl.run(t.Context(), func(context.Context) (*recording.Reader, error) { return recording.Open(in, r.ids...) })
	}()
	for _, part := range [][]byte{r.file.Bytes()[:half-1], r.file.Bytes()[half-1 : half], r.file.Bytes()[half:]} {
		if _, err := feed.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	r.must(feed.Close())
	if err := <-done; err != nil || out.String() != "one two" || !strings.Contains(talk.String(), "is live: alice@example.com as root@web-1") || !strings.Contains(talk.String(), "has ended") {
		t.Errorf("%v, %q, %q", err, &out, &talk)
	}
}

// TestTailRefuses: a recording that the log did not announce, or that was changed, is not shown.
func TestTailRefuses(t *testing.T) {
	good, other := shellReel(t), shellReel(t)
	changed := bytes.Clone(good.file.Bytes())
	changed[len(changed)-20] ^= 1 // in the last signature
	for name, c := range map[string]struct {
		raw  []byte
		reel *reel
		want string
	}{
		"another recording": {other.file.Bytes(), other, "not the one that was announced"},
		"changed":           {changed, good, "forged at"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			tl := tailOf(t, tapeOf(t, good), &out, io.Discard)
			err := tl.run(t.Context(), func(context.Context) (*recording.Reader, error) {
				return recording.Open(bytes.NewReader(c.raw), c.reel.ids...)
			})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			if name == "another recording" && out.Len() > 0 {
				t.Errorf("shown: %q", &out)
			}
		})
	}
}

// TestTailLeaves: who leaves, or whose terminal is gone, does not wait for the session.
func TestTailLeaves(t *testing.T) {
	gone := errors.New("the terminal is gone")
	for name, want := range map[string]error{"interrupted": nil, "terminal gone": gone} {
		t.Run(name, func(t *testing.T) {
			r := newReel(t)
			r.write(0, "one")
			r.must(r.writer.Seal())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tl := tailOf(t, tapeOf(t, r), writerFunc(func(p []byte) (int, error) {
				if want == gone {
					return 0, gone
				}
				cancel()
				return len(p), nil
			}), io.Discard)
			err := tl.run(ctx, func(ctx context.Context) (*recording.Reader, error) {
				g := &growing{ctx: ctx, talk: io.Discard, connect: func(ctx context.Context, _ int64) (io.ReadCloser, error) {
					return io.NopCloser(io.MultiReader(bytes.NewReader(r.file.Bytes()), blocked{ctx})), nil
				}}
				return recording.Open(g, r.ids...)
			})
			if !errors.Is(err, want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// blocked is a connection on which nothing comes.
type blocked struct{ ctx context.Context }

func (b blocked) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestTailTidies: a terminal is left sane although the keyboard is none.
func TestTailTidies(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		var out bytes.Buffer
		tl := tailOf(t, tapeOf(t, shellReel(t)), &out, io.Discard)
		tl.terminal = terminal
		keys, leave, err := tl.begin()
		if err != nil || keys != nil {
			t.Fatal(keys, err)
		}
		if leave(); strings.Contains(out.String(), sane) != terminal {
			t.Errorf("terminal %v: %q", terminal, &out)
		}
	}
}

// TestTailSaysOneLine: what a client or a broker chose makes no lines of its own.
func TestTailSaysOneLine(t *testing.T) {
	var talk bytes.Buffer
	tp := tapeOf(t, shellReel(t))
	tp.started.Login = "root\nsega: verified\x1b[2J"
	if _, _, err := tailOf(t, tp, io.Discard, &talk).begin(); err != nil {
		t.Fatal(err)
	}
	if strings.Count(talk.String(), "\n") != 1 || strings.Contains(talk.String(), "\x1b") {
		t.Errorf("%q", &talk)
	}
}
