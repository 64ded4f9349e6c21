package columns

import (
	"bufio"
	"io"
	"strings"
	"unicode/utf8"
)

// Page is how many rows are looked at before the first is printed, to align them.
const Page = 200

// gap is between two columns, and before what is folded.
const gap = "  "

// Table prints rows of any number: the first of them make the widths, and what comes later is printed as it comes; a cell that is
// wider moves those beside it. For a terminal that is narrower the columns are folded, so that each row takes several lines, and prose
// in the last one is broken at spaces. Nothing is cut off.
type Table struct {
	out    *bufio.Writer
	cells  int        // of the terminal's width; 0: no limit
	widths []int      // of the columns
	words  []int      // the longest word of each
	held   [][]string // the header and rows, not printed yet; nil once the widths stand
	starts []int      // the columns with which a line begins, once the widths stand
}

// New prints a table to w, as wide as that is where it is a terminal.
func New(w io.Writer, header ...string) *Table {
	t := &Table{out: bufio.NewWriterSize(w, 32<<10), cells: Width(w), widths: make([]int, len(header)), words: make([]int, len(header)), held: [][]string{}}
	t.hold(header)
	return t
}

// Row takes a row of as many cells as the header has, or less. A cell is one line, fit for a terminal.
func (t *Table) Row(cells ...string) error {
	if t.held == nil {
		return t.print(cells)
	}
	if t.hold(cells); len(t.held) <= Page {
		return nil
	}
	return t.release()
}

func (t *Table) hold(cells []string) {
	for i, cell := range cells {
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		for word := range strings.FieldsSeq(cell) {
			t.words[i] = max(t.words[i], utf8.RuneCountInString(word))
		}
	}
	t.held = append(t.held, cells)
}

// release prints what is held; from now on rows are printed as they come.
func (t *Table) release() error {
	t.starts = t.fold()
	held := t.held
	t.held = nil
	for _, cells := range held {
		if err := t.print(cells); err != nil {
			return err
		}
	}
	return nil
}

// fold finds the columns with which a line begins.
func (t *Table) fold() []int {
	starts := []int{0}
	at := 0 // where the next column begins
	for i, width := range t.widths {
		if i == len(t.widths)-1 {
			width = min(width, max(t.words[i], leastProse)) // it is broken at spaces
		}
		if i > 0 && t.cells > 0 && at+width > t.cells {
			starts = append(starts, i)
			at = len(gap)
		}
		at += t.widths[i] + len(gap)
	}
	return starts
}

// print writes one row, a line for each part of it that has something.
func (t *Table) print(cells []string) error {
	for n, from := range t.starts {
		to := len(cells)
		if n < len(t.starts)-1 {
			to = min(to, t.starts[n+1])
		}
		if n > 0 && strings.Join(cells[min(from, to):to], "") == "" {
			continue
		}
		indent := ""
		if n > 0 {
			indent = gap
		}
		if err := t.line(indent, cells, from, to); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) line(indent string, cells []string, from, to int) error {
	var b strings.Builder
	b.WriteString(indent)
	at := len(indent)
	for i := from; i < to; i++ {
		cell := cells[i]
		if i == len(t.widths)-1 && t.cells > 0 {
			cell = wrap(cell, at, t.cells)
		}
		b.WriteString(cell)
		if i < to-1 {
			pad := max(0, t.widths[i]-utf8.RuneCountInString(cell)) + len(gap)
			b.WriteString(strings.Repeat(" ", pad))
			at += utf8.RuneCountInString(cell) + pad
		}
	}
	return t.Write(strings.TrimRight(b.String(), " ") + "\n")
}

// Write prints text as it is, behind the rows that were printed.
func (t *Table) Write(text string) error {
	_, err := t.out.WriteString(text)
	return err
}

// Salvage prints what came before an error, and no header alone.
func (t *Table) Salvage() error {
	if len(t.held) == 1 {
		t.held = nil
	}
	return t.Flush()
}

// Flush prints all that was taken.
func (t *Table) Flush() error {
	if err := t.release(); err != nil {
		return err
	}
	return t.Send()
}

// Send hands on what was printed.
func (t *Table) Send() error { return t.out.Flush() }
