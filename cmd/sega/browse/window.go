package browse

import (
	"slices"

	"sega/cmd/sega/tui"
)

// Bounds of the list in memory.
const (
	rowsLimit  = 5000
	bytesLimit = 64 << 20
)

// window is the part of the list that is in memory, newest first, and where one stands in it.
type window struct {
	rows   []row
	cursor int  // of the chosen row
	top    int  // the first row on the screen
	newer  bool // rows above were dropped, and can be had again
	older  bool // there may be more below
	bytes  int
	widths widths
}

// widths are the natural widths of columns, of all rows that were ever in the window: they do not
// jump when rows go.
type widths struct{ index, kind, who, what, reason int }

// replace begins anew with a first page.
func (w *window) replace(rows []row, more bool) {
	*w = window{older: more}
	w.insert(0, rows)
}

// appendOlder puts a page below, and drops at the top what is too much.
func (w *window) appendOlder(rows []row, more bool) {
	w.older = more
	w.insert(len(w.rows), rows)
	for w.tooMuch() && w.cursor > 0 {
		w.bytes -= w.rows[0].size()
		w.rows[0] = row{}
		w.rows = w.rows[1:]
		w.cursor, w.top, w.newer = w.cursor-1, max(w.top-1, 0), true
	}
}

// prependNewer puts rows above, and drops at the bottom what is too much. The cursor stays on its
// row, or at the top if it is there.
func (w *window) prependNewer(rows []row, more bool) {
	atTop := w.cursor == 0 && !w.newer
	w.newer = more
	w.insert(0, rows)
	if !atTop {
		w.cursor, w.top = w.cursor+len(rows), w.top+len(rows)
	}
	for last := len(w.rows) - 1; w.tooMuch() && last > w.cursor; last-- {
		w.bytes -= w.rows[last].size()
		w.rows[last] = row{}
		w.rows, w.older = w.rows[:last], true
	}
}

func (w *window) tooMuch() bool { return len(w.rows) > rowsLimit || w.bytes > bytesLimit }

func (w *window) insert(at int, rows []row) {
	w.rows = slices.Insert(w.rows, at, rows...)
	for _, r := range rows {
		w.bytes += r.size()
		w.widths.grow(r)
	}
	w.cursor = min(w.cursor, max(len(w.rows)-1, 0))
}

func (w *widths) grow(r row) {
	w.index = max(w.index, len(itoa(r.index)))
	w.kind = max(w.kind, tui.Cells(r.kind))
	w.who = max(w.who, tui.Cells(r.who))
	w.what = max(w.what, tui.Cells(r.what))
	w.reason = max(w.reason, tui.Cells(r.reason))
}

// move goes so many rows down, and keeps the cursor on a screen of a height.
func (w *window) move(by, height int) {
	w.cursor = max(min(w.cursor+by, len(w.rows)-1), 0)
	w.show(height)
}

// show scrolls so that the cursor is on a screen of a height, and the screen is full where it can be.
func (w *window) show(height int) {
	height = max(height, 1)
	w.top = min(w.top, w.cursor)
	w.top = max(w.top, w.cursor-height+1)
	w.top = max(min(w.top, len(w.rows)-height), 0)
}

// chosen is the row under the cursor.
func (w *window) chosen() (row, bool) {
	if len(w.rows) == 0 {
		return row{}, false
	}
	return w.rows[w.cursor], true
}

// visible are the rows on a screen of a height.
func (w *window) visible(height int) []row {
	return w.rows[w.top:min(w.top+max(height, 0), len(w.rows))]
}

// find is the place of an event in the window, -1 where it is not.
func (w *window) find(index int64) int {
	return slices.IndexFunc(w.rows, func(r row) bool { return r.index == index })
}
