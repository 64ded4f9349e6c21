//go:build unix

package picker

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"sega/cmd/sega/tui/tuitest"
)

type answer struct {
	choice Choice
	err    error
}

func onTerminal(t *testing.T, ctx context.Context) (*tuitest.Terminal, chan answer) {
	t.Helper()
	answers := make(chan answer, 1)
	return tuitest.OnTerminal(t, func(tty *os.File) error {
		choice, err := Run(ctx, Config{Roles: usual(), In: tty, Out: tty})
		answers <- answer{choice, err}
		return err
	}), answers
}

// TestRun is the whole program on a terminal, which it leaves as it was.
func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		keys []string // each after the text before it is shown
		want answer
	}{
		"picked":    {[]string{"role>", "bill", "1/5", "\r"}, answer{Choice{Role: "billing"}, nil}},
		"asked":     {[]string{"role>", "readonly", "1/5", "\r", "why do you need", "INC-7\r"}, answer{Choice{Role: "prod-readonly", Reason: "INC-7"}, nil}},
		"left":      {[]string{"role>", "\x1b"}, answer{err: ErrCancelled}},
		"cut short": {[]string{"role>", "\x03"}, answer{err: ErrCancelled}},
	} {
		t.Run(name, func(t *testing.T) {
			w, answers := onTerminal(t, t.Context())
			for i := 0; i < len(c.keys); i += 2 {
				w.Await(c.keys[i])
				w.Keys(c.keys[i+1])
			}
			err := w.Ended()
			if got := <-answers; got.choice != c.want.choice || !errors.Is(err, c.want.err) {
				t.Errorf("got %+v, %v", got.choice, err)
			}
		})
	}
}

// TestEnd: a picker that is told to end does, and says why.
func TestEnd(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the terminal goes")
	w, _ := onTerminal(t, ctx)
	w.Await("role>")
	cancel(why)
	if err := w.Ended(); !errors.Is(err, why) {
		t.Errorf("ended with %v", err)
	}
}

// TestConfig: nothing starts without what it needs.
func TestConfig(t *testing.T) {
	if _, err := Run(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "needed") {
		t.Errorf("got %v", err)
	}
}
