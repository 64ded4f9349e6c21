package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"os"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/store/backend"
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

// periodDays is the length of a period: counts over a long time add up a few of them and not each day.
const periodDays = 32

// periods counts as the full cube does, by period instead of by day. It is derived of that cube alone,
// and Rollups compares the two.
var periods = cube{"period", []string{"period", "email", "sub", "target", "kind", "outcome"}}

// partColumns are those of the table rollup_parts, each an array: the rollups of a segment as its
// last event leaves them, in one row that is quickly written. They are folded into the cubes aside.
var partColumns = []string{"day", "kind", "outcome", "email", "sub", "target", "n"}

// sqlParts is a relation of the rollups that are not folded yet. Arrays of unlike lengths, which no
// writer has written, give empty texts and zeros: rollups that verification names.
var sqlParts = partRows("rollup_parts")

func partRows(table string) string {
	list := make([]string, len(partColumns))
	for i, c := range partColumns {
		list[i] = fmt.Sprintf("coalesce(u.%s, '') AS %[1]s", c)
		if c == "day" || c == "n" {
			list[i] = fmt.Sprintf("coalesce(u.%s, 0) AS %[1]s", c)
		}
	}
	return fmt.Sprintf("(SELECT %s FROM %s AS p, LATERAL unnest(p.%s) AS u(%s))", strings.Join(list, ", "), table, strings.Join(partColumns, ", p."), strings.Join(partColumns, ", "))
}

// nanosPerDay is the length of a day; events are never before 1970.
const nanosPerDay = 86_400_000_000_000

// eventColumns are the rollups' columns as expressions over events.
var eventColumns = map[string]string{
	"day": fmt.Sprintf("time / %d", int64(nanosPerDay)), "kind": "kind", "outcome": "outcome", "email": "email", "sub": "sub",
	"target": `CASE WHEN resource >= 'role/' AND resource < 'role0' OR resource >= 'host/' AND resource < 'host0' THEN resource ELSE '' END`,
}

// rollupSchema is the DDL of the cubes and of the parts. day counts days since 1970, period counts periodDays.
func rollupSchema() string {
	var b strings.Builder
	for _, c := range append(cubes[:], periods) {
		fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s (\n\t%s BIGINT NOT NULL", c.table(), c.key[0])
		for _, k := range c.key[1:] {
			fmt.Fprintf(&b, ",\n\t%s TEXT COLLATE \"C\" NOT NULL", k)
		}
		fmt.Fprintf(&b, ",\n\tn BIGINT NOT NULL,\n\tPRIMARY KEY (%s)\n) WITH (fillfactor = 70);\n", strings.Join(c.key, ", "))
	}
	b.WriteString("CREATE TABLE IF NOT EXISTS rollup_parts (\n\tsegment BIGINT PRIMARY KEY")
	for _, c := range partColumns {
		kind := `TEXT[] COLLATE "C"`
		if c == "day" || c == "n" {
			kind = "BIGINT[]"
		}
		fmt.Fprintf(&b, ",\n\t%s %s NOT NULL", c, kind)
	}
	b.WriteString("\n);\n")
	for _, c := range partColumns { // to compress what is soon gone takes longer than to write it
		fmt.Fprintf(&b, "ALTER TABLE rollup_parts ALTER %s SET STORAGE EXTERNAL;\n", c)
	}
	return b.String()
}

// foldInto is the part of sqlFold that adds the relation r to the cube, in the order of its key:
// neighbours fall into one page.
func (c cube) foldInto() string {
	key := strings.Join(c.key, ", ")
	from := key
	if c.key[0] == "period" {
		from = strings.Replace(key, "period", fmt.Sprintf("day / %d AS period", periodDays), 1)
	}
	return fmt.Sprintf(`INSERT INTO %s AS t (%s, n) SELECT %s, sum(n)::bigint FROM r GROUP BY %s ORDER BY %[2]s
		ON CONFLICT (%[2]s) DO UPDATE SET n = t.n + excluded.n`, c.table(), key, from, ordinals(len(c.key)))
}

// ordinals are the first n columns of a list.
func ordinals(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(i + 1)
	}
	return strings.Join(list, ", ")
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
	return l.scans.turns.Rollups(ctx, os.TempDir, func(add func(audit.Rollup) error) (upTo int64, err error) {
		err = l.scan(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
			upTo, err = copyRollups(ctx, tx, add)
			return err
		})
		return upTo, err
	})
}

// copyRollups calls add for every rollup that a transaction sees, and returns what they cover.
func copyRollups(ctx context.Context, tx *sql.Tx, add func(audit.Rollup) error) (upTo int64, err error) {
	h, err := backend.ScanHead(tx.QueryRowContext(ctx, sqlHead).Scan)
	if err != nil {
		return 0, err
	}
	for _, c := range cubes {
		if err := c.each(ctx, tx, add); err != nil {
			return 0, err
		}
	}
	return audit.RolledUp(h.Tree.N), wrongPeriods(ctx, tx, add)
}

// each calls add for the cube's rollups, together with those of the parts.
func (c cube) each(ctx context.Context, tx *sql.Tx, add func(audit.Rollup) error) error {
	key := strings.Join(c.key, ", ")
	return c.scan(ctx, tx, fmt.Sprintf(`SELECT %s, coalesce(c.n, 0) + coalesce(p.n, 0) FROM %s AS c
		FULL JOIN (SELECT %[1]s, sum(n)::bigint AS n FROM %[3]s AS s GROUP BY %[1]s) AS p USING (%[1]s)`, key, c.table(), sqlParts), add)
}

// wrongPeriods adds the periods that are not the sum of their days, as rollups of a cube that no
// log has: verification then says that the events do not give them.
func wrongPeriods(ctx context.Context, tx *sql.Tx, add func(audit.Rollup) error) error {
	key := strings.Join(periods.key, ", ")
	return periods.scan(ctx, tx, fmt.Sprintf(`SELECT %s, coalesce(c.n, 0) FROM %s AS c
		FULL JOIN (SELECT day / %d AS %[1]s, sum(n)::bigint AS n FROM %[4]s GROUP BY %[5]s) AS d USING (%[1]s)
		WHERE c.n IS DISTINCT FROM d.n`, key, periods.table(), periodDays, cubes[2].table(), ordinals(len(periods.key))), add)
}

// scan adds the rollups that a query gives: the cube's key and a count.
func (c cube) scan(ctx context.Context, tx *sql.Tx, query string, add func(audit.Rollup) error) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		r := audit.Rollup{RollupKey: audit.RollupKey{Cube: c.name}}
		var day, period int64
		at := map[string]any{"day": &day, "period": &period, "kind": &r.Kind, "outcome": &r.Outcome, "email": (*text)(&r.Email), "sub": (*text)(&r.Sub), "target": (*text)(&r.Target)}
		var dest []any
		for _, k := range c.key {
			dest = append(dest, at[k])
		}
		if err := rows.Scan(append(dest, &r.N)...); err != nil {
			return err
		}
		r.Day = dayText(day + period*periodDays)
		if err := add(r); err != nil {
			return err
		}
	}
	return rows.Err()
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
