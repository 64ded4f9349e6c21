package picker

import (
	"context"
	"errors"
	"io"

	"sega/cmd/sega/tui"
)

// ErrCancelled is that the person left without a choice.
var ErrCancelled = errors.New("nothing was picked")

// Role is a role to pick.
type Role struct {
	Name, Account, Description string
	Max                        string // how long its credentials live at most, like "1h"
	Mode                       string // the way to its credentials, like "assume-role"

	// Terms of the grant that are not met yet.
	NeedsReason, NeedsTicket, NeedsFresh bool

	Refused string  // why it is not allowed; "" where it is
	Use     float64 // how much it is used: without a query the higher stands above
}

// Choice is what was picked, with what it asked for.
type Choice struct{ Role, Reason, Ticket string }

// Config is what a picker works with.
type Config struct {
	Roles          []Role
	Reason, Ticket string // given already: the picker does not ask for them
	In             io.Reader
	Out            io.Writer
	Colour         bool // false where the person wants none (NO_COLOR)
}

func (c Config) validate() error {
	if c.In == nil || c.Out == nil {
		return errors.New("picker: the input and the output are needed")
	}
	return nil
}

// Run shows the picker on a terminal until the person has picked, and leaves the terminal as it was.
// It returns ErrCancelled where he leaves, and the context's cause where ctx ends.
func Run(ctx context.Context, c Config) (Choice, error) {
	if err := c.validate(); err != nil {
		return Choice{}, err
	}
	m := newModel(c)
	if err := tui.Run(ctx, m, c.In, c.Out); err != nil {
		return Choice{}, err
	}
	if !m.picked {
		return Choice{}, ErrCancelled
	}
	return m.choice, nil
}
