package tui

import (
	"context"
	"errors"
	"io"

	tea "github.com/charmbracelet/bubbletea"

	"sega/cmd/sega/tui/unasked"
)

// errUnasked is kept for Run: nothing can be said while packages are initialised.
var errUnasked = unasked.Done()

// Run shows a model on a terminal until it quits or ctx ends, and leaves the terminal as it was,
// after a panic too. Where ctx ended it, the error is the context's cause.
func Run(ctx context.Context, m tea.Model, in io.Reader, out io.Writer) error {
	if errUnasked != nil {
		return errUnasked
	}
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithAltScreen(), tea.WithoutSignalHandler()).Run()
	if errors.Is(err, tea.ErrProgramKilled) && !errors.Is(err, tea.ErrProgramPanic) && context.Cause(ctx) != nil {
		return context.Cause(ctx)
	}
	return err
}
