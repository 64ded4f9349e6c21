package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/store/backend"
)

// cube is a table of rollups: how many events of the complete segments share day, kind, outcome
// and what else the cube knows. The key begins with the day, because the events of a segment are
// of one day or two: their rollups then fall into a few pages, where an order by person or target
// would dirty a page for each. The rollups of the last complete segment may not be there yet (see rolling).
type cube struct {
	name string   // audit.CubeUser, …
	key  []string // columns of the primary key, in its order
}

// cubes in the order of their size: of 5 million events they are 0.6, 1.3 and 2.7 million rollups.
var cubes = [...]cube{
	{audit.CubeTarget, []string{"day", "target", "kind", "outcome"}},
	{audit.CubeUser, []string{"day", "email", "sub", "kind", "outcome"}},
	{audit.CubeFull, []string{"day", "email", "sub", "target", "kind", "outcome"}},
}

func (c cube) table() string { return "rollup_" + c.name }

func (c cube) has(column string) bool { return slices.Contains(c.key, column) }

// nanosPerDay is the length of a day; events are never before 1970.
const nanosPerDay = 86_400_000_000_000

// eventColumns are the rollups' columns as expressions over events.
var eventColumns = map[string]string{
	"day": fmt.Sprintf("time / %d", int64(nanosPerDay)), "kind": "kind", "outcome": "outcome", "email": "email", "sub": "sub",
	"target": `CASE WHEN resource >= 'role/' AND resource < 'role0' OR resource >= 'host/' AND resource < 'host0' THEN resource ELSE '' END`,
}

// rollupSchema is the DDL of the cubes. day counts days since 1970.
func rollupSchema() string {
	var b strings.Builder
	for _, c := range cubes {
		fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s (\n\tday INTEGER NOT NULL", c.table())
		for _, k := range c.key[1:] {
			fmt.Fprintf(&b, ",\n\t%s TEXT NOT NULL", k)
		}
		fmt.Fprintf(&b, ",\n\tn INTEGER NOT NULL,\n\tPRIMARY KEY (%s)\n) STRICT, WITHOUT ROWID;\n", strings.Join(c.key, ", "))
	}
	return b.String()
}

// derive is the statement that counts the events of two bounds, the first index and the one after
// the last, by the columns of the cube's key.
func (c cube) derive() string {
	var from, group []string
	for i, k := range c.key {
		from, group = append(from, eventColumns[k]+fmt.Sprint(" AS c", i)), append(group, fmt.Sprint("c", i))
	}
	return fmt.Sprintf(`SELECT %s, count(*) FROM events NOT INDEXED WHERE idx >= ? AND idx < ? GROUP BY %s`, strings.Join(from, ", "), strings.Join(group, ", "))
}

// upsert is the statement that adds so many rollups to the cube.
func (c cube) upsert(rollups int) string {
	one := "(" + strings.Repeat("?, ", len(c.key)) + "?)"
	return fmt.Sprintf(`INSERT INTO %s (%s, n) VALUES %s ON CONFLICT DO UPDATE SET n = n + excluded.n`,
		c.table(), strings.Join(c.key, ", "), strings.TrimSuffix(strings.Repeat(one+", ", rollups), ", "))
}

// rollUpAll derives the rollups of a database that has none.
func rollUpAll(ctx context.Context, db *sql.DB) error {
	h, err := loadHead(ctx, db)
	if err != nil {
		return err
	}
	for _, c := range cubes {
		if _, err := db.ExecContext(ctx, `INSERT INTO `+c.table()+` (`+strings.Join(c.key, ", ")+`, n) `+c.derive(), 0, audit.RolledUp(h.Tree.N)); err != nil {
			return fmt.Errorf("roll up the log of an earlier version into %s: %w", c.table(), err)
		}
	}
	return nil
}

// Rollups implements store.Log. They are copied into a file aside, in one transaction, before the first
// is yielded.
func (l *Log) Rollups(ctx context.Context) (int64, iter.Seq2[audit.Rollup, error]) {
	upTo, rollups, err := l.rollups(ctx)
	if err != nil {
		return 0, func(yield func(audit.Rollup, error) bool) {
			yield(audit.Rollup{}, fmt.Errorf("audit store: rollups: %w", err))
		}
	}
	return upTo, rollups
}

func (l *Log) rollups(ctx context.Context) (int64, iter.Seq2[audit.Rollup, error], error) {
	if err := l.known.Err(); err != nil {
		return 0, nil, err
	}
	return l.scans.turns.Rollups(ctx, l.aside, func(add func(audit.Rollup) error) (upTo int64, err error) {
		err = l.scans.tx(ctx, func(tx *sql.Tx) error {
			h, err := loadHead(ctx, tx)
			if err != nil {
				return err
			}
			upTo = audit.RolledUp(h.Tree.N)
			rest, err := waiting(ctx, tx, upTo)
			for i := 0; err == nil && i < len(cubes); i++ {
				err = cubes[i].each(ctx, tx, rest.of(i), add)
			}
			return err
		})
		return upTo, err
	})
}

// each calls add for the cube's rollups, together with those that wait.
func (c cube) each(ctx context.Context, db backend.Querier, rest segment, add func(audit.Rollup) error) error {
	rows, err := db.QueryContext(ctx, `SELECT `+strings.Join(c.key, ", ")+`, n FROM `+c.table())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var x cell
		var n int64
		at := map[string]any{"day": &x.day, "kind": &x.kind, "outcome": &x.outcome, "email": &x.email, "sub": &x.sub, "target": &x.target}
		var dest []any
		for _, k := range c.key {
			dest = append(dest, at[k])
		}
		if err := rows.Scan(append(dest, &n)...); err != nil {
			return err
		}
		more := rest[x]
		delete(rest, x)
		if err := add(c.rollup(x, n+more)); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for x, n := range rest {
		if err := add(c.rollup(x, n)); err != nil {
			return err
		}
	}
	return nil
}

// rollup is a cell of the cube in the log's form.
func (c cube) rollup(x cell, n int64) audit.Rollup {
	return audit.Rollup{N: n, RollupKey: audit.RollupKey{Cube: c.name, Day: dayText(x.day), Kind: x.kind, Outcome: x.outcome, Email: x.email, Sub: x.sub, Target: x.target}}
}

// of returns what waits of a cube.
func (r rolling) of(cube int) segment {
	s := segment{}
	for _, x := range r.left {
		if x.cube == cube {
			s[x.cell] = x.n
		}
	}
	return s
}

// dayText is a day as counted since 1970 in the form of audit.RollupKey.
func dayText(day int64) string { return time.Unix(day*86_400, 0).UTC().Format(time.DateOnly) }
