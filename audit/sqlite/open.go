package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"sega/audit/store"
	"sega/audit/store/backend"
)

// Config is what Open needs.
type Config struct {
	Path string // of the database; made with mode 0600 where it does not exist
	backend.Options

	patient int64 // events walked for a short text in vain; 0: maxBarren
}

func (c *Config) check() error {
	if c.Path == "" {
		return errors.New("path is missing")
	}
	if c.patient == 0 {
		c.patient = maxBarren
	}
	return backend.Settle(&c.Options)
}

// Log implements store.Log.
type Log struct {
	cfg   Config
	dial  func(ctx context.Context) (conn, error)
	reads *sql.DB
	scans scans
	known backend.Known
	text  *textIndex
	cube  *memory

	copier *copier

	committer *backend.Committer
	once      sync.Once
	err       error // of Close

	w    *writer     // the committer's; nil while the database cannot be opened
	file os.FileInfo // of the database as it was opened
}

var _ store.Log = (*Log)(nil)

// Open opens or makes the database, runs the schema, checks that head, tree and events agree, and
// starts the committer. A database whose parts disagree is refused: nothing may be appended to it
// until somebody has looked.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("audit store: configuration: %w", err)
	}
	l, err := open(ctx, cfg, func(ctx context.Context) (conn, error) { return dial(ctx, cfg.Path) })
	if err != nil {
		return nil, fmt.Errorf("audit store: open %s: %w", cfg.Path, err)
	}
	return l, nil
}

func open(ctx context.Context, cfg Config, dial func(context.Context) (conn, error)) (*Log, error) {
	f, err := os.OpenFile(cfg.Path, os.O_RDWR|os.O_CREATE, 0o600) // SQLite gives its other files the same mode
	if err != nil {
		return nil, err
	}
	file, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	c, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, c, &cfg); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	l := &Log{cfg: cfg, dial: dial, cube: newMemory()}
	w, err := newWriter(ctx, c, &l.known)
	if err != nil {
		return nil, err
	}
	if err := w.snapshot(ctx, func() error { return w.verify(ctx, cfg.Verifier) }); err != nil {
		return nil, errors.Join(err, w.close())
	}
	reads, err := openReads(cfg.Path, cfg.Reads+1) // and the text index
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	if l.scans, err = openScans(cfg.Path, cfg.Scans); err != nil {
		return nil, errors.Join(err, reads.Close(), w.close())
	}
	l.reads, l.w, l.file = reads, w, file
	l.known.Advance(w.edge.Head)
	l.text, l.copier = startText(l), startCopier(l)
	l.committer = backend.StartCommitter(&l.known, cfg.Log, cfg.MaxBatch, l.commit, l.tidy)
	return l, nil
}

// migrate makes what tables are missing and, in an empty database, the head of the empty log, in one transaction.
func migrate(ctx context.Context, c conn, cfg *Config) error {
	db := backend.Lend(c).DB
	defer db.Close()
	if err := checkDurable(ctx, db); err != nil {
		return err
	}
	if err := checkMoved(ctx, db); err != nil {
		return err
	}
	var version int
	if err := db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return err
	}
	if version < 0 || version > schemaVersion {
		return fmt.Errorf("the database has schema version %d, this program knows %d", version, schemaVersion)
	}
	if _, err := db.ExecContext(ctx, `BEGIN IMMEDIATE`); err != nil {
		return err
	}
	err := migrateTx(ctx, db, cfg, version)
	if err == nil {
		_, err = db.ExecContext(ctx, `COMMIT`)
	}
	if err != nil {
		_, rerr := db.ExecContext(ctx, `ROLLBACK`)
		return errors.Join(err, rerr)
	}
	return nil
}

// migrateTx brings a database of a version, 0 where it is empty, to the present one.
func migrateTx(ctx context.Context, db *sql.DB, cfg *Config, version int) error {
	if _, err := db.ExecContext(ctx, schema+rollupSchema()); err != nil {
		return fmt.Errorf("schema of the log: %w", err)
	}
	for i, ddl := range cfg.Schema {
		if _, err := db.ExecContext(ctx, ddl); err != nil {
			return fmt.Errorf("schema of the state, part %d: %w", i+1, err)
		}
	}
	var err error
	switch version {
	case schemaVersion:
		return nil
	case 0:
		err = firstHead(ctx, db, cfg)
	case 1:
		err = rollUpAll(ctx, db)
	case 2: // every rollup is written; a program of that version would take them for written later on, too
	}
	if err == nil {
		_, err = db.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, schemaVersion))
	}
	return err
}

// firstHead writes the head of the empty log.
func firstHead(ctx context.Context, db *sql.DB, cfg *Config) error {
	h, err := backend.FirstHead(cfg.Signer)
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, `INSERT INTO head (one, size, root, checkpoint, stamp) VALUES (1, 0, ?, ?, ?)`,
		h.Tree.Hash[:], h.Checkpoint, h.Stamp); err != nil {
		return fmt.Errorf("head of the empty log: %w", err)
	}
	return nil
}

// verify checks in constant time what a crash, a restore of half a backup or a wrong key would break. Another
// process may have appended since the edge was loaded.
func (w *writer) verify(ctx context.Context, verifier note.Verifier) error {
	db := w.lent.DB
	if err := w.load(ctx); err != nil {
		return err
	}
	var beyond int64
	if err := db.QueryRowContext(ctx, `SELECT coalesce(max(idx) + 1, 0) FROM events`).Scan(&beyond); err != nil {
		return err
	}
	return w.edge.Check(verifier, chunksIn(ctx, db), beyond, func(index int64) (body []byte, err error) {
		err = db.QueryRowContext(ctx, `SELECT body FROM events WHERE idx = ?`, index).Scan(&body)
		return body, err
	})
}

// Close implements store.Log. Appends that were queued are still committed; later ones fail.
func (l *Log) Close() error {
	l.once.Do(func() {
		l.committer.Stop()
		l.text.close()
		l.copier.close()
		errs := []error{l.reads.Close(), l.scans.db.Close()}
		if l.w != nil {
			if _, err := l.w.checkpoint.ints(3); err != nil { // what is in the WAL is durable there
				l.cfg.Log.Warn("audit store: checkpoint of the WAL on closing", "error", err)
			}
			errs = append(errs, l.w.close())
		}
		if l.err = errors.Join(errs...); l.err != nil {
			l.err = fmt.Errorf("audit store: close: %w", l.err)
		}
	})
	return l.err
}
