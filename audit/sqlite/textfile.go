package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit/store"
	"sega/audit/store/backend"
)

// textSuffix makes the name of the text index's file of the database's.
const textSuffix = "-text"

// textVersion is PRAGMA user_version of the text index; another one is built anew.
const textVersion = 2

// textSchema: the index knows which event has which three letters in a row and nothing else (no
// text, no positions), so that it is small; what it finds is looked at again. opaque holds the events whose
// text cannot be told, which every search looks at. mark says what the index covers.
const textSchema = `
CREATE VIRTUAL TABLE texts USING fts5 (text, content='', detail=none, columnsize=0, tokenize='trigram');
CREATE TABLE opaque (idx INTEGER PRIMARY KEY) STRICT;
CREATE TABLE mark (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, root BLOB NOT NULL) STRICT;
`

// ready opens the index, anew where it is broken or of another log.
func (t *textIndex) ready(ctx context.Context) error {
	if t.db != nil && !t.bad.Load() && !t.moving.Load() {
		return nil
	}
	if err := t.swap(nil, 0); err != nil {
		t.log.Warn("audit store: close the text index", "error", err)
	}
	t.moving.Store(false)
	if !t.bad.Load() {
		err := t.open(ctx)
		if err == nil || passing(err) {
			return err
		}
		t.log.Info("audit store: the text index is built anew", "why", err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(t.path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	t.bad.Store(false) // what is made now is another one, even where it is found broken at once
	return t.open(ctx)
}

// open opens the file, or says why it cannot serve this log.
func (t *textIndex) open(ctx context.Context) error {
	db, err := openText(ctx, t.path)
	if err != nil {
		return err
	}
	size, err := t.covered(ctx, db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	return t.swap(db, size)
}

func openText(ctx context.Context, path string) (*sql.DB, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	db, err := openPool(path, textConns, url.Values{"_pragma": {"busy_timeout(" + busyMillis + ")", "journal_mode(WAL)",
		"synchronous(NORMAL)", "wal_autocheckpoint(4096)", "journal_size_limit(67108864)", "cache_size(-16384)"}})
	if err != nil {
		return nil, err
	}
	if err := textTables(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func textTables(ctx context.Context, db *sql.DB) error {
	var version int
	if err := db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return err
	}
	if version != 0 && version != textVersion {
		return fmt.Errorf("version %d, want %d", version, textVersion)
	}
	if version == textVersion {
		return nil
	}
	_, err := db.ExecContext(ctx, `BEGIN; `+textSchema+fmt.Sprintf(`PRAGMA user_version = %d; COMMIT`, textVersion))
	return err
}

// covered returns how many events an index covers, where they are a beginning of this log.
func (t *textIndex) covered(ctx context.Context, db backend.Querier) (int64, error) {
	size, root, err := textMark(ctx, db)
	if err != nil || size == 0 {
		return 0, err
	}
	if has := t.l.known.Head().Tree.N; size > has {
		return 0, fmt.Errorf("it covers %d events, the log has %d", size, has)
	}
	want, err := store.Root(ctx, t.l, size)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errLog, err)
	}
	if root != want {
		return 0, fmt.Errorf("it covers %d events of another log", size)
	}
	var n int64
	return size, db.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM texts WHERE texts MATCH '"aaa"' LIMIT 1)`).Scan(&n)
}

func textMark(ctx context.Context, db backend.Querier) (int64, tlog.Hash, error) {
	var size int64
	var root []byte
	err := db.QueryRowContext(ctx, `SELECT size, root FROM mark`).Scan(&size, &root)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, tlog.Hash{}, nil
	case err != nil:
		return 0, tlog.Hash{}, err
	case len(root) != tlog.HashSize || size < 0:
		return 0, tlog.Hash{}, errors.New("its mark is not one")
	}
	return size, tlog.Hash(root), nil
}

// swap replaces the open file by one that covers so many events, and closes the one before.
func (t *textIndex) swap(db *sql.DB, size int64) error {
	t.mu.Lock()
	old := t.db
	t.db = db
	t.era++
	t.covers(size)
	t.mu.Unlock()
	if old == nil {
		return nil
	}
	return old.Close()
}
