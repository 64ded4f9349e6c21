package bastion

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"sega/broker/api"
)

const (
	maxText = 400 // bytes of somebody else's words that a person or an event gets to see
	maxClip = 64
)

// printable escapes control characters: others wrote these words, and a terminal would obey them.
func printable(s string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		if b.Len() >= maxText {
			b.WriteString("...")
			break
		}
		if unicode.IsControl(r) || !unicode.IsPrint(r) && r != ' ' {
			fmt.Fprintf(&b, "\\u%04x", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// maxLines bounds what the operators have the bastion say.
const maxLines = 4 << 10

// plainLines reports whether text may go to a stranger's terminal as it is.
func plainLines(text string) bool {
	return len(text) <= maxLines && utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return r != '\n' && r != '\t' && !unicode.IsPrint(r)
	})
}

// terminalLines ends each line, the last too, as a terminal in raw mode needs it.
func terminalLines(text string) string {
	if text == "" {
		return ""
	}
	return strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\r\n") + "\r\n"
}

// clip shortens what somebody else wrote.
func clip(s string) string {
	if len(s) <= maxClip {
		return s
	}
	return s[:maxClip] + "..."
}

// explain returns what a person reads about an error: its words, and what to do next on a line of its own.
func explain(err error) []string {
	lines := []string{"sega: " + printable(err.Error())}
	var p *api.Problem
	if errors.As(err, &p) && p.Hint != "" {
		lines = append(lines, "sega: "+printable(p.Hint))
	}
	var h hintedError
	if errors.As(err, &h) {
		lines = append(lines, "sega: "+h.hint)
	}
	return lines
}

// hintedError carries what to type next.
type hintedError struct {
	err  error
	hint string
}

func (h hintedError) Error() string { return h.err.Error() }
func (h hintedError) Unwrap() error { return h.err }

func hint(err error, format string, args ...any) error {
	return hintedError{err: err, hint: fmt.Sprintf(format, args...)}
}
