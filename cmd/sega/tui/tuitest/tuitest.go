// Package tuitest tests full-screen programs: words that somebody wrote for the one who reads them,
// keys by their names, and what every screen must hold. Tests alone import it.
package tuitest

import (
	"strings"
	"testing"
	"time"
	"unicode"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"sega/cmd/sega/tui"
)

// Patience is how long a test waits for what comes at once.
const Patience = 20 * time.Second

// Hostile are words that somebody wrote for the one who reads them.
func Hostile() []string {
	return []string{
		"\x1b]0;title\x07\x1b[2J\x1b[31mred", "\x9b31m\u009b31m", "line\nfeed\rreturn\ttab\vvt", "\u202eevil\u2066\u2069", "zero\u200bwidth\u200d\ufeff\u00ad\u2060", "日本語のテキストは幅が広い日本語のテキスト",
		"Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘", "👨‍👩‍👧‍👦👍🏽🇩🇪✈️", "\u3164\u115f\u2800\u00a0x", "\xff\xfe\xc0", strings.Repeat("wide日", 400), "\U000e0041tag", "\u0600prefix", "\u2028line\u2029paragraph",
	}
}

// Key is a key by the name that bubbletea gives it; other text is typed at once.
func Key(name string) tea.KeyMsg {
	types := map[string]tea.KeyType{"enter": tea.KeyEnter, "esc": tea.KeyEsc, "tab": tea.KeyTab, "up": tea.KeyUp, "down": tea.KeyDown, "left": tea.KeyLeft, "right": tea.KeyRight,
		"pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown, "home": tea.KeyHome, "end": tea.KeyEnd, "backspace": tea.KeyBackspace, "ctrl+c": tea.KeyCtrlC, "ctrl+r": tea.KeyCtrlR,
		"ctrl+w": tea.KeyCtrlW, "ctrl+u": tea.KeyCtrlU, "ctrl+k": tea.KeyCtrlK, "ctrl+a": tea.KeyCtrlA, "delete": tea.KeyDelete, "f1": tea.KeyF1,
		"ctrl+p": tea.KeyCtrlP, "ctrl+n": tea.KeyCtrlN}
	if k, ok := types[name]; ok {
		return tea.KeyMsg{Type: k}
	}
	if name == " " {
		return tea.KeyMsg{Type: tea.KeySpace, Runes: []rune{' '}}
	}
	return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(name)}
}

// Fits fails the test unless a screen without styles has exactly its lines, none wider than it, and
// nothing in them that a terminal would act on or not show.
func Fits(t *testing.T, view string, width, height int) {
	t.Helper()
	lines := strings.Split(view, "\n")
	if len(lines) != height {
		t.Errorf("%dx%d: %d lines", width, height, len(lines))
	}
	for _, l := range lines {
		if n := max(tui.Cells(l), ansi.StringWidth(l)); n > width {
			t.Errorf("%dx%d: a line has %d cells: %q", width, height, n, l)
		}
		for _, r := range l {
			if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co) || r == 0xfe0f || unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("%dx%d: %U is on the screen: %q", width, height, r, l)
			}
		}
	}
}
