package tui_test

import (
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"

	"sega/cmd/sega/tui"
	"sega/cmd/sega/tui/tuitest"
)

// TestInput edits a line by keys.
func TestInput(t *testing.T) {
	for name, c := range map[string]struct {
		keys []string
		want string
		at   int
	}{
		"type":               {[]string{"a", "b", " ", "日"}, "ab 日", 4},
		"back":               {[]string{"a", "b", "backspace"}, "a", 1},
		"back at the start":  {[]string{"a", "ctrl+a", "backspace"}, "a", 0},
		"delete":             {[]string{"a", "b", "home", "delete"}, "b", 0},
		"delete at the end":  {[]string{"a", "delete"}, "a", 1},
		"insert":             {[]string{"a", "c", "left", "b"}, "abc", 2},
		"a word":             {[]string{"a", "b", " ", "c", "d", " ", "ctrl+w"}, "ab ", 3},
		"to the start":       {[]string{"a", "b", "left", "ctrl+u"}, "b", 0},
		"to the end":         {[]string{"a", "b", "left", "ctrl+k"}, "a", 1},
		"beyond both ends":   {[]string{"left", "a", "right", "right", "b"}, "ab", 2},
		"end":                {[]string{"a", "b", "home", "end", "c"}, "abc", 3},
		"more than it takes": {[]string{strings.Repeat("日", 30)}, strings.Repeat("日", 10), 10},
	} {
		t.Run(name, func(t *testing.T) {
			l := tui.NewInput("", 30)
			for _, k := range c.keys {
				l.Key(tuitest.Key(k))
			}
			if l.String() != c.want || l.At != c.at {
				t.Errorf("%q at %d, want %q at %d", l.String(), l.At, c.want, c.at)
			}
		})
	}
}

// FuzzInput: whatever is typed and wherever the cursor goes, the line is as wide as its place, and
// the text stays within its limit.
func FuzzInput(f *testing.F) {
	f.Add("user:alice \x1b[D日本", "lrlbdwuk", 10)
	f.Add("", "bdwuk", 1)
	f.Fuzz(func(t *testing.T, text, moves string, width int) {
		width = max(min(width, 200), 12) // of the widest escape
		l := tui.NewInput("", 64)
		l.Key(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(text)})
		for _, r := range moves {
			if k, ok := map[rune]string{'l': "left", 'r': "right", 'b': "backspace", 'd': "delete", 'w': "ctrl+w", 'u': "ctrl+u", 'k': "ctrl+k", 'h': "home", 'e': "end"}[r]; ok {
				l.Key(tuitest.Key(k))
			}
			if l.At < 0 || l.At > len(l.Text) || len(l.String()) > 64 {
				t.Fatalf("at %d of %q", l.At, l.String())
			}
			if shown := l.View(width, true, tui.NewStyles(false, true)); tui.Cells(shown) != width {
				t.Fatalf("%q has %d cells, not %d", shown, tui.Cells(shown), width)
			}
		}
	})
}
