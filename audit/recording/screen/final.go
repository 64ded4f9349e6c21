package screen

import (
	"bytes"
	"hash/maphash"
	"strings"
	"time"
)

// How long a line must have been readable to count when it is overwritten: every state of a
// progress bar is not a line. On the alternate screen people page through text, and what comes
// again is left out there anyway.
const (
	stood    = time.Second
	stoodAlt = 200 * time.Millisecond
)

// losing is called before columns x0 to x1-1 of a row are overwritten or erased. Where something
// readable goes that is not out yet, the line is given out first.
func (t *terminal) losing(y, x0, x1 int, always bool) {
	r := t.on.rows[y]
	if !r.dirty || !always && !t.hasStood(r) || r.blank(x0, x1) {
		return
	}
	start, end := t.logical(y)
	t.give(t.on, start, end, true)
}

func (t *terminal) hasStood(r *row) bool {
	if t.on.alt {
		return t.now-r.at >= stoodAlt
	}
	return t.now-r.at >= stood
}

// logical returns the rows start to end-1 that make one line with row y.
func (t *terminal) logical(y int) (start, end int) {
	rows := t.on.rows
	start, end = y, y+1
	defer func() { t.work.spend(end - start) }()
	for start > 0 && rows[start-1].wrapped {
		start--
	}
	for end < len(rows) && rows[end-1].wrapped {
		end++
	}
	return start, end
}

// scrolledOff takes row i leave, all above having left. A line that goes on in the next row waits for it.
func (t *terminal) scrolledOff(i int) {
	b := t.on
	b.first = i
	first := b.rows[i]
	if !first.wrapped {
		t.give(b, i, i+1, b.alt)
		return
	}
	if !first.dirty && len(b.carry) == 0 {
		return
	}
	b.carry = first.appendText(b.carry, t.marked)
	b.since = max(b.since, first.at)
	first.dirty = false
	t.work.spend(len(first.cells))
	if len(b.carry) >= maxText {
		t.out(b, b.carry, b.since, b.alt)
		b.carry, b.since = b.carry[:0], 0
	}
}

// flush gives out every line of rows from to to-1 that is not out yet.
func (t *terminal) flush(b *buffer, from, to int, once bool) {
	t.work.spend(max(to-from, 0))
	for start := from; start < to; {
		end := start + 1
		for end < to && b.rows[end-1].wrapped {
			end++
		}
		t.give(b, start, end, once)
		start = end
	}
}

// give gives out the line that rows start to end-1 make. With once set it is left out where it was
// seen lately.
func (t *terminal) give(b *buffer, start, end int, once bool) {
	line, at, fresh := t.line[:0], time.Duration(0), false
	if len(b.carry) > 0 && start == b.first {
		line, at, fresh = append(line, b.carry...), b.since, true
		b.carry, b.since = b.carry[:0], 0
	}
	for _, r := range b.rows[start:end] {
		fresh = fresh || r.dirty
	}
	if !fresh {
		return
	}
	for _, r := range b.rows[start:end] {
		t.work.spend(len(r.cells))
		line = r.appendText(line, t.marked)
		at = max(at, r.at)
		r.dirty = false
	}
	t.line = line
	t.out(b, line, at, once)
}

// out cuts what is too long and hands the lines on. Lines that stand on the main screen together
// are no repetitions of each other.
func (t *terminal) out(b *buffer, line []byte, at time.Duration, once bool) {
	for text := range cut(string(bytes.TrimRight(line, " "))) {
		if strings.TrimSpace(text) == "" {
			continue
		}
		if known, before := t.seen.add(text); !once || !before && (!known || !b.alt) {
			t.yield(Line{Offset: at, Text: text})
		}
	}
}

// end gives out what still stands, the hidden screen first.
func (t *terminal) end() {
	t.seen.turn()
	if t.on.alt {
		t.flush(t.main, 0, len(t.main.rows), false)
	}
	t.flush(t.on, 0, t.height(), t.on.alt)
}

// memorySize is how many of a terminal's lines are remembered.
const memorySize = 2000

// memory knows the last lines by their hashes.
type memory struct {
	seed  maphash.Seed
	turns map[uint64]int // the turn in which a line was seen last
	ring  []uint64
	next  int
	now   int
}

func newMemory() *memory { return &memory{seed: maphash.MakeSeed(), turns: map[uint64]int{}} }

// turn begins a new turn: a piece of output, or a sequence in it.
func (m *memory) turn() { m.now++ }

// add remembers a line and reports whether it was known, and whether from an earlier turn.
func (m *memory) add(text string) (known, before bool) {
	h := maphash.String(m.seed, text)
	turn, known := m.turns[h]
	m.turns[h] = m.now
	if known {
		return true, turn != m.now
	}
	if len(m.ring) < memorySize {
		m.ring = append(m.ring, h)
		return false, false
	}
	delete(m.turns, m.ring[m.next])
	m.ring[m.next] = h
	m.next = (m.next + 1) % memorySize
	return false, false
}
