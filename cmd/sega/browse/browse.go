package browse

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/url"
	"time"

	"sega/broker/api"
	"sega/cmd/sega/tui"
)

// Source is where events come from: the names of the query are api.Param…, an error is the last
// thing yielded. It is safe for concurrent use.
type Source interface {
	Events(ctx context.Context, query url.Values) iter.Seq2[api.Event, error]
}

// Config is what a browser works with.
type Config struct {
	Source Source
	Query  string // to begin with
	// Play replays the recording of an SSH session on the terminal, which is in its ordinary state
	// meanwhile, and returns when the reviewer has seen it. Reason is what he said, never empty. An error that is
	// context.Canceled says that he stopped it.
	Play func(ctx context.Context, session, reason string) error
	// Playable says what keeps every recording from being replayed, before a reason is asked for; nil
	// where nothing is known of it.
	Playable func() error
	Explain  func(error) string // what failed and what to do next, on one or more lines
	Now      func() time.Time   // in the zone in which times are shown
	In       io.Reader
	Out      io.Writer
	Colour   bool // false where the person wants none (NO_COLOR)
}

func (c Config) validate() error {
	if c.Source == nil || c.Play == nil || c.Explain == nil || c.Now == nil || c.In == nil || c.Out == nil {
		return errors.New("browse: the source, the player, the explanation of errors, the clock, the input and the output are needed")
	}
	return nil
}

// Run shows the browser on a terminal until the person leaves it or ctx ends, and leaves the
// terminal as it was, after a panic too. When it returns, nothing of it runs.
func Run(ctx context.Context, c Config) error {
	if err := c.validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	m := newModel(ctx, c)
	err := tui.Run(ctx, m, c.In, c.Out)
	cancel()
	m.fetches.end()
	return err
}
