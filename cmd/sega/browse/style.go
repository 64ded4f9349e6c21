package browse

import (
	"io"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"

	"sega/audit"
)

// styles are attributes and the terminal's own red and magenta: readable on light and on dark.
type styles struct {
	strong, faint, bad, odd, chosen, cursor lipgloss.Style
}

// newStyles makes them without asking the terminal anything. Without colour (NO_COLOR) what is bold,
// faint and reversed remains; plain has nothing at all.
func newStyles(colour, plain bool) styles {
	r := lipgloss.NewRenderer(io.Discard)
	r.SetHasDarkBackground(true) // asked by nobody: no style adapts
	r.SetColorProfile(termenv.ANSI)
	if plain {
		r.SetColorProfile(termenv.Ascii)
	}
	s := styles{strong: r.NewStyle().Bold(true), faint: r.NewStyle().Faint(true), bad: r.NewStyle().Bold(true), odd: r.NewStyle().Bold(true),
		chosen: r.NewStyle().Reverse(true), cursor: r.NewStyle().Reverse(true)}
	if colour {
		s.bad, s.odd = r.NewStyle().Foreground(lipgloss.Color("1")), r.NewStyle().Foreground(lipgloss.Color("5"))
	}
	return s
}

// outcome is the style of an outcome: what went well is not emphasised.
func (s styles) outcome(o audit.Outcome) lipgloss.Style {
	switch o {
	case audit.Denied, audit.Failure:
		return s.bad
	case audit.Revoked, audit.Unknown:
		return s.odd
	case audit.Intent:
		return s.faint
	}
	return lipgloss.NewStyle()
}
