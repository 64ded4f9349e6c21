package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"sega/audit"
	"sega/audit/store"
)

// batch indexes events from..to-1, or the first of them where they have much text.
func (t *textIndex) batch(ctx context.Context, from, to int64) error {
	texts, to, err := t.texts(ctx, from, to)
	if err != nil {
		return fmt.Errorf("%w: %w", errLog, err)
	}
	root, err := store.Root(ctx, t.l, to)
	if err != nil {
		return fmt.Errorf("%w: %w", errLog, err)
	}
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if size, _, err := textMark(ctx, tx); err != nil || size != from {
		t.cover(size) // another process has been here
		return err
	}
	if err := putTexts(ctx, tx, texts); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO mark (one, size, root) VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE SET size = excluded.size, root = excluded.root`, to, root[:]); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	t.cover(to)
	return nil
}

func putTexts(ctx context.Context, tx *sql.Tx, texts []text) error {
	insert, err := tx.PrepareContext(ctx, `INSERT INTO texts (rowid, text) VALUES (?, ?)`)
	if err != nil {
		return err
	}
	for _, x := range texts {
		if x.opaque {
			_, err = tx.ExecContext(ctx, `INSERT INTO opaque (idx) VALUES (?)`, x.idx)
		} else {
			_, err = insert.ExecContext(ctx, x.idx, x.text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// text is what an event has for free-text search.
type text struct {
	idx    int64
	text   string
	opaque bool // the row was tampered with, as a verifier will say: what it has cannot be told
}

// texts reads what events from..to-1 have, leaving out those that have nothing, until textBytes are
// full; it returns the index up to which it has come. An event that is not there is an error: to
// pass over it would hide it from every search, were it only late.
func (t *textIndex) texts(ctx context.Context, from, to int64) ([]text, int64, error) {
	rows, err := t.l.reads.QueryContext(ctx, `SELECT idx, kind, body, details FROM events WHERE idx >= ? AND idx < ? ORDER BY idx`, from, to)
	if err != nil {
		return nil, from, err
	}
	defer rows.Close()
	var out []text
	next := from
	for size := 0; size < textBytes && rows.Next(); next++ {
		x, err := scanText(rows)
		if err != nil {
			return nil, from, err
		}
		if x.idx != next {
			break
		}
		if size += len(x.text); x.opaque || x.text != "" {
			out = append(out, x)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, from, err
	}
	if next == from {
		return nil, from, fmt.Errorf("event %d is missing, verify the log", from)
	}
	return out, next, nil
}

func scanText(rows *sql.Rows) (text, error) {
	var x text
	var body sql.RawBytes
	var e audit.Event
	if err := rows.Scan(&x.idx, &e.Kind, &body, (*[]byte)(&e.Details)); err != nil {
		return text{}, err
	}
	if said(&e, body) != nil {
		x.opaque = true
		return x, nil
	}
	var parts []string // as they are: a search may be for what they begin or end with
	for _, s := range []string{e.Reason, e.Ticket, audit.Content(e)} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	x.text = strings.ReplaceAll(strings.Join(parts, "\n"), "\x00", "\x01") // the tokenizer ends at a zero byte
	return x, nil
}
