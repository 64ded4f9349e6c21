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
// after a panic too. Where ctx ended it, the error is the context's cause. When it returns, nothing of it reads
// the terminal any more.
func Run(ctx context.Context, m tea.Model, in io.Reader, out io.Writer) error {
	if errUnasked != nil {
		return errUnasked
	}
	// Not by tea.WithContext, which kills: a program that is killed does not wait for its reader.
	p := tea.NewProgram(m, tea.WithInput(in), tea.WithOutput(out), tea.WithAltScreen(), tea.WithoutSignalHandler())
	quit := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(quit); p.Quit() }) // returns at the end of Run at the latest
	_, err := p.Run()
	if !stop() {
		<-quit
	}
	return errors.Join(err, context.Cause(ctx))
}
