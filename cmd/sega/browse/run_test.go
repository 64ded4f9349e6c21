//go:build unix

package browse

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/exp/teatest"

	"sega/broker/api"
	"sega/cmd/sega/tui/tuitest"
)

// TestProgram types, reads and leaves in the whole program.
func TestProgram(t *testing.T) {
	s := show(t, usual(), 80, 24, "")
	p := teatest.NewTestModel(t, s.model, teatest.WithInitialTermSize(80, 24))
	awaits := func(text string) {
		t.Helper()
		teatest.WaitFor(t, p.Output(), func(shown []byte) bool { return bytes.Contains(shown, []byte(text)) }, teatest.WithDuration(tuitest.Patience))
	}
	p.Type("host:db")
	p.Send(tuitest.Key("tab"))
	awaits("1 of 1")
	p.Send(tuitest.Key("enter"))
	awaits("all of this host: db-1")
	p.Send(tuitest.Key("u"))
	awaits("1 of 2")
	p.Send(tuitest.Key("ctrl+c"))
	p.WaitFinished(t, teatest.WithFinalTimeout(tuitest.Patience))
}

// terminal has a browser in it.
type terminal struct{ *tuitest.Terminal }

func onTerminal(t *testing.T, ctx context.Context, c Config) terminal {
	t.Helper()
	c.Now = time.Now
	if c.Explain == nil {
		c.Explain = func(err error) string { return err.Error() }
	}
	return terminal{tuitest.OnTerminal(t, func(tty *os.File) error {
		c.In, c.Out = tty, tty
		return Run(ctx, c)
	})}
}

func notPlayed(context.Context, string, string) error { return errors.New("nothing to play") }

// TestReplay asks why, lets go of the terminal, plays, and comes back to the same event.
func TestReplay(t *testing.T) {
	played := make(chan [2]string, 1)
	w := onTerminal(t, t.Context(), Config{Source: usual(), Query: "kind:session.start", Play: func(_ context.Context, id, reason string) error {
		played <- [2]string{id, reason}
		return nil
	}})
	w.Await("1 of 1")
	w.Keys("\r")
	w.Await("all of this host")
	w.Keys("p")
	w.Await("why do you replay ssh_one")
	w.Keys("INC-7\r")
	w.Await("replay of ssh_one")
	if got := <-played; got != [2]string{"ssh_one", "INC-7"} {
		t.Errorf("played %q", got)
	}
	w.Forget("replay of ssh_one")
	w.Await("all of this host")
	w.Keys("p\r")
	w.Await("a reason is needed")
	w.Keys("\x03")
	if err := w.Ended(); err != nil {
		t.Error(err)
	}
}

// TestReplayFails: what the player says stands in the status; a replay that was stopped is no failure.
func TestReplayFails(t *testing.T) {
	answers := make(chan error, 2)
	answers <- errors.New("no identity\x1b[2J")
	answers <- context.Canceled
	w := onTerminal(t, t.Context(), Config{Source: usual(), Query: "kind:session.start", Play: func(context.Context, string, string) error { return <-answers }})
	w.Await("1 of 1")
	w.Keys("\x1b")
	w.Await("q leave")
	w.Keys("pwhy\r")
	w.Await(`no identity\u001b[2J`)
	w.Forget("")
	w.Keys("pwhy\r")
	w.Await("replay of ssh_one")
	w.Await("as of")
	if strings.Contains(w.Shown(), "context canceled") {
		t.Error("a replay that was stopped is called a failure")
	}
	w.Keys("q")
	if err := w.Ended(); err != nil {
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
			w.Await("1 of ")
			if name == "under way" {
				l.mu.Lock()
				l.hold, l.held = make(chan struct{}), make(chan struct{}, 1)
				l.mu.Unlock()
			}
			for _, k := range strings.SplitAfter(keys, "p") {
				w.Keys(k)
			}
			switch name {
			case "under way":
				w.Await("asking the broker")
				<-l.held
			case "in a replay":
				w.Await("replay of ssh_")
			}
			cancel()
			if err := w.Ended(); !errors.Is(err, context.Canceled) {
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
	if err := w.Ended(); err == nil {
		t.Error("it ended well")
	}
}

// TestConfig: nothing starts without what it needs.
func TestConfig(t *testing.T) {
	if err := Run(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "needed") {
		t.Errorf("got %v", err)
	}
}
