package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
)

// head is the row of the table head.
type head struct {
	tree       tlog.Tree
	checkpoint []byte
	stamp      int64 // random, of the commit that wrote it: tells whose commit is the last
}

// edge is where the log goes on: what an append needs to know of all that is stored. It is a copy
// of what the database holds, true as long as the stamp is.
type edge struct {
	head
	frontier audit.Frontier
	chunk    int64  // number of the row of tree that the next hash goes to
	tail     []byte // what that row holds already
}

// writer is the connection that writes and its prepared statements. Only the committer uses it.
type writer struct {
	conn  conn
	apply *applyConn
	db    *sql.DB // on apply
	all   []*stmt
	known func() tlog.Tree // newest tree that this process has signed or seen
	edge  edge
	since int // commits since the WAL was copied

	segment segment // behind the rollups of edge

	begin, commit, rollback, savepoint, undo, release *stmt
	insert, putChunk, putHead, getStamp               *stmt
	walFrames, checkpoint                             *stmt
	upsert                                            [len(cubes)]upsert
}

// newWriter prepares the statements and loads the edge. It takes the connection over.
func newWriter(ctx context.Context, c conn, known func() tlog.Tree) (*writer, error) {
	w := &writer{conn: c, known: known}
	w.apply, w.db = openApply(c)
	err := checkDurable(ctx, w.db)
	if err == nil {
		err = w.prepare(ctx)
	}
	if err == nil {
		err = w.load(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *writer) prepare(ctx context.Context) error {
	type prepared struct {
		stmt **stmt
		text string
	}
	list := []prepared{
		{&w.begin, `BEGIN IMMEDIATE`}, {&w.commit, `COMMIT`}, {&w.rollback, `ROLLBACK`},
		{&w.savepoint, `SAVEPOINT request`}, {&w.undo, `ROLLBACK TO request`}, {&w.release, `RELEASE request`},
		{&w.insert, sqlInsertEvent}, {&w.putChunk, sqlPutChunk}, {&w.putHead, sqlPutHead}, {&w.getStamp, sqlGetStamp},
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
	errs := []error{w.db.Close()}
	for _, s := range w.all {
		errs = append(errs, s.close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// loadHead reads the row of head.
func loadHead(ctx context.Context, db querier) (head, error) {
	var h head
	var root []byte
	if err := db.QueryRowContext(ctx, sqlGetHead).Scan(&h.tree.N, &root, &h.checkpoint, &h.stamp); err != nil {
		return head{}, fmt.Errorf("read the head of the log: %w", err)
	}
	if len(root) != tlog.HashSize {
		return head{}, fmt.Errorf("the root of the log has %d bytes, want %d", len(root), tlog.HashSize)
	}
	h.tree.Hash = tlog.Hash(root)
	return h, nil
}

// loadEdge reads the edge and checks that the stored hashes give the head's root, and that the log
// continues the one that is known.
func loadEdge(ctx context.Context, db querier, known tlog.Tree) (edge, error) {
	h, err := loadHead(ctx, db)
	if err != nil {
		return edge{}, err
	}
	r := newChunkReader(ctx, db)
	e := edge{head: h}
	if e.frontier, err = audit.LoadFrontier(h.tree.N, r); err != nil {
		return edge{}, err
	}
	if got := e.frontier.Root(); got != h.tree.Hash {
		return edge{}, fmt.Errorf("the stored hashes give the root %s, the head says %s for %d events", got, h.tree.Hash, h.tree.N)
	}
	if err := store.CheckExtends(known, h.tree, r); err != nil {
		return edge{}, err
	}
	if e.chunk, e.tail, err = loadTail(r, h.tree.N); err != nil {
		return edge{}, err
	}
	return e, nil
}

// load reads what the writer knows of the log. Outside of a transaction another process may commit
// between the reads: start notices by the stamp.
func (w *writer) load(ctx context.Context) (err error) {
	if w.edge, err = loadEdge(ctx, w.db, w.known()); err != nil {
		return err
	}
	w.segment, err = loadSegment(ctx, w.db, audit.RolledUp(w.edge.tree.N), w.edge.tree.N)
	return err
}

// start begins a transaction. Where another process has committed since, the edge is read anew.
func (w *writer) start() error {
	if err := w.begin.run(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	stamp, err := w.getStamp.ints(1)
	if err == nil && stamp[0] != w.edge.stamp {
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
	return w.insert.run(row.Index, c["id"], ns, c["kind"], c["outcome"], c["actor_kind"], c["iss"], c["sub"], c["email"],
		c["login_id"], c["session_id"], c["action"], c["resource"], c["source"], c["node"], string(row.Body), salt, details)
}

// grow writes the tree's new hashes, the rollups of the segments that are complete, and the signed
// head of the transaction under way, and returns the edge that it will have when it commits. What
// the writer counts of the open segment has changed then: where the transaction fails, the writer is dropped.
func (w *writer) grow(added []*request, signer note.Signer) (edge, error) {
	next := edge{frontier: w.edge.frontier, head: head{stamp: int64(rand.Uint64() >> 1)}}
	tail := w.edge.tail[:len(w.edge.tail):len(w.edge.tail)]
	var stored []tlog.Hash
	for _, r := range added {
		for _, leaf := range r.leaves {
			stored = next.frontier.Add(leaf, stored)
		}
	}
	for i := range stored {
		tail = append(tail, stored[i][:]...)
	}
	var err error
	if next.chunk, next.tail, err = w.putTail(w.edge.chunk, tail); err != nil {
		return edge{}, fmt.Errorf("store the tree's hashes: %w", err)
	}
	next.tree = next.frontier.Tree()
	next.head.checkpoint = w.edge.checkpoint
	if next.tree.N > w.edge.tree.N {
		if next.head.checkpoint, err = audit.SignCheckpoint(signer.Name(), next.tree, signer); err != nil {
			return edge{}, err
		}
	}
	if err := w.rollUp(added, next.tree.N); err != nil {
		return edge{}, fmt.Errorf("roll up: %w", err)
	}
	if err := w.putHead.run(next.tree.N, next.tree.Hash[:], next.head.checkpoint, next.stamp); err != nil {
		return edge{}, fmt.Errorf("store the head: %w", err)
	}
	return next, nil
}

// putTail writes the chunks that tail fills, and the rest as the last one.
func (w *writer) putTail(chunk int64, tail []byte) (int64, []byte, error) {
	const size = hashesPerChunk * tlog.HashSize
	for ; len(tail) >= size; tail = tail[size:] {
		if err := w.putChunk.run(chunk, tail[:size]); err != nil {
			return 0, nil, err
		}
		chunk++
	}
	if len(tail) == 0 {
		return chunk, nil, nil
	}
	return chunk, tail, w.putChunk.run(chunk, tail)
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
