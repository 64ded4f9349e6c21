package postgres

import (
	"context"
	"database/sql"

	"sega/audit/store/backend"
)

// scans is the pool for what may look at much of the log.
type scans struct {
	db    *sql.DB
	turns backend.Turns
}

func openScans(t target, conns int) scans {
	return scans{openReads(t, conns, scanTime), backend.NewTurns(conns)}
}

// scan is read in a turn, for what may look at much of the log.
func (l *Log) scan(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	return l.scans.turns.Run(ctx, func() error {
		if err := l.known.Readable(); err != nil {
			return err
		}
		return readOn(ctx, l.scans.db, f)
	})
}
