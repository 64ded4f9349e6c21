//go:build unix

package browse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/exp/teatest"
	"github.com/creack/pty"

	"sega/broker/api"
)

// patience is how long a test waits for what comes at once.
const patience = 20 * time.Second

// TestProgram types, reads and leaves in the whole program.
func TestProgram(t *testing.T) {
	s := show(t, usual(), 80, 24, "")
	p := teatest.NewTestModel(t, s.model, teatest.WithInitialTermSize(80, 24))
	awaits := func(text string) {
		t.Helper()
		teatest.WaitFor(t, p.Output(), func(shown []byte) bool { return bytes.Contains(shown, []byte(text)) }, teatest.WithDuration(patience))
	}
	p.Type("host:db")
	p.Send(keyOf("tab"))
	awaits("1 of 1")
	p.Send(keyOf("enter"))
	awaits("all of this host: db-1")
	p.Send(keyOf("u"))
	awaits("1 of 2")
	p.Send(keyOf("ctrl+c"))
	p.WaitFinished(t, teatest.WithFinalTimeout(patience))
}

// terminal has a browser in it.
type terminal struct {
	t       *testing.T
	pty     *os.File
	tty     *os.File
	mu      sync.Mutex
	seen    bytes.Buffer
	done    chan error
	changed chan struct{}
}

// goodbye ends the reading of a terminal.
const goodbye = "\x00goodbye"

func onTerminal(t *testing.T, ctx context.Context, c Config) *terminal {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	w := &terminal{t: t, pty: master, tty: tty, done: make(chan error, 1), changed: make(chan struct{}, 1)}
	if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	c.In, c.Out, c.Now = tty, tty, time.Now
	if c.Explain == nil {
		c.Explain = func(err error) string { return err.Error() }
	}
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		for b := make([]byte, 4096); !strings.Contains(w.shown(), goodbye); {
			n, err := master.Read(b)
			if _, _ = w.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	go func() { w.done <- Run(ctx, c) }()
	t.Cleanup(func() {
		// It is not closed: bubbletea does not wait for who asks for its size.
		if _, err := io.WriteString(tty, goodbye); err != nil {
			t.Error(err)
		}
		<-reading
		_ = master.Close()
	})
	return w
}

func (w *terminal) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default: // somebody is told already
	}
	return w.seen.Write(p)
}

func (w *terminal) shown() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.String()
}

// await waits until the terminal was sent a text.
func (w *terminal) await(text string) {
	w.t.Helper()
	late := time.After(patience)
	for !strings.Contains(w.shown(), text) {
		select {
		case <-w.changed:
		case <-late:
			w.t.Fatalf("no %q in %q", text, w.shown())
		}
	}
}

func (w *terminal) keys(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w.pty, text); err != nil {
		w.t.Fatal(err)
	}
}

// ended waits for the end of the browser, which leaves the terminal as it was.
func (w *terminal) ended() error {
	w.t.Helper()
	select {
	case err := <-w.done:
		w.await("\x1b[?1049l")
		w.await("\x1b[?25h")
		if _, err := io.WriteString(w.tty, "the end"); err != nil {
			w.t.Error(err)
		}
		w.await("the end")
		if strings.LastIndex(w.shown(), "\x1b[?1049l") < strings.LastIndex(w.shown(), "\x1b[?1049h") || strings.LastIndex(w.shown(), "\x1b[?25h") < strings.LastIndex(w.shown(), "\x1b[?25l") {
			w.t.Errorf("the terminal was left in %q", w.shown())
		}
		return err
	case <-time.After(patience):
		w.t.Fatal("it does not end")
		return nil
	}
}

func notPlayed(context.Context, string, string) error { return errors.New("nothing to play") }

// TestReplay asks why, lets go of the terminal, plays, and comes back to the same event.
func TestReplay(t *testing.T) {
	played := make(chan [2]string, 1)
	w := onTerminal(t, t.Context(), Config{Source: usual(), Query: "kind:session.start", Play: func(_ context.Context, id, reason string) error {
		played <- [2]string{id, reason}
		return nil
	}})
	w.await("1 of 1")
	w.keys("\r")
	w.await("all of this host")
	w.keys("p")
	w.await("why do you replay ssh_one")
	w.keys("INC-7\r")
	w.await("replay of ssh_one")
	if got := <-played; got != [2]string{"ssh_one", "INC-7"} {
		t.Errorf("played %q", got)
	}
	w.mu.Lock()
	_, after, _ := strings.Cut(w.seen.String(), "replay of ssh_one")
	w.seen.Reset()
	w.seen.WriteString(after)
	w.mu.Unlock()
	w.await("all of this host")
	w.keys("p\r")
	w.await("a reason is needed")
	w.keys("\x03")
	if err := w.ended(); err != nil {
		t.Error(err)
	}
}

// TestReplayFails: what the player says stands in the status; a replay that was stopped is no failure.
func TestReplayFails(t *testing.T) {
	answers := make(chan error, 2)
	answers <- errors.New("no identity\x1b[2J")
	answers <- context.Canceled
	w := onTerminal(t, t.Context(), Config{Source: usual(), Query: "kind:session.start", Play: func(context.Context, string, string) error { return <-answers }})
	w.await("1 of 1")
	w.keys("\x1b")
	w.await("q leave")
	w.keys("pwhy\r")
	w.await(`no identity\u001b[2J`)
	w.mu.Lock()
	w.seen.Reset()
	w.mu.Unlock()
	w.keys("pwhy\r")
	w.await("replay of ssh_one")
	w.await("as of")
	if strings.Contains(w.shown(), "context canceled") {
		t.Error("a replay that was stopped is called a failure")
	}
	w.keys("q")
	if err := w.ended(); err != nil {
		t.Error(err)
	}
}

// TestEnd: a browser that is told to end does, also while it asks or waits, and nothing of it goes on.
func TestEnd(t *testing.T) {
	for name, keys := range map[string]string{"in the query": "", "under way": "x", "in a replay": "\x1b[B\rpwhy\r"} {
		t.Run(name, func(t *testing.T) {
			l := usual()
			ctx, cancel := context.WithCancel(t.Context())
			w := onTerminal(t, ctx, Config{Source: l, Query: "kind:session.*", Play: func(ctx context.Context, _, _ string) error {
				<-ctx.Done()
				return ctx.Err()
			}})
			w.await("1 of ")
			if name == "under way" {
				l.mu.Lock()
				l.hold = make(chan struct{})
				l.mu.Unlock()
			}
			for _, k := range strings.SplitAfter(keys, "p") {
				w.keys(k)
			}
			switch name {
			case "under way":
				w.await("asking the broker")
			case "in a replay":
				w.await("replay of ssh_")
			}
			cancel()
			if err := w.ended(); !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
			if l.hold != nil && l.ended != 1 {
				t.Error("a request goes on")
			}
		})
	}
}

// broken is a source with a fault of its own.
type broken struct{}

func (broken) Events(context.Context, url.Values) iter.Seq2[api.Event, error] { panic("a fault") }

// TestPanic: a fault ends the browser with an error, and the terminal is whole.
func TestPanic(t *testing.T) {
	w := onTerminal(t, t.Context(), Config{Source: broken{}, Play: notPlayed})
	if err := w.ended(); err == nil {
		t.Error("it ended well")
	}
}

// TestConfig: nothing starts without what it needs.
func TestConfig(t *testing.T) {
	if err := Run(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "needed") {
		t.Errorf("got %v", err)
	}
}

// TestNothingAsked runs this program, bubbletea in it, on a terminal that would have colours to tell: while packages are initialised it
// is asked nothing, and the environment is as it was (package unasked).
func TestNothingAsked(t *testing.T) {
	for _, ci := range []string{"", "CI=", "CI=yes"} {
		c := exec.Command(os.Args[0], "-test.run=^TestEnvironment$", "-test.v")
		c.Env = []string{"TERM=xterm-256color", "BROWSE_WANT=" + ci, "HOME=" + t.TempDir()}
		if ci != "" {
			c.Env = append(c.Env, ci)
		}
		master, err := pty.Start(c)
		if err != nil {
			t.Fatal(err)
		}
		shown, _ := io.ReadAll(master) // ends with EIO, when the program has
		if err := c.Wait(); err != nil || bytes.ContainsRune(shown, 0x1b) || !bytes.Contains(shown, []byte("PASS: TestEnvironment")) {
			t.Errorf("%q: %v: %q", ci, err, shown)
		}
		_ = master.Close()
	}
}

// TestEnvironment is the program that TestNothingAsked runs.
func TestEnvironment(t *testing.T) {
	want, asked := os.LookupEnv("BROWSE_WANT")
	if !asked {
		want = ""
		if v, ok := os.LookupEnv("CI"); ok {
			want = "CI=" + v
		}
	}
	got := ""
	if v, ok := os.LookupEnv("CI"); ok {
		got = "CI=" + v
	}
	if got != want || errUnasked != nil {
		t.Errorf("the environment has %q, not %q (%v)", got, want, errUnasked)
	}
}
