package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store/backend"
)

// writer is the connection that writes and its prepared statements. Only the committer uses it.
type writer struct {
	conn  conn
	lent  backend.Lent // to changes of state, and to what reads beside them
	all   []*stmt
	known *backend.Known
	edge  backend.Edge
	since int // commits since the WAL was copied

	unlooked, unlookedBytes int // commits, and bytes of events, since its length was asked for

	segment segment // behind the rollups of edge
	rolling rolling

	begin, commit, rollback, savepoint, undo, release *stmt
	insert, putChunk, putHead, getStamp, putRolling   *stmt
	walFrames, checkpoint                             *stmt
	upsert                                            [len(cubes)]upsert
}

// newWriter prepares the statements and loads the edge. It takes the connection over.
func newWriter(ctx context.Context, c conn, known *backend.Known) (*writer, error) {
	k := newKeeper(c)
	w := &writer{conn: k, known: known, lent: backend.Lend(k)}
	err := checkDurable(ctx, w.lent.DB)
	if err == nil {
		err = w.prepare(ctx)
	}
	if err == nil {
		err = w.snapshot(ctx, func() error { return w.load(ctx) })
	}
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// snapshot runs f, which reads, in a transaction: all that it sees is of one moment.
func (w *writer) snapshot(ctx context.Context, f func() error) error {
	if _, err := w.lent.DB.ExecContext(ctx, `BEGIN`); err != nil {
		return err
	}
	err := f()
	_, undo := w.lent.DB.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`)
	return errors.Join(err, undo)
}

func (w *writer) prepare(ctx context.Context) error {
	type prepared struct {
		stmt **stmt
		text string
	}
	list := []prepared{
		{&w.begin, `BEGIN IMMEDIATE`}, {&w.commit, `COMMIT`}, {&w.rollback, `ROLLBACK`},
		{&w.savepoint, `SAVEPOINT request`}, {&w.undo, `ROLLBACK TO request`}, {&w.release, `RELEASE request`},
		{&w.insert, sqlInsertEvent}, {&w.putChunk, sqlPutChunk}, {&w.putHead, sqlPutHead}, {&w.getStamp, sqlGetStamp}, {&w.putRolling, sqlPutRolling},
		{&w.walFrames, `PRAGMA wal_checkpoint(NOOP)`}, {&w.checkpoint, `PRAGMA wal_checkpoint(PASSIVE)`},
	}
	for i, c := range cubes {
		list = append(list, prepared{&w.upsert[i].one, c.upsert(1)}, prepared{&w.upsert[i].many, c.upsert(rollupsPerStatement)})
	}
	for _, p := range list {
		s, err := prepare(ctx, w.conn, p.text)
		if err != nil {
			return fmt.Errorf("prepare %.40q: %w", p.text, err)
		}
		*p.stmt = s
		w.all = append(w.all, s)
	}
	return nil
}

func (w *writer) close() error {
	errs := []error{w.lent.DB.Close()}
	for _, s := range w.all {
		errs = append(errs, s.close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// loadHead reads the row of head.
func loadHead(ctx context.Context, db backend.Querier) (backend.Head, error) {
	return backend.ScanHead(db.QueryRowContext(ctx, sqlGetHead).Scan)
}

// chunksIn reads stored hashes.
func chunksIn(ctx context.Context, db backend.Querier) *backend.Chunks {
	return backend.NewChunks(func(chunks []int64, add func(int64, []byte)) error {
		for _, n := range chunks {
			var b []byte
			switch err := db.QueryRowContext(ctx, sqlGetChunk, n).Scan(&b); {
			case err == nil:
				add(n, b)
			case !errors.Is(err, sql.ErrNoRows):
				return err
			}
		}
		return nil
	})
}

// load reads what the writer knows of the log, in the transaction under way.
func (w *writer) load(ctx context.Context) (err error) {
	h, err := loadHead(ctx, w.lent.DB)
	if err != nil {
		return err
	}
	if w.edge, err = backend.LoadEdge(h, chunksIn(ctx, w.lent.DB), w.known.Head().Tree); err != nil {
		return err
	}
	upTo := audit.RolledUp(h.Tree.N)
	if w.rolling, err = waiting(ctx, w.lent.DB, upTo); err != nil {
		return err
	}
	w.segment, err = loadSegment(ctx, w.lent.DB, upTo, h.Tree.N)
	return err
}

// start begins a transaction. Where another process has committed since, the edge is read anew.
func (w *writer) start() error {
	if err := w.begin.run(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	stamp, err := w.getStamp.ints(1)
	if err == nil && stamp[0] != w.edge.Stamp {
		err = w.load(context.Background())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("begin: %w", err), w.rollback.run())
	}
	return nil
}

// put inserts a row.
func (w *writer) put(row *audit.Row, ns int64) error {
	c := row.Columns
	var salt, details any
	if len(row.Salt) > 0 {
		salt, details = row.Salt, string(row.Details)
	}
	w.unlookedBytes += len(row.Body) + len(row.Details)
	return w.insert.run(row.Index, c["id"], ns, c["kind"], c["outcome"], c["actor_kind"], c["iss"], c["sub"], c["email"],
		c["login_id"], c["session_id"], c["action"], c["resource"], c["source"], c["node"], string(row.Body), salt, details)
}

// grow writes the tree's new hashes, rollups of the segment that is complete, and the signed
// head of the transaction under way, and returns the edge that it will have when it commits. What
// the writer counts of the segments has changed then: where the transaction fails, the writer is dropped.
func (w *writer) grow(added []*backend.Request, signer note.Signer) (backend.Edge, error) {
	var leaves []tlog.Hash
	for _, r := range added {
		leaves = append(leaves, r.Leaves...)
	}
	g, err := w.edge.Grow(leaves, signer)
	if err != nil {
		return backend.Edge{}, err
	}
	for i, n := range g.Chunks {
		if err := w.putChunk.run(n, g.Hashes[i]); err != nil {
			return backend.Edge{}, fmt.Errorf("store the tree's hashes: %w", err)
		}
	}
	if err := w.rollUp(added); err != nil {
		return backend.Edge{}, fmt.Errorf("roll up: %w", err)
	}
	if err := w.putHead.run(g.Next.Tree.N, g.Next.Tree.Hash[:], g.Next.Checkpoint, g.Next.Stamp); err != nil {
		return backend.Edge{}, fmt.Errorf("store the head: %w", err)
	}
	return g.Next, nil
}

// mark commits a new stamp and nothing else. After a commit of unknown fate it makes the fate
// final: what is readable becomes durable with it, and what is not is overwritten in the WAL, where
// a restart could otherwise still find it.
func (w *writer) mark() error {
	if err := w.start(); err != nil {
		return err
	}
	next, err := w.grow(nil, nil)
	if err == nil {
		err = w.commit.run()
	}
	if err != nil {
		return errors.Join(err, w.rollback.run())
	}
	w.edge = next
	return nil
}
