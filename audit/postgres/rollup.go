package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"strings"
	"time"

	"sega/audit"
)

// cube is a table of rollups: how many events of the complete segments share day, kind, outcome
// and what else the cube knows. Its key begins with the day, as the events of a segment are of one
// day or two: their rollups then fall into a few pages of the index.
type cube struct {
	name string   // audit.CubeUser, …
	key  []string // columns of the primary key, in its order
}

var cubes = [...]cube{
	{audit.CubeUser, []string{"day", "email", "sub", "kind", "outcome"}},
	{audit.CubeTarget, []string{"day", "target", "kind", "outcome"}},
	{audit.CubeFull, []string{"day", "email", "sub", "target", "kind", "outcome"}},
}

func (c cube) table() string { return "rollup_" + c.name }

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
		fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s (\n\tday BIGINT NOT NULL", c.table())
		for _, k := range c.key[1:] {
			fmt.Fprintf(&b, ",\n\t%s TEXT COLLATE \"C\" NOT NULL", k)
		}
		fmt.Fprintf(&b, ",\n\tn BIGINT NOT NULL,\n\tPRIMARY KEY (%s)\n) WITH (fillfactor = 70);\n", strings.Join(c.key, ", "))
	}
	return b.String()
}

// rollUp is the statement that adds the events of two bounds, the first index and the one after the
// last, to the cube, in the order of its key: neighbours fall into one page.
func (c cube) rollUp() string {
	var from, group []string
	for i, k := range c.key {
		from = append(from, fmt.Sprintf("%s AS c%d", eventColumns[k], i))
		group = append(group, fmt.Sprint("c", i))
	}
	key := strings.Join(c.key, ", ")
	return fmt.Sprintf(`INSERT INTO %s AS r (%s, n) SELECT %s, count(*) FROM events WHERE idx >= $1 AND idx < $2 GROUP BY %s ORDER BY %[4]s
		ON CONFLICT (%[2]s) DO UPDATE SET n = r.n + excluded.n`, c.table(), key, strings.Join(from, ", "), strings.Join(group, ", "))
}

// Rollups implements store.Log. What is yielded is the state of one moment, that of the call: a
// connection is held until the iteration ends or ctx does.
func (l *Log) Rollups(ctx context.Context) (int64, iter.Seq2[audit.Rollup, error]) {
	tx, upTo, err := l.snapshot(ctx)
	return upTo, func(yield func(audit.Rollup, error) bool) {
		if err == nil {
			defer tx.Rollback()
		}
		more := true
		for _, c := range cubes {
			if err == nil && more {
				more, err = c.each(ctx, tx, func(r audit.Rollup) bool { return yield(r, nil) })
			}
		}
		if err != nil {
			yield(audit.Rollup{}, fmt.Errorf("audit store: rollups: %w", err))
		}
	}
}

// snapshot begins a read transaction that sees one moment, and returns what its rollups cover.
func (l *Log) snapshot(ctx context.Context) (*sql.Tx, int64, error) {
	tx, err := l.reads.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, 0, err
	}
	h, err := scanHead(tx.QueryRowContext(ctx, sqlHead).Scan)
	if err != nil {
		_ = tx.Rollback()
		return nil, 0, err
	}
	return tx, audit.RolledUp(h.tree.N), nil
}

// each yields the cube's rollups; more is false where the consumer has had enough.
func (c cube) each(ctx context.Context, tx *sql.Tx, yield func(audit.Rollup) bool) (more bool, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+strings.Join(c.key, ", ")+`, n FROM `+c.table())
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for rows.Next() {
		r := audit.Rollup{RollupKey: audit.RollupKey{Cube: c.name}}
		var day int64
		at := map[string]any{"day": &day, "kind": &r.Kind, "outcome": &r.Outcome, "email": (*text)(&r.Email), "sub": (*text)(&r.Sub), "target": (*text)(&r.Target)}
		var dest []any
		for _, k := range c.key {
			dest = append(dest, at[k])
		}
		if err := rows.Scan(append(dest, &r.N)...); err != nil {
			return false, err
		}
		r.Day = dayText(day)
		if !yield(r) {
			return false, nil
		}
	}
	return true, rows.Err()
}

// dayText is a day as counted since 1970 in the form of audit.RollupKey.
func dayText(day int64) string { return time.Unix(day*86_400, 0).UTC().Format(time.DateOnly) }

// text scans a stored text (see escape).
type text string

// Scan implements sql.Scanner.
func (t *text) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("%T is no text", v)
	}
	plain, ok := unescape(s)
	if !ok {
		return fmt.Errorf("text %.40q is not as it was written", s)
	}
	*t = text(plain)
	return nil
}
