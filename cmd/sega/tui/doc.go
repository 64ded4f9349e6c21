// Package tui is what the full-screen programs of sega are made of: text from elsewhere made fit for
// a terminal and for a width, a line that is edited, styles, and a run that leaves the terminal as it was.
//
// It does not own what stands on a screen or what keys do: each program is a package of its own
// (cmd/sega/browse, cmd/sega/picker). Whoever imports bubbletea imports this package, which keeps
// it from asking the terminal anything (docs/decisions/bubbletea-asks-the-terminal-nothing.md).
package tui
