package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"sega/audit/store"
	"sega/audit/store/backend"
)

// Log implements store.Log.
type Log struct {
	cfg    Config
	target target
	id     int64 // in the table writers
	reads  *sql.DB
	scans  scans
	known  backend.Known

	committer *backend.Committer
	once      sync.Once
	err       error // of Close

	aside  sync.WaitGroup     // of what runs beside the committer,
	cancel context.CancelFunc // until this
	grew   chan struct{}      // a segment is complete

	w *writer // the committer's; nil while there is no connection
}

var _ store.Log = (*Log)(nil)

// Open connects, makes what tables are missing, checks that head, tree and events agree, and starts
// the committer. A server that could lose what it acknowledges is refused, and so is a database
// whose parts disagree: nothing may be appended to it until somebody has looked.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	l, err := open(ctx, cfg, nil)
	if err != nil {
		return nil, fmt.Errorf("audit store: open the PostgreSQL database: %w", err)
	}
	return l, nil
}

func open(ctx context.Context, cfg Config, dial dialFunc) (*Log, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	t, err := parseURL(cfg.URL, dial)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, t, &cfg); err != nil {
		return nil, explain(err)
	}
	l := &Log{cfg: cfg, target: t, id: backend.NewStamp(), grew: make(chan struct{}, 1)}
	if err := l.ready(ctx); err != nil {
		return nil, err
	}
	if err := l.w.verify(ctx, cfg.Verifier); err != nil {
		return nil, l.broken(err)
	}
	l.reads, l.scans = openReads(t, cfg.Reads, readTime), openScans(t, cfg.Scans)
	l.advance(l.w.edge.Head)
	var background context.Context
	background, l.cancel = context.WithCancel(context.Background())
	l.committer = backend.StartCommitter(&l.known, cfg.Log, cfg.MaxBatch, l.commit, func() {})
	l.aside.Go(func() { l.follow(background) })
	l.aside.Go(func() { l.index(background) })
	return l, nil
}

// migrationLock is the advisory lock under which tables are made: two brokers may start at once.
const migrationLock = 0x73656761 // "sega"

// migrate makes schema and tables and, in an empty database, the head of the empty log.
func migrate(ctx context.Context, t target, cfg *Config) error {
	c, err := connect(ctx, t.with(map[string]string{"default_transaction_read_only": "off", "client_min_messages": "warning", "lock_timeout": millis(lockTime)}))
	if err != nil {
		return err
	}
	defer c.Close()
	tx, err := c.Conn().BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return err
	}
	if err := migrateTx(ctx, tx, t, cfg); err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	if err := makeTextIndex(ctx, c.Conn()); err != nil {
		cfg.Log.Warn("audit store: no index of texts, a search for them reads more; let CREATE EXTENSION pg_trgm run in the database", "error", err)
	}
	return nil
}

// makeTextIndex makes the index that finds texts by their trigrams, where the server has the
// extension and the role may make it, or somebody has.
func makeTextIndex(ctx context.Context, c *pgx.Conn) error {
	tx, err := c.Begin(ctx)
	if err != nil {
		return err
	}
	if err := makeTextIndexTx(ctx, tx); err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	return tx.Commit(ctx)
}

func makeTextIndexTx(ctx context.Context, tx pgx.Tx) error {
	var there bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass('event_text_trgm') IS NOT NULL`).Scan(&there); err != nil || there {
		return err
	}
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `CREATE EXTENSION IF NOT EXISTS pg_trgm`); err != nil {
		return err
	}
	var schema string
	if err := tx.QueryRow(ctx, `SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm'`).Scan(&schema); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `CREATE INDEX IF NOT EXISTS event_text_trgm ON event_text USING gin (text `+pgx.Identifier{schema, "gin_trgm_ops"}.Sanitize()+`)`)
	return err
}

func migrateTx(ctx context.Context, tx pgx.Tx, t target, cfg *Config) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
		return fmt.Errorf("lock for the tables: %w", err)
	}
	if err := makeSchema(ctx, tx, t.schema); err != nil {
		return err
	}
	if err := checkMoved(ctx, tx); err != nil {
		return err
	}
	version, err := tableVersion(ctx, tx)
	if err != nil {
		return err
	}
	if version != 0 && version != schemaVersion {
		return fmt.Errorf("the database has schema version %d, this program knows %d", version, schemaVersion)
	}
	if version == 0 {
		if err := makeLog(ctx, tx, cfg); err != nil {
			return err
		}
	}
	for i, ddl := range cfg.Schema {
		if _, err := tx.Exec(ctx, Translate(ddl)); err != nil {
			return fmt.Errorf("schema of the state, part %d: %w", i+1, err)
		}
	}
	_, err = tx.Exec(ctx, sqlOldFates)
	return err
}

// makeSchema makes the schema where it is missing, which takes a right that a broker need not have else.
func makeSchema(ctx context.Context, tx pgx.Tx, name string) error {
	var there bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, name).Scan(&there); err != nil || there {
		return err
	}
	if _, err := tx.Exec(ctx, `CREATE SCHEMA `+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("make the schema %s: %w", name, err)
	}
	return nil
}

// tableVersion returns the version of the tables, 0 where there are none.
func tableVersion(ctx context.Context, tx pgx.Tx) (version int64, err error) {
	var there bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass('log_version') IS NOT NULL`).Scan(&there); err != nil || !there {
		return 0, err
	}
	err = tx.QueryRow(ctx, `SELECT version FROM log_version`).Scan(&version)
	return version, err
}

// makeLog makes the tables of the empty log.
func makeLog(ctx context.Context, tx pgx.Tx, cfg *Config) error {
	if _, err := tx.Exec(ctx, schema+rollupSchema()); err != nil {
		return fmt.Errorf("schema of the log: %w", err)
	}
	h, err := backend.FirstHead(cfg.Signer)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO head (one, size, root, checkpoint, stamp) VALUES (1, 0, $1, $2, $3)`,
		h.Tree.Hash[:], h.Checkpoint, h.Stamp); err != nil {
		return fmt.Errorf("head of the empty log: %w", err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO log_version (one, version) VALUES (1, $1)`, schemaVersion)
	return err
}

// verify checks in constant time what a crash, a restore of half a backup or a wrong key would
// break, and that no table would be emptied by a crash. It holds the head's lock meanwhile.
func (w *writer) verify(ctx context.Context, verifier note.Verifier) error {
	if _, err := w.start(ctx, nil); err != nil {
		return err
	}
	if err := w.check(ctx, verifier); err != nil {
		return err
	}
	return w.rollback(ctx)
}

func (w *writer) check(ctx context.Context, verifier note.Verifier) error {
	var beyond, unlogged int64
	err := w.c.QueryRow(ctx, `SELECT (SELECT coalesce(max(idx) + 1, 0) FROM events),
		(SELECT count(*) FROM pg_class WHERE oid = ANY($1::text[]::regclass[]) AND relpersistence <> 'p')`, tables[:]).Scan(&beyond, &unlogged)
	switch {
	case err != nil:
		return err
	case unlogged > 0:
		return fmt.Errorf("%w: %d tables are unlogged; ALTER TABLE … SET LOGGED", errUnfit, unlogged)
	}
	return w.edge.Check(verifier, chunksOf(ctx, w.c), beyond, func(index int64) (body []byte, err error) {
		err = w.c.QueryRow(ctx, `SELECT body FROM events WHERE idx = $1`, index).Scan(&body)
		return body, err
	})
}

// Close implements store.Log. Appends that were queued are still committed; later ones fail.
func (l *Log) Close() error {
	l.once.Do(func() {
		l.committer.Stop()
		l.cancel()
		l.aside.Wait()
		err := errors.Join(l.reads.Close(), l.scans.db.Close())
		if l.w != nil {
			err = errors.Join(err, l.w.close())
		}
		if err != nil {
			l.err = fmt.Errorf("audit store: close: %w", err)
		}
	})
	return l.err
}
