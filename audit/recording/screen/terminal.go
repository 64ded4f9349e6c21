package screen

import (
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// Bounds of a screen, whatever the recorded side says of its size.
const (
	maxCols, maxRows   = 1000, 1000
	maxCells           = 200_000
	defaultC, defaultR = 80, 24
	maxMarked          = 4096 // different characters with marks
	maxMarkBytes       = 32   // of one
	tabWidth           = 8
	newRow             = 64 // units of work
	tabWork            = 8  // of a stop that is looked up or set
)

// buffer is the main or the alternate screen.
type buffer struct {
	rows  []*row
	alt   bool
	carry []byte // what has scrolled off of the line that rows[first] continues
	first int    // 0, but while several rows scroll off
	since time.Duration
}

// cursor is what is saved and restored together (DECSC).
type cursor struct {
	x, y     int
	wrapNext bool // the last column was written: the next character wraps
	origin   bool // rows count from the top margin
	shift    int  // which of charset is in use
	charset  [2]byte
}

// terminal draws a stream and gives out lines as they become final.
type terminal struct {
	cursor
	saved       cursor
	cols        int
	top, bottom int // margins
	main, alt   *buffer
	on          *buffer // main or alt
	noWrap      bool
	insert      bool
	newline     bool // a line feed returns the carriage, too (LNM)
	tabs        map[int]bool
	last        rune // printed last, for REP
	widths      runewidth.Condition

	marked []string // characters with marks
	marks  map[string]cell

	work  *work
	now   time.Duration
	seen  *memory
	yield func(Line)
	line  []byte
	gone  []*row // for scrolling
}

// newTerminal returns a screen of a size, within bounds, which draws as far as w goes; yield gets each
// line without its channel.
func newTerminal(cols, rows int, w *work, yield func(Line)) *terminal {
	cols, rows = clampSize(cols, rows)
	w.spend(newRow * rows)
	t := &terminal{cols: cols, main: newBuffer(rows, false), alt: newBuffer(rows, true), marks: map[string]cell{}, work: w, seen: newMemory(), yield: yield}
	t.on = t.main
	t.reset()
	return t
}

func newBuffer(rows int, alt bool) *buffer {
	b := &buffer{alt: alt, rows: make([]*row, rows)}
	for i := range b.rows {
		b.rows[i] = &row{}
	}
	return b
}

func clampSize(cols, rows int) (int, int) {
	if cols <= 0 {
		cols = defaultC
	}
	if rows <= 0 {
		rows = defaultR
	}
	cols, rows = min(cols, maxCols), min(rows, maxRows)
	return cols, min(rows, maxCells/cols)
}

// reset is RIS without erasing.
func (t *terminal) reset() {
	t.cursor, t.saved = cursor{}, cursor{}
	t.top, t.bottom = 0, t.height()-1
	t.noWrap, t.insert, t.newline, t.last = false, false, false, 0
	t.tabs = nil
}

func (t *terminal) height() int { return len(t.on.rows) }

func (t *terminal) row() *row { return t.on.rows[t.y] }

// print implements sink.
func (t *terminal) print(r rune) {
	if t.work.spend(1); t.work.over() {
		return
	}
	if t.charset[t.shift] == '0' && r >= '`' && r <= '~' {
		r = lineDrawing[r-'`']
	}
	width := t.widths.RuneWidth(r)
	if width == 0 {
		t.mark(r)
		return
	}
	width = min(width, t.cols)
	t.last = r
	if t.wrapNext || t.x+width > t.cols {
		t.wrap(width)
	}
	if t.insert {
		t.insertBlanks(width)
	}
	t.put(cell(r), width)
	if t.x += width; t.x >= t.cols {
		t.x, t.wrapNext = t.cols-1, !t.noWrap
	}
}

// wrap goes on in the next row, or with wrapping off stays in the last columns.
func (t *terminal) wrap(width int) {
	if t.noWrap {
		t.x = t.cols - width
		return
	}
	t.row().wrapped = true
	t.x = 0
	t.lineFeed()
}

// put writes a character into the cells under the cursor.
func (t *terminal) put(c cell, width int) {
	r := t.row()
	t.losing(t.y, t.x, t.x+width, false)
	t.split(t.x)
	t.split(t.x + width)
	changed := r.set(t.x, c)
	if width == 2 {
		changed = r.set(t.x+1, rightHalf) || changed
	}
	if t.x+width >= t.cols {
		r.wrapped = false
	}
	if changed {
		t.touch(r)
	}
}

// split erases a wide character of which column x is the right half.
func (t *terminal) split(x int) {
	if r := t.row(); r.get(x) == rightHalf {
		r.set(x-1, 0)
		r.set(x, 0)
	}
}

func (t *terminal) touch(r *row) { r.dirty, r.at = true, t.now }

// mark puts a combining mark on the character before the cursor. Other characters without a width
// are not seen, and would hide a word from a search.
func (t *terminal) mark(m rune) {
	if !unicode.Is(unicode.M, m) && m != '\u200d' {
		return
	}
	x := t.x
	if !t.wrapNext {
		x--
	}
	r := t.row()
	if r.get(x) == rightHalf {
		x--
	}
	base := r.get(x)
	if base == 0 || base == ' ' || base == rightHalf {
		return
	}
	text := string(rune(base))
	if base < rightHalf {
		text = t.marked[rightHalf-1-base]
	}
	if c, ok := t.intern(text + string(m)); ok {
		r.set(x, c)
		t.touch(r)
	}
}

// intern returns the cell of a character with marks.
func (t *terminal) intern(text string) (cell, bool) {
	c, ok := t.marks[text]
	if !ok && len(t.marked) < maxMarked && len(text) <= maxMarkBytes {
		c, ok = rightHalf-1-cell(len(t.marked)), true
		t.marked = append(t.marked, text)
		t.marks[text] = c
	}
	return c, ok
}

// control implements sink.
func (t *terminal) control(b byte) {
	if t.work.over() {
		return
	}
	switch b {
	case '\b':
		t.x, t.wrapNext = max(t.x-1, 0), false
	case '\t':
		t.tab(1)
	case '\n', '\v', '\f':
		t.lineFeed()
		if t.newline {
			t.x = 0
		}
	case '\r':
		t.x, t.wrapNext = 0, false
	case 0x0e, 0x0f: // SO, SI
		t.shift = int(0x0f - b)
	}
}

// tab moves to the n-th tab stop ahead, or back.
func (t *terminal) tab(n int) {
	from := t.x
	t.wrapNext = false
	for ; n > 0 && t.x < t.cols-1; n-- {
		for t.x++; t.x < t.cols-1 && !t.stop(t.x); t.x++ {
		}
	}
	for ; n < 0 && t.x > 0; n++ {
		for t.x--; t.x > 0 && !t.stop(t.x); t.x-- {
		}
	}
	t.work.spend(tabWork * max(t.x-from, from-t.x))
}

func (t *terminal) stop(x int) bool {
	if t.tabs == nil {
		return x%tabWidth == 0
	}
	return t.tabs[x]
}

// setTab sets or clears the stop at the cursor.
func (t *terminal) setTab(on bool) {
	if t.tabs == nil {
		t.tabs = map[int]bool{}
		t.work.spend(tabWork * maxCols / tabWidth)
		for x := 0; x < maxCols; x += tabWidth {
			t.tabs[x] = true
		}
	}
	t.tabs[t.x] = on
}

// lineDrawing is the special graphic set of the VT100, from ` to ~.
var lineDrawing = [...]rune{'◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺',
	'⎻', '─', '⎼', '⎽', '├', '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·'}
