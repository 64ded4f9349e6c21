package columns

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// leastProse is how wide the last column is at the least where its words are shorter: below that it gets a line of its own.
const leastProse = 20

// Width is that of the terminal which w is, in cells; 0 where it is none.
func Width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// wrap breaks a line that begins at a column of a terminal of so many cells, at spaces alone: a word that is longer stays whole, so
// that it can be copied.
func wrap(s string, at, cells int) string {
	if at+utf8.RuneCountInString(s) <= cells {
		return s
	}
	var b strings.Builder
	is := at
	for word := range strings.SplitSeq(s, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case b.Len() == 0:
		case is+1+n > cells:
			b.WriteString("\n" + strings.Repeat(" ", at))
			is = at
		default:
			b.WriteByte(' ')
			is++
		}
		b.WriteString(word)
		is += n
	}
	return b.String()
}
