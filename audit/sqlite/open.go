package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
)

// Config is what Open needs.
type Config struct {
	Path     string        // of the database; made with mode 0600 where it does not exist
	Signer   note.Signer   // of checkpoints; its name is the log's origin
	Verifier note.Verifier // of Signer's key
	Schema   []string      // DDL of the state beside the log, idempotent, run on every open
	Log      *slog.Logger  // nil: none
	MaxBatch int           // appends that share a commit at most; 0: 1,024
	Reads    int           // connections that read state and tree; 0: 4
	Scans    int           // connections that search, count and read rows; 0: 4

	patient int64 // events walked for a short text in vain; 0: maxBarren
}

func (c *Config) check() error {
	switch {
	case c.Path == "":
		return errors.New("path is missing")
	case c.Signer == nil || c.Verifier == nil:
		return errors.New("signer and verifier are needed")
	case c.Signer.Name() != c.Verifier.Name() || c.Signer.KeyHash() != c.Verifier.KeyHash():
		return errors.New("signer and verifier are not of one key")
	case c.MaxBatch < 0 || c.Reads < 0 || c.Scans < 0:
		return errors.New("max batch, reads and scans may not be negative")
	}
	if c.MaxBatch == 0 {
		c.MaxBatch = 1024
	}
	if c.Reads == 0 {
		c.Reads = 4
	}
	if c.Scans == 0 {
		c.Scans = 4
	}
	if c.patient == 0 {
		c.patient = maxBarren
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Log implements store.Log.
type Log struct {
	cfg   Config
	dial  func(ctx context.Context) (conn, error)
	reads *sql.DB
	scans scans
	last  atomic.Pointer[head] // of the last commit
	lost  store.Latch
	text  *textIndex
	cube  *memory

	copier *copier

	queue   chan *request
	closing chan struct{} // closed by Close
	stopped chan struct{} // closed by the committer when it has answered everything
	once    sync.Once
	err     error // of Close

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
	l := &Log{cfg: cfg, dial: dial, cube: newMemory(), queue: make(chan *request, cfg.MaxBatch), closing: make(chan struct{}), stopped: make(chan struct{})}
	w, err := newWriter(ctx, c, l.known)
	if err != nil {
		return nil, err
	}
	if err := w.verify(ctx, cfg.Verifier); err != nil {
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
	h := w.edge.head
	l.last.Store(&h)
	l.text, l.copier = startText(l), startCopier(l)
	go l.run()
	return l, nil
}

// migrate makes what tables are missing and, in an empty database, the head of the empty log, in one transaction.
func migrate(ctx context.Context, c conn, cfg *Config) error {
	_, db := openApply(c)
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
	}
	if err == nil {
		_, err = db.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, schemaVersion))
	}
	return err
}

// firstHead writes the head of the empty log.
func firstHead(ctx context.Context, db *sql.DB, cfg *Config) error {
	tree := tlog.Tree{Hash: audit.EmptyRoot()}
	checkpoint, err := audit.SignCheckpoint(cfg.Signer.Name(), tree, cfg.Signer)
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, `INSERT INTO head (one, size, root, checkpoint, stamp) VALUES (1, 0, ?, ?, ?)`,
		tree.Hash[:], checkpoint, int64(rand.Uint64()>>1)); err != nil {
		return fmt.Errorf("head of the empty log: %w", err)
	}
	return nil
}

// verify checks in constant time what a crash, a restore of half a backup or a wrong key would
// break: the checkpoint is signed by our key for this tree, the last event is the tree's last leaf,
// and none lies beyond. newWriter has already computed the root from the stored hashes.
func (w *writer) verify(ctx context.Context, verifier note.Verifier) error {
	c, err := audit.OpenCheckpoint(w.edge.head.checkpoint, verifier)
	if err != nil {
		return fmt.Errorf("the checkpoint in the database: %w", err)
	}
	size := w.edge.tree.N
	if c.Tree != w.edge.tree {
		return fmt.Errorf("the checkpoint signs %d events with the root %s, the head says %d with %s", c.Tree.N, c.Tree.Hash, size, w.edge.tree.Hash)
	}
	var beyond int64
	if err := w.db.QueryRowContext(ctx, `SELECT coalesce(max(idx) + 1, 0) FROM events`).Scan(&beyond); err != nil {
		return err
	}
	if beyond != size {
		return fmt.Errorf("the events end at %d, the head says %d", beyond, size)
	}
	if size == 0 {
		return nil
	}
	var body []byte
	if err := w.db.QueryRowContext(ctx, `SELECT body FROM events WHERE idx = ?`, size-1).Scan(&body); err != nil {
		return err
	}
	leaf, err := newChunkReader(ctx, w.db).ReadHashes([]int64{tlog.StoredHashIndex(0, size-1)})
	if err != nil {
		return err
	}
	if leaf[0] != tlog.RecordHash(body) {
		return fmt.Errorf("event %d is not the one in the tree", size-1)
	}
	return nil
}

// Close implements store.Log. Appends that were queued are still committed; later ones fail.
func (l *Log) Close() error {
	l.once.Do(func() {
		close(l.closing)
		<-l.stopped
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
