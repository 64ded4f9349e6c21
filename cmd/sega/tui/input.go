package tui

import (
	"strings"
	"unicode"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"
)

// Input is a line of text that is edited.
type Input struct {
	Text []rune
	At   int // the cursor stands before this rune

	limit int // bytes
}

// NewInput begins with a text, the cursor behind it. Limit is how many bytes it takes.
func NewInput(text string, limit int) Input {
	runes := []rune(strings.ToValidUTF8(text, "\uFFFD"))
	return Input{Text: runes, At: len(runes), limit: limit}
}

// String is the text.
func (l *Input) String() string { return string(l.Text) }

// Key edits, as a shell's line does. What is no key for it does nothing.
func (l *Input) Key(msg tea.KeyMsg) {
	if (msg.Type == tea.KeyRunes || msg.Type == tea.KeySpace) && !msg.Alt {
		l.insert(msg.Runes)
		return
	}
	switch msg.String() {
	case "backspace", "ctrl+h":
		l.remove(l.At-1, l.At)
	case "delete", "ctrl+d":
		l.remove(l.At, l.At+1)
	case "ctrl+w", "alt+backspace":
		l.remove(l.wordLeft(), l.At)
	case "alt+d":
		l.remove(l.At, l.wordRight())
	case "ctrl+u":
		l.remove(0, l.At)
	case "ctrl+k":
		l.remove(l.At, len(l.Text))
	case "left", "ctrl+b":
		l.At = max(l.At-1, 0)
	case "right", "ctrl+f":
		l.At = min(l.At+1, len(l.Text))
	case "alt+left", "ctrl+left", "alt+b":
		l.At = l.wordLeft()
	case "alt+right", "ctrl+right", "alt+f":
		l.At = l.wordRight()
	case "home", "ctrl+a":
		l.At = 0
	case "end", "ctrl+e":
		l.At = len(l.Text)
	}
}

func (l *Input) remove(from, to int) {
	from, to = max(from, 0), min(to, len(l.Text))
	l.Text = append(l.Text[:from:from], l.Text[to:]...)
	l.At = from
}

// insert takes what was typed or pasted; white space of any kind becomes a space, other controls go.
func (l *Input) insert(runes []rune) {
	room := l.limit - len(string(l.Text))
	var add []rune
	for _, r := range runes {
		switch {
		case unicode.IsSpace(r):
			r = ' '
		case unicode.IsControl(r) || !utf8.ValidRune(r):
			continue
		}
		if room -= utf8.RuneLen(r); room < 0 {
			break
		}
		add = append(add, r)
	}
	l.Text = append(l.Text[:l.At:l.At], append(add, l.Text[l.At:]...)...)
	l.At += len(add)
}

func (l *Input) wordLeft() int {
	i := l.At
	for i > 0 && l.Text[i-1] == ' ' {
		i--
	}
	for i > 0 && l.Text[i-1] != ' ' {
		i--
	}
	return i
}

func (l *Input) wordRight() int {
	i := l.At
	for i < len(l.Text) && l.Text[i] == ' ' {
		i++
	}
	for i < len(l.Text) && l.Text[i] != ' ' {
		i++
	}
	return i
}

// View shows the part around the cursor in a width; the cursor itself only where focused.
func (l *Input) View(width int, focused bool, s Styles) string {
	shown := make([]string, len(l.Text)+1)
	for i, r := range l.Text {
		shown[i] = Clean(string(r))
	}
	shown[len(l.Text)] = " "
	from, room := l.At, width-Cells(shown[l.At])
	for from > 0 && room >= Cells(shown[from-1]) {
		from--
		room -= Cells(shown[from])
	}
	var b strings.Builder
	b.WriteString(strings.Join(shown[from:l.At], ""))
	if focused {
		b.WriteString(s.Cursor.Render(shown[l.At]))
	} else {
		b.WriteString(shown[l.At])
	}
	for i := l.At + 1; i < len(shown) && room >= Cells(shown[i]); i++ {
		b.WriteString(shown[i])
		room -= Cells(shown[i])
	}
	return b.String() + strings.Repeat(" ", max(room, 0))
}
