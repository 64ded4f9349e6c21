package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"iter"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
	"sega/audit/store/backend"
)

// Head implements store.Log.
func (l *Log) Head() ([]byte, tlog.Tree) {
	return l.known.Signed()
}

// Read implements store.Log.
func (l *Log) Read(ctx context.Context, f func(ctx context.Context, q store.Querier) error) error {
	return l.read(ctx, func(ctx context.Context, tx *sql.Tx) error { return f(ctx, onlyQuerier{tx}) })
}

func (l *Log) read(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	if err := l.known.Readable(); err != nil {
		return err
	}
	tx, err := l.reads.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnreadable, explain(err))
	}
	defer tx.Rollback()
	if err = f(ctx, tx); failing(err) {
		return fmt.Errorf("%w: %w", store.ErrUnreadable, explain(err))
	}
	return err
}

// Hashes implements store.Log.
func (l *Log) Hashes(ctx context.Context, indexes []int64) (hashes []tlog.Hash, err error) {
	err = l.read(ctx, func(ctx context.Context, tx *sql.Tx) error {
		hashes, err = chunksIn(ctx, tx).ReadHashes(indexes)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("audit store: hashes: %w", err)
	}
	return hashes, nil
}

// Rows implements store.Log.
func (l *Log) Rows(ctx context.Context, from, to int64) iter.Seq2[audit.Row, error] {
	return func(yield func(audit.Row, error) bool) {
		for from < to {
			page, _, err := l.page(ctx, `SELECT `+sqlRowList+` FROM events WHERE idx >= ? AND idx < ? ORDER BY idx LIMIT ?`, from, to, backend.PageRows)
			if err != nil {
				yield(audit.Row{}, fmt.Errorf("audit store: rows from %d: %w", from, err))
				return
			}
			if len(page) == 0 {
				return
			}
			if err := l.leaves(ctx, page); err != nil {
				yield(audit.Row{}, fmt.Errorf("audit store: leaves from %d: %w", from, err))
				return
			}
			for _, row := range page {
				if !yield(row, nil) {
					return
				}
			}
			from = page[len(page)-1].Index + 1
		}
	}
}

// leaves fills in the stored leaf hashes; a hash that is not there stays out.
func (l *Log) leaves(ctx context.Context, page []audit.Row) error {
	return l.scans.tx(ctx, func(tx *sql.Tx) error { return chunksIn(ctx, tx).Leaves(page) })
}

// page reads rows until backend.PageBytes are full; whole is false where it left some of the answer unread.
func (l *Log) page(ctx context.Context, query string, args ...any) (page []audit.Row, whole bool, err error) {
	if err := l.known.Readable(); err != nil {
		return nil, false, err
	}
	err = l.scans.run(ctx, func(db *sql.DB) (err error) {
		page, whole, err = readPage(ctx, db, query, args...)
		return err
	})
	return page, whole, err
}

func readPage(ctx context.Context, db *sql.DB, query string, args ...any) (page []audit.Row, whole bool, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, false, err
	}
	return backend.ReadPage(rows, asIs)
}

// asIs: texts are stored as they are.
func asIs(stored string) (string, bool) { return stored, true }
