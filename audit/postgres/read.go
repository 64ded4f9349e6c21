package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
	"sega/audit/store/backend"
)

// firstRows are in an iterator's first page.
const firstRows = 100

// nextRows returns the length of the page after one of so many bytes: details of 1 MiB make short pages.
func nextRows(page []audit.Row) int {
	size := 1
	for i := range page {
		size += len(page[i].Body) + len(page[i].Details)
	}
	return min(backend.PageRows, max(4, backend.PageBytes*len(page)/size))
}

// Head implements store.Log.
func (l *Log) Head() ([]byte, tlog.Tree) {
	return l.known.Signed()
}

// Read implements store.Log.
func (l *Log) Read(ctx context.Context, f func(ctx context.Context, q store.Querier) error) error {
	return l.read(ctx, func(ctx context.Context, tx *sql.Tx) error { return f(ctx, querier{tx}) })
}

func (l *Log) read(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	if err := l.known.Readable(); err != nil {
		return err
	}
	return readOn(ctx, l.reads, f)
}

func readOn(ctx context.Context, db *sql.DB, f func(ctx context.Context, tx *sql.Tx) error) error {
	tx, err := begin(ctx, db)
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnreadable, explain(err))
	}
	defer tx.Rollback()
	if err = f(ctx, tx); err == nil {
		return nil
	}
	// A connection that was lost in between cannot roll back either.
	if undo := tx.Rollback(); failing(err) || cutShort(ctx, err) || undo != nil && !errors.Is(undo, sql.ErrTxDone) {
		return fmt.Errorf("%w: %w", store.ErrUnreadable, explain(err))
	}
	return err
}

// begin begins a read transaction. A server that has restarted leaves dead connections in the pool:
// each is found out once, and the next one is tried.
func begin(ctx context.Context, db *sql.DB) (*sql.Tx, error) {
	for tries := db.Stats().OpenConnections; ; tries-- {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
		var refused *pgconn.PgError
		if err == nil || tries <= 0 || ctx.Err() != nil || errors.As(err, &refused) && !strings.HasPrefix(refused.Code, "57P") {
			return tx, err
		}
	}
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
		for limit := firstRows; from < to; {
			page, _, err := l.page(ctx, `SELECT `+sqlRowList+` FROM events WHERE idx >= $1 AND idx < $2 ORDER BY idx LIMIT $3`, from, to, limit)
			if err != nil {
				yield(audit.Row{}, fmt.Errorf("audit store: rows from %d: %w", from, err))
				return
			}
			if len(page) == 0 {
				return
			}
			limit, from = nextRows(page), page[len(page)-1].Index+1
			for _, row := range page {
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}

// page reads rows with their stored leaf hashes until backend.PageBytes are full; a hash that is not there
// stays out. whole is false where it left some of the answer unread.
func (l *Log) page(ctx context.Context, query string, args ...any) (page []audit.Row, whole bool, err error) {
	err = l.scan(ctx, func(ctx context.Context, tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		if page, whole, err = backend.ReadPage(rows, unescape); err != nil {
			return err
		}
		return chunksIn(ctx, tx).Leaves(page)
	})
	return page, whole, err
}

// Event implements store.Log.
func (l *Log) Event(ctx context.Context, id string) (audit.Row, error) {
	page, _, err := l.page(ctx, `SELECT `+sqlRowList+` FROM events WHERE id = $1`, escape(id))
	switch {
	case err != nil:
		return audit.Row{}, fmt.Errorf("audit store: event: %w", err)
	case len(page) == 0:
		return audit.Row{}, store.ErrNoEvent
	}
	return page[0], nil
}
