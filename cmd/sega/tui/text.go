package tui

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// marksLimit is how many combining marks one character may carry; more would paint over the lines around it.
const marksLimit = 2

// ellipsis stands where text was cut.
const ellipsis = "…"

// misleading are the characters that show nothing, or whose width terminals do not agree on:
// fillers and blanks, regional indicators, skin tones, variation selectors.
var misleading = &unicode.RangeTable{
	R16: []unicode.Range16{{0x00a0, 0x00a0, 1}, {0x115f, 0x1160, 1}, {0x17b4, 0x17b5, 1}, {0x1680, 0x1680, 1}, {0x180b, 0x180f, 1}, {0x2000, 0x200f, 1}, {0x202f, 0x202f, 1}, {0x205f, 0x205f, 1},
		{0x2800, 0x2800, 1}, {0x3164, 0x3164, 1}, {0xfe00, 0xfe0f, 1}, {0xffa0, 0xffa0, 1}},
	R32:         []unicode.Range32{{0x1f1e6, 0x1f1ff, 1}, {0x1f3fb, 0x1f3ff, 1}, {0xe0000, 0xe0fff, 1}},
	LatinOffset: 1,
}

// Clean makes one line of text from elsewhere that a terminal shows and does not obey: controls,
// bidirectional controls, and everything without a width of its own are written as \uXXXX.
func Clean(s string) string {
	var b strings.Builder
	marks := marksLimit // a mark without a character before it is shown as a number
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
			marks = marksLimit
		case r == '\t':
			b.WriteString(`\t`)
			marks = marksLimit
		case unicode.In(r, unicode.Mn, unicode.Me) && !unicode.Is(misleading, r) && runewidth.RuneWidth(r) == 0 && marks < marksLimit:
			b.WriteRune(r)
			marks++
		case !unicode.IsGraphic(r) || unicode.Is(misleading, r) || runewidth.RuneWidth(r) == 0:
			b.WriteString(number(r))
			marks = marksLimit
		default:
			b.WriteRune(r)
			marks = 0
		}
	}
	return b.String()
}

func number(r rune) string {
	if r > 0xffff {
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// Cells is the width of a clean text. It adds up runes, as the C library of a terminal does: never
// less than what is shown.
func Cells(s string) int {
	n := 0
	for _, r := range s {
		n += runewidth.RuneWidth(r)
	}
	return n
}

// Cut shortens a clean text to a width.
func Cut(s string, width int) string {
	if Cells(s) <= width {
		return s
	}
	room, n := width-Cells(ellipsis), 0
	if room < 0 {
		return strings.Repeat(".", max(width, 0))
	}
	for i, r := range s {
		if n += runewidth.RuneWidth(r); n > room {
			return s[:i] + ellipsis
		}
	}
	return s
}

// Fit is cut, and spaces up to the width.
func Fit(s string, width int) string {
	s = Cut(s, width)
	return s + strings.Repeat(" ", max(width-Cells(s), 0))
}

// Wrap breaks a clean text into lines of a width, at a space where one is near.
func Wrap(s string, width int) []string {
	width = max(width, 2)
	var lines []string
	start, n, space := 0, 0, -1 // of the line, its cells, behind its last space
	for i, r := range s {
		w := runewidth.RuneWidth(r)
		if n+w > width {
			end := i
			if space-start > (i-start)/2 {
				end = space
			}
			lines = append(lines, strings.TrimRight(s[start:end], " "))
			start, n, space = end, Cells(s[end:i]), -1
		}
		if n += w; r == ' ' {
			space = i + 1
		}
	}
	return append(lines, s[start:])
}

// Clip bounds a text by runes, so that a long one costs nothing.
func Clip(s string, runes int) string {
	for i := range s {
		if runes--; runes < 0 {
			return s[:i] + ellipsis
		}
	}
	return s
}
