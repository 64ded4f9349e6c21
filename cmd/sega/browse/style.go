package browse

import (
	"github.com/charmbracelet/lipgloss"

	"sega/audit"
	"sega/cmd/sega/tui"
)

// outcomeStyle is the style of an outcome: what went well is not emphasised.
func outcomeStyle(s tui.Styles, o audit.Outcome) lipgloss.Style {
	switch o {
	case audit.Denied, audit.Failure:
		return s.Bad
	case audit.Revoked, audit.Unknown:
		return s.Odd
	case audit.Intent:
		return s.Faint
	}
	return lipgloss.NewStyle()
}
