package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store/backend"
)

// Bounds of the cube in memory.
const (
	maxCells    = 6_000_000 // of 8 bytes; a log of more is counted by SQL
	fewDays     = 40        // for which the cube is not read into memory: SQL answers as soon
	fewSegments = 64        // that are added from their events; behind by more, the cube is read anew
)

// memory is the full cube as numbers: SQL takes seconds to count millions of rollups by their
// texts. It is read from the stored rollups when the first question asks for so many of them, and follows the
// log from question to question, each in one snapshot with the rows that no rollup covers.
type memory struct {
	maxCells, fewSegments int64
	reading               *atomic.Bool  // the cube is being read: who can do without does not wait
	turn                  chan struct{} // holds a word while a question uses what follows

	upTo  int64 // events that are counted; 0 while nothing is
	large bool  // the cube has more than maxCells cells

	people, things names // texts joined by partMark
	numbers        map[[2]uint32]uint32
	cells          []cell // without day, by number
	days           map[int64][]counted
	size           int64 // of all days
}

// counted is how many events of a day are of a cell.
type counted struct{ cell, n uint32 }

func newMemory() *memory {
	return &memory{maxCells: maxCells, fewSegments: fewSegments, reading: &atomic.Bool{}, turn: make(chan struct{}, 1)}
}

func (m *memory) clear() {
	*m = memory{maxCells: m.maxCells, fewSegments: m.fewSegments, reading: m.reading, turn: m.turn, people: names{numbers: map[string]uint32{}}, things: names{numbers: map[string]uint32{}},
		numbers: map[[2]uint32]uint32{}, days: map[int64][]counted{}}
}

// take waits for the memory; give ends that.
func (m *memory) take(ctx context.Context) error {
	select {
	case m.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (m *memory) give() { <-m.turn }

// wide reports whether a question is worth reading the cube.
func wide(c cube, days run) bool { return c.name == audit.CubeFull && days.to-days.from > fewDays }

// wanted reports whether a question is one for the memory. Once it is filled it answers all.
func (m *memory) wanted(c cube, days run) bool { return !m.large && (m.upTo > 0 || wide(c, days)) }

// errLarge says that the cube does not fit into the memory.
var errLarge = errors.New("the cube has too many cells")

// follow counts what a snapshot's rollups cover, those included that wait. Where it fails the memory is empty.
func (m *memory) follow(ctx context.Context, db backend.Querier, upTo int64) error {
	var err error
	if m.upTo == 0 || upTo-m.upTo > m.fewSegments*audit.SegmentSize || m.size > m.maxCells {
		m.clear()
		m.reading.Store(true)
		err = m.read(ctx, db, upTo)
		m.reading.Store(false)
	} else if upTo > m.upTo {
		err = m.extend(ctx, db, upTo)
	}
	if err != nil {
		m.clear()
		m.large = errors.Is(err, errLarge)
		return err
	}
	m.upTo = upTo
	return nil
}

// extend counts the events from upTo on.
func (m *memory) extend(ctx context.Context, db backend.Querier, upTo int64) error {
	s, err := loadSegment(ctx, db, m.upTo, upTo)
	m.addAll(s)
	return err
}

// addAll counts cells of the full cube.
func (m *memory) addAll(s segment) {
	for x, n := range s {
		m.add(x.day, m.person(x.email, x.sub), m.things.number([]byte(x.target+partMark+x.kind+partMark+x.outcome)), n)
	}
}

// Marks of joined texts: bytes that are in no text of UTF-8, and so in none of an event.
const (
	partMark = "\xff"
	cellMark = "\xfe"
)

// read reads the cube. Cells of one person and day come as one text: a row of a result costs more
// than joining does.
func (m *memory) read(ctx context.Context, db backend.Querier, upTo int64) error {
	rows, err := db.QueryContext(ctx, `SELECT day, email, sub, group_concat(target || x'ff' || kind || x'ff' || outcome || x'ff' || n, x'fe')
		FROM rollup_full GROUP BY day, email, sub`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var day int64
		var email, sub string
		var joined []byte
		if err := rows.Scan(&day, &email, &sub, &joined); err != nil {
			return err
		}
		person := m.person(email, sub)
		for part := range bytes.SplitSeq(joined, []byte(cellMark)) {
			at := bytes.LastIndexByte(part, partMark[0])
			n, ok := decimal(part[at+1:])
			if at < 0 || !ok || bytes.Count(part[:at], []byte(partMark)) != 2 {
				return fmt.Errorf("a rollup of %s is none: verify the log", dayText(day))
			}
			m.add(day, person, m.things.number(part[:at]), n)
		}
		if m.size > m.maxCells {
			return errLarge
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rest, err := waiting(ctx, db, upTo)
	m.addAll(rest.of(len(cubes) - 1))
	return err
}

// decimal reads a count.
func decimal(digits []byte) (n int64, ok bool) {
	for _, c := range digits {
		if c < '0' || c > '9' || n > math.MaxUint32 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, len(digits) > 0
}

// names gives texts numbers.
type names struct {
	numbers map[string]uint32
	texts   []string
}

func (d *names) number(text []byte) uint32 {
	n, ok := d.numbers[string(text)]
	if !ok {
		n = uint32(len(d.texts))
		d.texts = append(d.texts, string(text))
		d.numbers[d.texts[n]] = n
	}
	return n
}

func (m *memory) person(email, sub string) uint32 {
	return m.people.number([]byte(email + partMark + sub))
}

// add counts n events of a day, a person and a thing: target, kind and outcome.
func (m *memory) add(day int64, person, thing uint32, n int64) {
	key := [2]uint32{person, thing}
	number, ok := m.numbers[key]
	if !ok {
		who, what := strings.Split(m.people.texts[person], partMark), strings.Split(m.things.texts[thing], partMark)
		number = uint32(len(m.cells))
		m.numbers[key] = number
		m.cells = append(m.cells, cell{email: who[0], sub: who[1], target: what[0], kind: what[1], outcome: what[2]})
	}
	m.days[day] = append(m.days[day], counted{number, uint32(n)})
	m.size++
}

// count counts days that a window holds whole.
func (m *memory) count(ctx context.Context, q query.Query, days run, t *tally) error {
	keys, groups := m.groups(q, t.by)
	at := slices.Index(t.by, query.ByDay)
	sums := make([]int64, len(keys))
	flush := func(day int64) error {
		for i, n := range sums {
			if n == 0 {
				continue
			}
			if at >= 0 {
				keys[i][at] = dayText(day)
			}
			if err := t.add(keys[i], n); err != nil {
				return err
			}
		}
		clear(sums)
		return nil
	}
	for day, list := range m.days {
		if day < days.from || day >= days.to {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, c := range list {
			if g := groups[c.cell]; g >= 0 {
				sums[g] += int64(c.n)
			}
		}
		if at >= 0 {
			if err := flush(day); err != nil {
				return err
			}
		}
	}
	return flush(0)
}

// groups returns the keys that a question tells apart, days left out, and which of them each cell
// has; -1 for cells that are not asked for.
func (m *memory) groups(q query.Query, by []query.Dimension) (keys [][]string, of []int32) {
	known := map[string]int32{}
	of = make([]int32, len(m.cells))
	for i, x := range m.cells {
		e := x.event()
		if of[i] = -1; !q.Match(0, e) {
			continue
		}
		key := make([]string, len(by))
		for j, d := range by {
			if d != query.ByDay {
				key[j] = d.Of(e)
			}
		}
		name := strings.Join(key, partMark)
		g, ok := known[name]
		if !ok {
			g = int32(len(keys))
			known[name], keys = g, append(keys, key)
		}
		of[i] = g
	}
	return keys, of
}
