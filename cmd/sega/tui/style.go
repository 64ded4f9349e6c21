package tui

import (
	"io"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

// Styles are attributes and the terminal's own red and magenta: readable on light and on dark.
type Styles struct {
	Strong, Faint, Bad, Odd, Chosen, Cursor lipgloss.Style
}

// NewStyles makes them without asking the terminal anything. Without colour (NO_COLOR) what is bold,
// faint and reversed remains; plain has nothing at all.
func NewStyles(colour, plain bool) Styles {
	r := lipgloss.NewRenderer(io.Discard)
	r.SetHasDarkBackground(true) // asked by nobody: no style adapts
	r.SetColorProfile(termenv.ANSI)
	if plain {
		r.SetColorProfile(termenv.Ascii)
	}
	s := Styles{Strong: r.NewStyle().Bold(true), Faint: r.NewStyle().Faint(true), Bad: r.NewStyle().Bold(true), Odd: r.NewStyle().Bold(true),
		Chosen: r.NewStyle().Reverse(true), Cursor: r.NewStyle().Reverse(true)}
	if colour {
		s.Bad, s.Odd = r.NewStyle().Foreground(lipgloss.Color("1")), r.NewStyle().Foreground(lipgloss.Color("5"))
	}
	return s
}
