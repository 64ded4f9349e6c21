package screen

// sequence implements sink: the sequences of ECMA-48 and xterm's ctlseqs that move text. Colours,
// reports and modes of keyboard and mouse change nothing that can be read.
func (t *terminal) sequence(s sequence) {
	t.seen.turn()
	switch {
	case t.work.over():
	case !s.csi:
		t.escape(s)
	case s.inter != 0:
	case s.prefix == '?':
		t.private(s)
	case s.prefix == 0:
		if !t.move(s) {
			t.edit(s)
		}
	}
}

func (t *terminal) escape(s sequence) {
	switch s.inter {
	case '(', ')':
		t.charset[s.inter-'('] = s.final
		return
	case 0:
	default:
		return
	}
	switch s.final {
	case 'D':
		t.lineFeed()
	case 'E':
		t.x = 0
		t.lineFeed()
	case 'M':
		t.reverseLineFeed()
	case 'H':
		t.setTab(true)
	case '7':
		t.saved = t.cursor
	case '8':
		t.restore()
	case 'c':
		t.switchTo(false)
		t.eraseAll()
		t.reset()
	}
}

// restore is DECRC.
func (t *terminal) restore() {
	t.cursor = t.saved
	t.restrain()
}

func (t *terminal) eraseAll() {
	t.flush(t.on, 0, t.height(), true)
	t.work.spend(t.height())
	for _, r := range t.on.rows {
		r.reset(t.now)
	}
}

// private is DECSET and DECRST, and DECSED and DECSEL, which erase all that is not protected.
func (t *terminal) private(s sequence) {
	switch s.final {
	case 'J', 'K':
		t.edit(s)
	case 'h', 'l':
		for _, mode := range s.params {
			t.privateMode(mode, s.final == 'h')
		}
	}
}

func (t *terminal) privateMode(mode int, on bool) {
	switch mode {
	case 6:
		t.origin = on
		t.moveAbs(0, 0)
	case 7:
		t.noWrap, t.wrapNext = !on, false
	case 47, 1047:
		t.switchTo(on)
	case 1048:
		t.saveOrRestore(on)
	case 1049:
		if on {
			t.saved = t.cursor
		}
		t.switchTo(on)
		if !on {
			t.restore()
		}
	}
}

func (t *terminal) saveOrRestore(save bool) {
	if save {
		t.saved = t.cursor
		return
	}
	t.restore()
}

// move runs what only moves the cursor, and reports whether it was that.
func (t *terminal) move(s sequence) bool {
	n := s.param(0, 1)
	switch s.final {
	case 'A':
		t.vertical(-n)
	case 'B', 'e':
		t.vertical(n)
	case 'C', 'a':
		t.horizontal(t.x + n)
	case 'D':
		t.horizontal(t.x - n)
	case 'E':
		t.vertical(n)
		t.x = 0
	case 'F':
		t.vertical(-n)
		t.x = 0
	case 'G', '`':
		t.horizontal(n - 1)
	case 'H', 'f':
		t.moveAbs(s.param(1, 1)-1, n-1)
	case 'I':
		t.tab(n)
	case 'Z':
		t.tab(-n)
	case 'd':
		t.moveAbs(t.x, n-1)
	case 's':
		t.saved = t.cursor
	case 'u':
		t.restore()
	default:
		return false
	}
	return true
}

func (t *terminal) horizontal(x int) {
	t.x, t.wrapNext = min(max(x, 0), t.cols-1), false
}

// vertical moves by rows and stops at a margin that it does not begin beyond.
func (t *terminal) vertical(n int) {
	lowest, highest := 0, t.height()-1
	if t.y >= t.top {
		lowest = t.top
	}
	if t.y <= t.bottom {
		highest = t.bottom
	}
	t.y, t.wrapNext = min(max(t.y+n, lowest), highest), false
}

// edit runs what changes the screen.
func (t *terminal) edit(s sequence) {
	n := s.param(0, 1)
	switch s.final {
	case '@':
		t.insertBlanks(n)
	case 'P':
		t.deleteChars(n)
	case 'X':
		t.erase(t.y, t.x, t.x+n, false)
	case 'J':
		t.eraseScreen(s.param(0, 0))
	case 'K':
		t.eraseLine(s.param(0, 0))
	case 'L':
		t.editRows(t.scrollDown, n)
	case 'M':
		t.editRows(t.scrollUp, n)
	case 'S':
		t.scrollUp(t.top, n)
	case 'T':
		t.scrollDown(t.top, n)
	case 'b':
		for range min(n, t.cols) {
			if t.last != 0 {
				t.print(t.last)
			}
		}
	case 'g':
		t.clearTabs(s.param(0, 0))
	case 'h', 'l':
		t.modes(s)
	case 'r':
		t.setMargins(n-1, s.param(1, t.height())-1)
	}
}

// editRows inserts or deletes rows at the cursor, which has no effect outside of the margins.
func (t *terminal) editRows(scroll func(from, n int), n int) {
	if t.y >= t.top && t.y <= t.bottom {
		scroll(t.y, n)
		t.x, t.wrapNext = 0, false
	}
}

func (t *terminal) clearTabs(how int) {
	switch how {
	case 0:
		t.setTab(false)
	case 3:
		t.tabs = map[int]bool{}
	}
}

func (t *terminal) modes(s sequence) {
	for _, mode := range s.params {
		switch mode {
		case 4:
			t.insert = s.final == 'h'
		case 20:
			t.newline = s.final == 'h'
		}
	}
}

// setMargins is DECSTBM; margins without room between them are refused.
func (t *terminal) setMargins(top, bottom int) {
	bottom = min(bottom, t.height()-1)
	if top < bottom {
		t.top, t.bottom = top, bottom
		t.moveAbs(0, 0)
	}
}
