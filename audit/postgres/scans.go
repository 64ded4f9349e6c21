package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"golang.org/x/sync/semaphore"

	"sega/audit/store"
)

// scans is the pool for what may look at much of the log, apart from the one for state: whatever is
// searched and counted, a sign-in or a feed waits for none of it. Who finds every connection taken
// waits in the order in which they came, until their context ends. A turn lasts for a page,
// never while a consumer has a row.
type scans struct {
	db     *sql.DB
	turns  *semaphore.Weighted // of the connections
	counts *semaphore.Weighted // so many counts at once leave a connection to searches
	spools *semaphore.Weighted // rollups kept aside
}

// maxSpools bounds how many consumers have rollups kept aside for them at once.
const maxSpools = 8

func openScans(t target, conns int) scans {
	return scans{openReads(t, conns, scanTime), semaphore.NewWeighted(int64(conns)), semaphore.NewWeighted(int64(max(1, conns-1))), semaphore.NewWeighted(maxSpools)}
}

// scan is read in a turn, for what may look at much of the log.
func (l *Log) scan(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	if err := l.scans.turns.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer l.scans.turns.Release(1)
	if err := l.lost.Err(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnreadable, err)
	}
	return readOn(ctx, l.scans.db, f)
}
