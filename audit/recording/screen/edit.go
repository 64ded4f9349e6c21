package screen

import "slices"

// moveTo puts the cursor somewhere, within the screen or with origin mode within the margins.
func (t *terminal) moveTo(x, y int) {
	lowest, highest := 0, t.height()-1
	if t.origin {
		lowest, highest = t.top, t.bottom
	}
	t.x, t.y = min(max(x, 0), t.cols-1), min(max(y, lowest), highest)
	t.wrapNext = false
}

// moveAbs is moveTo with rows that origin mode counts from the top margin.
func (t *terminal) moveAbs(x, y int) {
	if t.origin {
		y += t.top
	}
	t.moveTo(x, y)
}

// lineFeed moves down, and scrolls at the bottom margin.
func (t *terminal) lineFeed() {
	t.wrapNext = false
	if t.y == t.bottom {
		t.scrollUp(t.top, 1)
	} else if t.y < t.height()-1 {
		t.y++
	}
}

func (t *terminal) reverseLineFeed() {
	t.wrapNext = false
	if t.y == t.top {
		t.scrollDown(t.top, 1)
	} else if t.y > 0 {
		t.y--
	}
}

// scrollUp drops n rows at from and adds empty ones at the bottom margin.
func (t *terminal) scrollUp(from, n int) {
	rows := t.on.rows[from : t.bottom+1]
	n = min(n, len(rows))
	t.work.spend(len(rows)/rowsMove + n)
	for i := range n {
		if from == 0 {
			t.scrolledOff(i)
		} else {
			t.leaving(from + i)
		}
	}
	t.on.first = 0
	t.gone = append(t.gone[:0], rows[:n]...)
	copy(rows, rows[n:])
	t.emptied(rows[len(rows)-n:])
}

// scrollDown adds n empty rows at from and drops those that pass the bottom margin.
func (t *terminal) scrollDown(from, n int) {
	rows := t.on.rows[from : t.bottom+1]
	n = min(n, len(rows))
	t.work.spend(len(rows)/rowsMove + n)
	for i := range n {
		t.losing(t.bottom-i, 0, t.cols, true)
		t.sever(from)
		t.sever(t.bottom - i)
	}
	t.gone = append(t.gone[:0], rows[len(rows)-n:]...)
	copy(rows[n:], rows)
	t.emptied(rows[:n])
}

// leaving takes row y leave from the middle of the screen: it is no part of a line any more.
func (t *terminal) leaving(y int) {
	t.losing(y, 0, t.cols, true)
	t.sever(y)
	t.on.rows[y].wrapped = false
}

// sever ends a line that goes on in row y.
func (t *terminal) sever(y int) {
	if y > 0 {
		t.on.rows[y-1].wrapped = false
	}
}

// emptied puts the rows that have gone, emptied, into rows.
func (t *terminal) emptied(rows []*row) {
	for i, r := range t.gone {
		r.reset(t.now)
		rows[i] = r
	}
}

// erase clears columns x0 to x1-1 of a row. always is for whole screens: what is on them counts as
// read, however short it stood.
func (t *terminal) erase(y, x0, x1 int, always bool) {
	r := t.on.rows[y]
	x0, x1 = max(x0, 0), min(x1, t.cols)
	t.work.spend(1 + max(min(x1, len(r.cells))-x0, 0))
	if !r.blank(x0, x1) {
		t.losing(y, x0, x1, always)
		t.touch(r)
	}
	if r.get(x0) == rightHalf {
		r.set(x0-1, 0)
	}
	if r.get(x1) == rightHalf {
		r.set(x1, 0)
	}
	if x1 >= len(r.cells) {
		r.cells = r.cells[:min(max(x0, 0), len(r.cells))]
	}
	for x := x0; x < min(x1, len(r.cells)); x++ {
		r.cells[x] = 0
	}
	if x1 == t.cols {
		r.wrapped = false
	}
}

// eraseScreen is ED.
func (t *terminal) eraseScreen(how int) {
	from, to := 0, t.height()
	switch how {
	case 0:
		from = t.y + 1
	case 1:
		to = t.y
	case 2:
	default:
		return
	}
	whole := how == 2 || how == 0 && t.x == 0
	t.beforeErasing(how, whole)
	if how != 2 {
		x0, x1 := t.x, t.cols
		if how == 1 {
			x0, x1 = 0, t.x+1
		}
		t.erase(t.y, x0, x1, true)
	}
	for y := from; y < to; y++ {
		t.erase(y, 0, t.cols, true)
	}
}

// beforeErasing gives out what ED is about to erase, as one piece: lines that stand on the screen
// together are not taken for repetitions of each other.
func (t *terminal) beforeErasing(how int, whole bool) {
	from, to := t.y, t.height()
	switch {
	case how == 2:
		from = 0
	case how == 1:
		from, to = 0, t.y+1
	case !whole:
		from = t.y + 1
	}
	t.flush(t.on, from, to, true)
}

// eraseLine is EL.
func (t *terminal) eraseLine(how int) {
	switch how {
	case 0:
		t.erase(t.y, t.x, t.cols, false)
	case 1:
		t.erase(t.y, 0, t.x+1, false)
	case 2:
		t.erase(t.y, 0, t.cols, false)
	}
}

// insertBlanks is ICH.
func (t *terminal) insertBlanks(n int) {
	r := t.row()
	n = min(n, t.cols-t.x)
	if t.x >= len(r.cells) || n == 0 {
		return
	}
	t.work.spend(len(r.cells) + n)
	t.losing(t.y, t.cols-n, t.cols, false)
	t.split(t.x)
	r.cells = slices.Insert(r.cells, t.x, make([]cell, n)...)
	t.trim(r)
	t.touch(r)
}

// deleteChars is DCH.
func (t *terminal) deleteChars(n int) {
	r := t.row()
	n = min(n, len(r.cells)-t.x)
	if n <= 0 {
		return
	}
	t.work.spend(len(r.cells))
	t.losing(t.y, t.x, t.x+n, false)
	t.split(t.x)
	t.split(t.x + n)
	r.cells = slices.Delete(r.cells, t.x, t.x+n)
	r.wrapped = false
	t.touch(r)
}

// trim cuts a row at the screen's edge.
func (t *terminal) trim(r *row) {
	if len(r.cells) <= t.cols {
		return
	}
	if r.cells[t.cols] == rightHalf {
		r.cells[t.cols-1] = 0
	}
	r.cells = r.cells[:t.cols]
}

// resize changes the size. Rows that no longer fit leave at the top as far as the cursor needs
// that, then at the bottom; columns are cut off, and nothing is wrapped anew, as xterm does it.
func (t *terminal) resize(cols, rows int) {
	cols, rows = clampSize(cols, rows)
	if cols == t.cols && rows == t.height() {
		return
	}
	t.work.spend(newRow * (rows + t.height()))
	t.top, t.bottom, t.wrapNext = 0, t.height()-1, false
	if excess := t.y - rows + 1; excess > 0 {
		t.scrollUp(0, excess)
		t.y -= excess
	}
	for _, b := range []*buffer{t.main, t.alt} {
		t.flush(b, 0, len(b.rows), b.alt)
		b.rows = b.rows[:min(rows, len(b.rows))]
		for len(b.rows) < rows {
			b.rows = append(b.rows, &row{at: t.now})
		}
	}
	t.cols = cols
	for _, r := range slices.Concat(t.main.rows, t.alt.rows) {
		t.trim(r)
	}
	t.bottom = rows - 1
	t.restrain()
}

// restrain keeps both cursors on the screen.
func (t *terminal) restrain() {
	for _, c := range []*cursor{&t.cursor, &t.saved} {
		c.x, c.y = min(c.x, t.cols-1), min(c.y, t.height()-1)
	}
}

// switchTo shows the main or the alternate screen.
func (t *terminal) switchTo(alt bool) {
	if t.on.alt == alt {
		return
	}
	t.flush(t.on, 0, t.height(), t.on.alt)
	t.work.spend(t.height())
	for _, r := range t.alt.rows {
		r.reset(t.now)
	}
	if t.on = t.main; alt {
		t.on = t.alt
	}
}
