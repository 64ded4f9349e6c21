package screen

import (
	"strings"
	"time"
	"unicode/utf8"
)

// maxText bounds a line, in bytes: a longer one is cut into several.
const maxText = 16 << 10

// cell is what stands in one column: a character, nothing (0), the right half of a wide character
// or, below that, a character with marks on it, by its place in the terminal's list.
type cell int32

const rightHalf cell = -1

// row is a line of the screen. Its cells end with the last that was ever written.
type row struct {
	cells   []cell
	at      time.Duration // when it changed last
	dirty   bool          // it has changed since it was given out
	wrapped bool          // the next row continues it
}

// set writes a cell and reports whether that changed anything.
func (r *row) set(x int, c cell) bool {
	if x >= len(r.cells) {
		if c == 0 {
			return false
		}
		r.cells = append(r.cells, make([]cell, x+1-len(r.cells))...)
	}
	changed := r.cells[x] != c
	r.cells[x] = c
	return changed
}

func (r *row) get(x int) cell {
	if x < 0 || x >= len(r.cells) {
		return 0
	}
	return r.cells[x]
}

// blank reports whether there is nothing in columns x0 to x1-1.
func (r *row) blank(x0, x1 int) bool {
	for x := x0; x < min(x1, len(r.cells)); x++ {
		if c := r.cells[x]; c != 0 && c != ' ' {
			return false
		}
	}
	return true
}

// appendText appends the row's text to b, without white space at its end unless the next row
// continues it.
func (r *row) appendText(b []byte, marked []string) []byte {
	start := len(b)
	for _, c := range r.cells {
		switch {
		case c == 0:
			b = append(b, ' ')
		case c > 0:
			b = utf8.AppendRune(b, rune(c))
		case c < rightHalf:
			b = append(b, marked[rightHalf-1-c]...)
		}
	}
	if !r.wrapped {
		b = append(b[:start], strings.TrimRight(string(b[start:]), " ")...)
	}
	return b
}

// reset makes an empty row of it.
func (r *row) reset(at time.Duration) { *r = row{cells: r.cells[:0], at: at} }
