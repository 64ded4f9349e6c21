package indexer

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"sega/broker/api"
)

// State of a session in the index.
type State string

// States.
const (
	Indexed State = "indexed"
	Waiting State = "waiting" // its recording cannot be had yet: tried again by itself
	Skipped State = "skipped" // it has no text here: tried again on demand
)

// Entry is what the index knows of a session.
type Entry struct {
	Session api.IndexSession `json:"-"`
	ID      string           `json:"session_id"`
	Index   int64            `json:"idx"` // of its session.end
	State   State            `json:"state"`
	Verdict string           `json:"verdict"` // of its recording, or one of the reasons below
	Detail  string           `json:"detail"`
	Lines   int              `json:"lines"`
	Bytes   int64            `json:"bytes"` // of text
	Cut     bool             `json:"cut"`   // it showed more than is indexed
	Tries   int              `json:"tries"`
	Next    time.Time        `json:"next,omitzero"` // when it is tried again
}

// Verdicts that are not those of recording.Verify.
const (
	VerdictUnavailable = "unavailable" // the recording is not there
	VerdictDenied      = "denied"      // policy does not let this indexer have it
	VerdictUnannounced = "unannounced" // the log does not say which recording is the session's
	VerdictNoIdentity  = "no identity" // it was not made for this identity
	VerdictUnreadable  = "unreadable"  // it does not decrypt, or its text cannot be drawn
)

// schema is idempotent. Text is kept as its trigrams alone; a row of it is a piece of one session.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS mark (one INTEGER PRIMARY KEY CHECK (one=1), up_to INTEGER NOT NULL) STRICT`,
	`INSERT OR IGNORE INTO mark VALUES (1, -1)`,
	`CREATE TABLE IF NOT EXISTS sessions (
		id TEXT PRIMARY KEY, idx INTEGER NOT NULL, body BLOB NOT NULL, state TEXT NOT NULL, verdict TEXT NOT NULL, detail TEXT NOT NULL,
		lines INTEGER NOT NULL, bytes INTEGER NOT NULL, cut INTEGER NOT NULL, tries INTEGER NOT NULL, next INTEGER NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS sessions_state ON sessions (state, next)`,
	`CREATE INDEX IF NOT EXISTS sessions_cut ON sessions (cut) WHERE cut=1`,
	`CREATE TABLE IF NOT EXISTS pieces (id INTEGER PRIMARY KEY, session TEXT NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS pieces_session ON pieces (session)`,
	`CREATE VIRTUAL TABLE IF NOT EXISTS text USING fts5 (body, content='', contentless_delete=1, tokenize='trigram')`,
	`INSERT INTO text (text, rank) VALUES ('secure-delete', 1)`,
}

// Index is the database. Safe for concurrent use, by several processes as well.
type Index struct{ db *sql.DB }

// OpenIndex opens the index in a file, made with mode 0600 where there is none.
func OpenIndex(ctx context.Context, path string) (*Index, error) {
	// SQLite gives its journals the mode of the file.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("indexer: %w", err)
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return nil, fmt.Errorf("indexer: %w", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: url.Values{"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "secure_delete(1)", "temp_store(2)"}}.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("indexer: open index: %w", err)
	}
	db.SetMaxOpenConns(8)
	x := &Index{db: db}
	for _, ddl := range schema {
		if _, err := db.ExecContext(ctx, ddl); err != nil {
			return nil, errors.Join(fmt.Errorf("indexer: open index %s: %w", path, err), db.Close())
		}
	}
	return x, nil
}

// Close closes the database.
func (x *Index) Close() error { return x.db.Close() }

// Mark returns the index of the session.end up to which sessions are done; -1 before the first.
func (x *Index) Mark(ctx context.Context) (upTo int64, err error) {
	err = x.db.QueryRowContext(ctx, `SELECT up_to FROM mark`).Scan(&upTo)
	return upTo, err
}

// Forget moves the mark back before the first session. Sessions that are indexed stay so.
func (x *Index) Forget(ctx context.Context) error {
	_, err := x.db.ExecContext(ctx, `UPDATE mark SET up_to=-1`)
	return err
}

// Put stores what became of a session, with its text in pieces, and moves the mark on to its end: in
// one transaction. A session that is indexed stays as it is.
func (x *Index) Put(ctx context.Context, e Entry, pieces []string) (err error) {
	tx, err := x.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("indexer: write index: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("indexer: write index: %w", errors.Join(err, tx.Rollback()))
		}
	}()
	if _, err = tx.ExecContext(ctx, `UPDATE mark SET up_to=max(up_to, ?)`, e.Index); err != nil {
		return err
	}
	done, err := has(ctx, tx, e.ID)
	if err != nil {
		return err
	}
	if !done {
		if err = put(ctx, tx, e, pieces); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// Has reports whether a session is indexed.
func (x *Index) Has(ctx context.Context, id string) (bool, error) { return has(ctx, x.db, id) }

func has(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, id string) (bool, error) {
	var n int
	err := q.QueryRowContext(ctx, `SELECT count(*) FROM sessions WHERE id=? AND state=?`, id, Indexed).Scan(&n)
	return n > 0, err
}

func put(ctx context.Context, tx *sql.Tx, e Entry, pieces []string) error {
	body, err := json.Marshal(e.Session)
	if err != nil {
		return err
	}
	if e.State == Indexed {
		body = []byte("{}") // it is not asked for again
	}
	_, err = tx.ExecContext(ctx, `INSERT OR REPLACE INTO sessions (id, idx, body, state, verdict, detail, lines, bytes, cut, tries, next) VALUES (?,?,?,?,?,?,?,?,?,?,?)`,
		e.ID, e.Index, body, e.State, e.Verdict, e.Detail, e.Lines, e.Bytes, e.Cut, e.Tries, millis(e.Next))
	if err != nil {
		return err
	}
	for _, piece := range pieces {
		res, err := tx.ExecContext(ctx, `INSERT INTO pieces (session) VALUES (?)`, e.ID)
		if err != nil {
			return err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO text (rowid, body) VALUES (?,?)`, id, piece); err != nil {
			return err
		}
	}
	return nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Search returns the IDs of sessions that showed a text on one line, sorted, at most limit of them,
// and whether there are more. Letters of either case are alike. The text has api.MinScreen
// characters at least.
func (x *Index) Search(ctx context.Context, text string, limit int) (ids []string, more bool, err error) {
	phrase := `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
	rows, err := x.db.QueryContext(ctx, `SELECT DISTINCT p.session FROM text JOIN pieces p ON p.id=text.rowid WHERE text MATCH ? ORDER BY p.session LIMIT ?`, phrase, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("indexer: search: %w", err)
	}
	defer func() { _ = rows.Close() }()
	ids = []string{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, false, err
		}
		ids = append(ids, id)
	}
	if len(ids) > limit {
		ids, more = ids[:limit], true
	}
	return ids, more, rows.Err()
}

// Due returns sessions that wait and are to be tried by now, the longest due first.
func (x *Index) Due(ctx context.Context, now time.Time, limit int) ([]Entry, error) {
	return x.list(ctx, `WHERE state='waiting' AND next<=? ORDER BY next, idx LIMIT ?`, now.UnixMilli(), limit)
}

// Missing returns every session that has no text here, in the order of their ends.
func (x *Index) Missing(ctx context.Context) ([]Entry, error) {
	return x.list(ctx, `WHERE state!='indexed' ORDER BY idx`)
}

// Cut returns sessions of which a part alone is indexed.
func (x *Index) Cut(ctx context.Context) ([]Entry, error) {
	return x.list(ctx, `WHERE cut=1 AND state='indexed' ORDER BY idx`)
}

// Uncovered returns of how many sessions nothing can be found, and of how many a part alone.
func (x *Index) Uncovered(ctx context.Context) (missing, cut int, err error) {
	err = x.db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM sessions WHERE state='waiting') + (SELECT count(*) FROM sessions WHERE state='skipped'),
		(SELECT count(*) FROM sessions WHERE cut=1 AND state='indexed')`).Scan(&missing, &cut)
	return missing, cut, err
}

// Retry makes every skipped session wait to be tried anew, and returns how many.
func (x *Index) Retry(ctx context.Context) (int64, error) {
	res, err := x.db.ExecContext(ctx, `UPDATE sessions SET state='waiting', tries=0, next=0 WHERE state='skipped'`)
	if err != nil {
		return 0, fmt.Errorf("indexer: retry: %w", err)
	}
	return res.RowsAffected()
}

func (x *Index) list(ctx context.Context, where string, args ...any) ([]Entry, error) {
	rows, err := x.db.QueryContext(ctx, `SELECT id, idx, body, state, verdict, detail, lines, bytes, cut, tries, next FROM sessions `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("indexer: read index: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []Entry
	for rows.Next() {
		var e Entry
		var body []byte
		var next int64
		if err := rows.Scan(&e.ID, &e.Index, &body, &e.State, &e.Verdict, &e.Detail, &e.Lines, &e.Bytes, &e.Cut, &e.Tries, &next); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(body, &e.Session); err != nil {
			return nil, fmt.Errorf("indexer: session %s in the index: %w", e.ID, err)
		}
		if next > 0 {
			e.Next = time.UnixMilli(next).UTC()
		}
		all = append(all, e)
	}
	return all, rows.Err()
}
