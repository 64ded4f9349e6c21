package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"

	"sega/audit"
	"sega/audit/store/backend"
)

// cell is what the events of one rollup share; a field that the cube does not know is zero.
type cell struct {
	day                               int64 // since 1970
	email, sub, target, kind, outcome string
}

// cellOf returns the cell of a row in the full cube: audit.RollupKeys in the columns' form.
func cellOf(row *audit.Row, ns int64) cell {
	c := row.Columns
	return cell{day: ns / nanosPerDay, email: c["email"], sub: c["sub"], target: audit.Target(c["resource"]), kind: c["kind"], outcome: c["outcome"]}
}

// event is one of the cell, as far as a cube knows it.
func (x cell) event() audit.Event {
	return audit.Event{Kind: x.kind, Outcome: audit.Outcome(x.outcome), Actor: audit.Actor{Email: x.email, Sub: x.sub}, Resource: x.target}
}

// of returns the cell in another cube.
func (x cell) of(c cube) cell {
	if !c.has("email") {
		x.email, x.sub = "", ""
	}
	if !c.has("target") {
		x.target = ""
	}
	return x
}

// compare orders cells by the cube's key. What a cube does not know is equal in all of its cells.
func (x cell) compare(y cell, c cube) int {
	for _, k := range c.key {
		n := cmp.Compare(x.day, y.day)
		if k != "day" {
			n = cmp.Compare(x.text(k), y.text(k))
		}
		if n != 0 {
			return n
		}
	}
	return 0
}

func (x cell) text(column string) string {
	switch column {
	case "email":
		return x.email
	case "sub":
		return x.sub
	case "target":
		return x.target
	case "kind":
		return x.kind
	}
	return x.outcome
}

// rollupsPerStatement is how many rollups one statement writes; the rest are written one by one.
const rollupsPerStatement = 32

// segment counts the events of the segment that is not complete yet, so that its rollups are
// written from memory when it is. It belongs to the edge of the log: it is true as long as the stamp is.
type segment map[cell]int64

// loadSegment counts the rows from..to-1.
func loadSegment(ctx context.Context, db backend.Querier, from, to int64) (segment, error) {
	full := cubes[len(cubes)-1]
	rows, err := db.QueryContext(ctx, full.derive(), from, to)
	if err != nil {
		return nil, fmt.Errorf("count events from %d: %w", from, err)
	}
	defer rows.Close()
	s := segment{}
	for rows.Next() {
		var x cell
		var n int64
		if err := rows.Scan(&x.day, &x.email, &x.sub, &x.target, &x.kind, &x.outcome, &n); err != nil {
			return nil, fmt.Errorf("count events from %d: %w", from, err)
		}
		s[x] = n
	}
	return s, rows.Err()
}

// rollup is how many events of a segment are of a cell of a cube.
type rollup struct {
	cube int // in cubes
	cell
	n int64
}

// rollups are those of a complete segment in the order in which they are written, which is the same
// whoever derives it: cube by cube, and in the order of its key, as neighbours share pages.
func (s segment) rollups() []rollup {
	var all []rollup
	for i, c := range cubes {
		from := len(all)
		for x, n := range s.of(c) {
			all = append(all, rollup{i, x, n})
		}
		slices.SortFunc(all[from:], func(x, y rollup) int { return x.compare(y.cell, c) })
	}
	return all
}

// rolling are the rollups of the last complete segment. They are written together with the events of
// the next one, a few for each: written at once they would hold up whoever appends the segment's last event for as
// long as two commits take. A reader adds those that are not written yet to the cubes (see waiting).
type rolling struct {
	done int      // are written,
	left []rollup // and these are not
}

// allWritten is done of a log of which every rollup is written.
const allWritten = -1

// roll writes n rollups, or as many as are left.
func (w *writer) roll(n int) error {
	if n <= 0 || len(w.rolling.left) == 0 {
		return nil
	}
	for r := &w.rolling; n > 0 && len(r.left) > 0; {
		i := r.left[0].cube
		some, put := 1, w.upsert[i].one
		if n >= rollupsPerStatement && len(r.left) >= rollupsPerStatement && r.left[rollupsPerStatement-1].cube == i {
			some, put = rollupsPerStatement, w.upsert[i].many
		}
		if err := put.run(arguments(r.left[:some])...); err != nil {
			return fmt.Errorf("into %s: %w", cubes[i].table(), err)
		}
		r.left, r.done, n = r.left[some:], r.done+some, n-some
	}
	done := int64(w.rolling.done)
	if len(w.rolling.left) == 0 {
		done = allWritten
	}
	return w.putRolling.run(done)
}

// arguments are those of a statement that adds rollups of one cube.
func arguments(rollups []rollup) []driver.Value {
	var args []driver.Value
	for _, r := range rollups {
		args = append(args, r.day)
		for _, k := range cubes[r.cube].key[1:] {
			args = append(args, r.text(k))
		}
		args = append(args, r.n)
	}
	return args
}

// rollUp counts the rows of requests, and writes rollups: those of a segment are all written when two
// thirds of the next one are there, and before its own in any case.
func (w *writer) rollUp(requests []*backend.Request) error {
	rows := 0
	for _, r := range requests {
		rows += len(r.Rows)
		for i := range r.Rows {
			w.segment[cellOf(&r.Rows[i], r.Times[i])]++
			if (r.Rows[i].Index+1)%audit.SegmentSize != 0 {
				continue
			}
			if err := w.roll(len(w.rolling.left)); err != nil {
				return err
			}
			w.rolling = rolling{left: w.segment.rollups()}
			clear(w.segment)
		}
	}
	all := w.rolling.done + len(w.rolling.left)
	return w.roll((rows*all*3/2 + audit.SegmentSize - 1) / audit.SegmentSize)
}

// waiting returns the rollups that a snapshot's cubes do not hold yet, and which of those of their
// segment is the first. upTo is what the rollups cover.
func waiting(ctx context.Context, db backend.Querier, upTo int64) (rolling, error) {
	var r rolling
	err := db.QueryRowContext(ctx, sqlGetRolling).Scan(&r.done)
	if err != nil || r.done == allWritten || upTo == 0 {
		return rolling{}, err
	}
	s, err := loadSegment(ctx, db, upTo-audit.SegmentSize, upTo)
	if err != nil {
		return rolling{}, err
	}
	if r.left = s.rollups(); r.done < 0 || r.done > len(r.left) {
		return rolling{}, fmt.Errorf("%d rollups of the events up to %d are said to be written, and they have %d: verify the log", r.done, upTo, len(r.left))
	}
	r.left = r.left[r.done:]
	return r, nil
}

// rollRest writes the rollups that wait.
func rollRest(ctx context.Context, db *sql.DB) error {
	h, err := loadHead(ctx, db)
	if err != nil {
		return err
	}
	rest, err := waiting(ctx, db, audit.RolledUp(h.Tree.N))
	if err != nil {
		return err
	}
	for i := range rest.left {
		args := []any{}
		for _, a := range arguments(rest.left[i : i+1]) {
			args = append(args, a)
		}
		if _, err := db.ExecContext(ctx, cubes[rest.left[i].cube].upsert(1), args...); err != nil {
			return err
		}
	}
	_, err = db.ExecContext(ctx, sqlPutRolling, allWritten)
	return err
}

// upsert writes rollups of one cube.
type upsert struct{ one, many *stmt }

// of sums up what the cube does not tell apart.
func (s segment) of(c cube) segment {
	sums := make(segment, len(s))
	for x, n := range s {
		sums[x.of(c)] += n
	}
	return sums
}
