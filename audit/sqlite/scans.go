package sqlite

import (
	"context"
	"database/sql"
	"path/filepath"

	"sega/audit"
	"sega/audit/store/backend"
)

// scans is the pool for what may look at much of the log.
type scans struct {
	db    *sql.DB
	turns backend.Turns
}

func openScans(path string, conns int) (scans, error) {
	db, err := openReads(path, conns)
	return scans{db, backend.NewTurns(conns)}, err
}

// run gives f a turn.
func (s scans) run(ctx context.Context, f func(db *sql.DB) error) error {
	return s.turns.Run(ctx, func() error { return f(s.db) })
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
	return tx, audit.RolledUp(h.Tree.N), nil
}

// aside is where rollups are kept aside: beside the database, but where what is left there is the log's.
func (l *Log) aside() string {
	if left, known := freeBytes(l.cfg.Path); known && left < textSpare {
		return "" // the system's folder for such files
	}
	return filepath.Dir(l.cfg.Path)
}
