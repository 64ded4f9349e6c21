package sqlite

import (
	"cmp"
	"context"
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

// rollUp counts the rows of requests, and writes the rollups of the segments that they complete.
func (w *writer) rollUp(requests []*backend.Request, size int64) error {
	complete := audit.RolledUp(size) // events
	for _, r := range requests {
		for i := range r.Rows {
			w.segment[cellOf(&r.Rows[i], r.Times[i])]++
			if r.Rows[i].Index != complete-1 {
				continue
			}
			for i, c := range cubes {
				if err := w.upsert[i].add(c, w.segment); err != nil {
					return fmt.Errorf("events up to %d into %s: %w", complete, c.table(), err)
				}
			}
			clear(w.segment)
		}
	}
	return nil
}

// upsert writes rollups of one cube.
type upsert struct{ one, many *stmt }

// add adds what the cells of a segment are in the cube, in the order of its key: neighbours share pages.
func (u upsert) add(c cube, s segment) error {
	counts := s.of(c)
	cells := make([]cell, 0, len(counts))
	for x := range counts {
		cells = append(cells, x)
	}
	slices.SortFunc(cells, func(x, y cell) int { return x.compare(y, c) })
	args := make([]driver.Value, 0, rollupsPerStatement*(len(c.key)+1))
	for len(cells) > 0 {
		n, put := 1, u.one
		if len(cells) >= rollupsPerStatement {
			n, put = rollupsPerStatement, u.many
		}
		args = args[:0]
		for _, x := range cells[:n] {
			args = append(args, x.day)
			for _, k := range c.key[1:] {
				args = append(args, x.text(k))
			}
			args = append(args, counts[x])
		}
		if err := put.run(args...); err != nil {
			return err
		}
		cells = cells[n:]
	}
	return nil
}

// of sums up what the cube does not tell apart.
func (s segment) of(c cube) segment {
	sums := make(segment, len(s))
	for x, n := range s {
		sums[x.of(c)] += n
	}
	return sums
}
