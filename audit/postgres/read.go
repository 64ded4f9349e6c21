package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
)

// Bounds of a page: what an iterator holds while its consumer takes its time. No transaction is
// open between pages, so that a slow consumer keeps nothing alive at the server.
const (
	firstRows = 100
	pageRows  = 1000
	pageBytes = 4 << 20
)

// nextRows returns the length of the page after one of so many bytes: details of 1 MiB make short pages.
func nextRows(page []audit.Row) int {
	size := 1
	for i := range page {
		size += len(page[i].Body) + len(page[i].Details)
	}
	return min(pageRows, max(4, pageBytes*len(page)/size))
}

// Head implements store.Log.
func (l *Log) Head() ([]byte, tlog.Tree) {
	h := l.last.Load()
	return bytes.Clone(h.checkpoint), h.tree
}

// Read implements store.Log.
func (l *Log) Read(ctx context.Context, f func(ctx context.Context, q store.Querier) error) error {
	return l.read(ctx, func(ctx context.Context, tx *sql.Tx) error { return f(ctx, querier{tx}) })
}

func (l *Log) read(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	if err := l.lost.Err(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnreadable, err)
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

// page reads rows with their stored leaf hashes until pageBytes are full; a hash that is not there
// stays out. whole is false where it left some of the answer unread.
func (l *Log) page(ctx context.Context, query string, args ...any) (page []audit.Row, whole bool, err error) {
	err = l.scan(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if page, whole, err = scanPage(tx.QueryContext(ctx, query, args...)); err != nil {
			return err
		}
		indexes := leafIndexes(page)
		r := chunksIn(ctx, tx)
		if err := r.load(indexes); err != nil {
			return err
		}
		for i, index := range indexes {
			if h, ok := r.hash(index); ok {
				page[i].Leaf = h[:]
			}
		}
		return nil
	})
	return page, whole, err
}

func scanPage(rows *sql.Rows, err error) (page []audit.Row, whole bool, _ error) {
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	names := audit.ColumnNames()
	for size := 0; rows.Next(); {
		row, err := scan(rows, names)
		if err != nil {
			return nil, false, err
		}
		page = append(page, row)
		if size += len(row.Body) + len(row.Details); size >= pageBytes {
			return page, false, rows.Close()
		}
	}
	return page, true, rows.Err()
}

// scan reads a row exactly as stored: a NULL, or a text that no writer has written (see escape), is
// a column that is not there, which CheckRow reports.
func scan(rows *sql.Rows, names []string) (audit.Row, error) {
	row := audit.Row{Columns: make(map[string]string, len(names))}
	values := make([]sql.NullString, len(names))
	dest := make([]any, 0, len(names)+3)
	for i := range values {
		dest = append(dest, &values[i])
	}
	if err := rows.Scan(append(dest, &row.Body, &row.Salt, &row.Details)...); err != nil {
		return audit.Row{}, err
	}
	for i, name := range names {
		if value, ok := unescape(values[i].String); ok && values[i].Valid {
			row.Columns[name] = value
		}
	}
	var err error
	if row.Index, err = strconv.ParseInt(values[0].String, 10, 64); err != nil {
		return audit.Row{}, fmt.Errorf("index %q: %w", values[0].String, err)
	}
	return row, nil
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
