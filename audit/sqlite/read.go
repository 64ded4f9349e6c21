package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
)

// Bounds of a page: what an iterator holds while its consumer takes its time. No transaction is
// open between pages, so that a slow consumer keeps no WAL alive.
const (
	pageRows  = 1000
	pageBytes = 4 << 20
)

// Head implements store.Log.
func (l *Log) Head() ([]byte, tlog.Tree) {
	h := l.last.Load()
	return bytes.Clone(h.checkpoint), h.tree
}

// Read implements store.Log.
func (l *Log) Read(ctx context.Context, f func(ctx context.Context, q store.Querier) error) error {
	return l.read(ctx, func(ctx context.Context, tx *sql.Tx) error { return f(ctx, onlyQuerier{tx}) })
}

func (l *Log) read(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	if err := l.lost.Err(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnreadable, err)
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
		hashes, err = newChunkReader(ctx, tx).ReadHashes(indexes)
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
			page, _, err := l.page(ctx, `SELECT `+sqlRowList+` FROM events WHERE idx >= ? AND idx < ? ORDER BY idx LIMIT ?`, from, to, pageRows)
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
	return l.scans.tx(ctx, func(tx *sql.Tx) error {
		r := newChunkReader(ctx, tx)
		for i := range page {
			switch h, err := r.ReadHashes([]int64{tlog.StoredHashIndex(0, page[i].Index)}); {
			case err == nil:
				page[i].Leaf = h[0][:]
			case !errors.Is(err, errNoHash):
				return err
			}
		}
		return nil
	})
}

// page reads rows until pageBytes are full; whole is false where it left some of the answer unread.
func (l *Log) page(ctx context.Context, query string, args ...any) (page []audit.Row, whole bool, err error) {
	if err := l.lost.Err(); err != nil {
		return nil, false, fmt.Errorf("%w: %w", store.ErrUnreadable, err)
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
	defer rows.Close()
	names := audit.ColumnNames()
	for size := 0; rows.Next(); {
		row, err := scan(rows, names)
		if err != nil {
			return nil, false, err
		}
		page = append(page, row)
		if size += len(row.Body) + len(row.Details); size >= pageBytes {
			return page, false, nil
		}
	}
	return page, true, rows.Err()
}

// scan reads a row exactly as stored: a NULL is a column that is not there, which CheckRow reports.
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
		if values[i].Valid {
			row.Columns[name] = values[i].String
		}
	}
	var err error
	if row.Index, err = strconv.ParseInt(values[0].String, 10, 64); err != nil {
		return audit.Row{}, fmt.Errorf("index %q: %w", values[0].String, err)
	}
	return row, nil
}
