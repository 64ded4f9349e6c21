package browse

import (
	"strings"
	"unicode"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"
)

// input is a line of text that is edited.
type input struct {
	text  []rune
	at    int // the cursor stands before this rune
	limit int // bytes
}

func newInput(text string, limit int) input {
	runes := []rune(strings.ToValidUTF8(text, "\uFFFD"))
	return input{text: runes, at: len(runes), limit: limit}
}

func (l *input) String() string { return string(l.text) }

// key edits, as a shell's line does. What is no key for it does nothing.
func (l *input) key(msg tea.KeyMsg) {
	if (msg.Type == tea.KeyRunes || msg.Type == tea.KeySpace) && !msg.Alt {
		l.insert(msg.Runes)
		return
	}
	switch msg.String() {
	case "backspace", "ctrl+h":
		l.remove(l.at-1, l.at)
	case "delete", "ctrl+d":
		l.remove(l.at, l.at+1)
	case "ctrl+w", "alt+backspace":
		l.remove(l.wordLeft(), l.at)
	case "alt+d":
		l.remove(l.at, l.wordRight())
	case "ctrl+u":
		l.remove(0, l.at)
	case "ctrl+k":
		l.remove(l.at, len(l.text))
	case "left", "ctrl+b":
		l.at = max(l.at-1, 0)
	case "right", "ctrl+f":
		l.at = min(l.at+1, len(l.text))
	case "alt+left", "ctrl+left", "alt+b":
		l.at = l.wordLeft()
	case "alt+right", "ctrl+right", "alt+f":
		l.at = l.wordRight()
	case "home", "ctrl+a":
		l.at = 0
	case "end", "ctrl+e":
		l.at = len(l.text)
	}
}

func (l *input) remove(from, to int) {
	from, to = max(from, 0), min(to, len(l.text))
	l.text = append(l.text[:from:from], l.text[to:]...)
	l.at = from
}

// insert takes what was typed or pasted; white space of any kind becomes a space, other controls go.
func (l *input) insert(runes []rune) {
	room := l.limit - len(string(l.text))
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
	l.text = append(l.text[:l.at:l.at], append(add, l.text[l.at:]...)...)
	l.at += len(add)
}

func (l *input) wordLeft() int {
	i := l.at
	for i > 0 && l.text[i-1] == ' ' {
		i--
	}
	for i > 0 && l.text[i-1] != ' ' {
		i--
	}
	return i
}

func (l *input) wordRight() int {
	i := l.at
	for i < len(l.text) && l.text[i] == ' ' {
		i++
	}
	for i < len(l.text) && l.text[i] != ' ' {
		i++
	}
	return i
}

// view shows the part around the cursor in a width; the cursor itself only where focused.
func (l *input) view(width int, focused bool, s styles) string {
	shown := make([]string, len(l.text)+1)
	for i, r := range l.text {
		shown[i] = clean(string(r))
	}
	shown[len(l.text)] = " "
	from, room := l.at, width-cells(shown[l.at])
	for from > 0 && room >= cells(shown[from-1]) {
		from--
		room -= cells(shown[from])
	}
	var b strings.Builder
	b.WriteString(strings.Join(shown[from:l.at], ""))
	if focused {
		b.WriteString(s.cursor.Render(shown[l.at]))
	} else {
		b.WriteString(shown[l.at])
	}
	for i := l.at + 1; i < len(shown) && room >= cells(shown[i]); i++ {
		b.WriteString(shown[i])
		room -= cells(shown[i])
	}
	return b.String() + strings.Repeat(" ", max(room, 0))
}
