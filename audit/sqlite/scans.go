package sqlite

import (
	"context"
	"database/sql"
	"path/filepath"

	"golang.org/x/sync/semaphore"

	"sega/audit"
	"sega/audit/store"
)

// scans is the pool for what may look at much of the log, apart from the one for state: whatever is
// searched and counted, a sign-in or a feed waits for none of it. Who finds every connection taken
// waits in the order in which they came, until their context ends. A turn lasts for a statement,
// never while a consumer has a row.
type scans struct {
	db     *sql.DB
	turns  *semaphore.Weighted // of the connections
	counts *semaphore.Weighted // so many counts at once leave a connection to searches
	spools *semaphore.Weighted // rollups kept aside
}

// maxSpools bounds how many consumers have rollups kept aside for them at once.
const maxSpools = 8

func openScans(path string, conns int) (scans, error) {
	db, err := openReads(path, conns)
	return scans{db, semaphore.NewWeighted(int64(conns)), semaphore.NewWeighted(int64(max(1, conns-1))), semaphore.NewWeighted(maxSpools)}, err
}

// run gives f a turn.
func (s scans) run(ctx context.Context, f func(db *sql.DB) error) error {
	if err := s.turns.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer s.turns.Release(1)
	return f(s.db)
}

// count runs f, which counts in turns, when few enough others do.
func (s scans) count(ctx context.Context, f func() error) error {
	if err := s.counts.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer s.counts.Release(1)
	return f()
}

// tx gives f a turn with a transaction that sees one moment.
func (s scans) tx(ctx context.Context, f func(tx *sql.Tx) error) error {
	return s.run(ctx, func(db *sql.DB) error {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer tx.Rollback()
		return f(tx)
	})
}

// snapshot begins a read transaction and returns what its rollups cover.
func snapshot(ctx context.Context, db *sql.DB) (*sql.Tx, int64, error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, 0, err
	}
	h, err := loadHead(ctx, tx)
	if err != nil {
		_ = tx.Rollback()
		return nil, 0, err
	}
	return tx, audit.RolledUp(h.tree.N), nil
}

// spool makes a file for rollups beside the database; drop closes it and gives its place back.
func (l *Log) spool(ctx context.Context) (s *store.Spool, drop func(), err error) {
	if err := l.scans.spools.Acquire(ctx, 1); err != nil {
		return nil, nil, context.Cause(ctx)
	}
	free := func() { l.scans.spools.Release(1) }
	dir := filepath.Dir(l.cfg.Path)
	if left, known := freeBytes(l.cfg.Path); known && left < textSpare {
		dir = "" // the system's folder for such files: what is left here is the log's
	}
	if s, err = store.NewSpool(dir); err != nil {
		free()
		return nil, nil, err
	}
	return s, free, nil
}
