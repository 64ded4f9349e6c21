package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// foldParts segments' rollups are folded into the cubes at once: together they have far fewer rows
// than one by one, and counts that add twice as many up to the cubes stay quick.
const foldParts = 32

// sqlFold moves the parts of the first $1 segments into the cubes.
var sqlFold = func() string {
	var b strings.Builder
	key := strings.Join(partColumns[:len(partColumns)-1], ", ")
	fmt.Fprintf(&b, `WITH moved AS (DELETE FROM rollup_parts WHERE segment IN (SELECT segment FROM rollup_parts ORDER BY segment LIMIT $1) RETURNING *),
	r AS MATERIALIZED (SELECT %s, sum(n)::bigint AS n FROM %s AS m GROUP BY %[1]s)`, key, partRows("moved"))
	for i, c := range append(cubes[:], periods) {
		fmt.Fprintf(&b, ", c%d AS (%s)", i, c.foldInto())
	}
	return b.String() + ` SELECT count(*) FROM moved`
}()

// sqlPeriods makes the rollups of periods from those of days.
var sqlPeriods = fmt.Sprintf(`INSERT INTO rollup_period (%s, n) SELECT day / %d AS %[1]s, sum(n)::bigint FROM rollup_full GROUP BY %[3]s`,
	strings.Join(periods.key, ", "), periodDays, ordinals(len(periods.key)))

// foldAll folds while there are enough parts.
func (l *Log) foldAll(ctx context.Context, c **stdlib.Conn) error {
	for ctx.Err() == nil {
		var parts int
		err := l.reads.QueryRowContext(ctx, `SELECT count(*) FROM rollup_parts`).Scan(&parts)
		if err != nil || parts < l.cfg.foldParts {
			return err
		}
		if err := l.connectAside(ctx, c); err != nil {
			return err
		}
		err = pgx.BeginFunc(ctx, (*c).Conn(), func(tx pgx.Tx) error { return fold(ctx, tx, l.target.schema, int64(l.cfg.foldParts)) })
		if err != nil {
			return fmt.Errorf("fold rollups: %w", err)
		}
	}
	return nil
}

// fold moves the parts of so many segments into the cubes, one process at a time. A count sees them
// on one side or on the other.
func fold(ctx context.Context, tx pgx.Tx, schema string, parts int64) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock`+foldLock(schema)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, sqlFold, parts)
	return err
}
