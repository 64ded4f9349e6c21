package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"sega/audit"
	"sega/audit/store/backend"
)

// writer is the connection that writes. Only the committer uses it.
type writer struct {
	id    int64 // of this log in the table writers
	known *backend.Known
	c     *pgx.Conn
	lent  backend.Lent // to changes of state
	edge  backend.Edge
	open  tally // of the segment that the edge is in
}

// newWriter takes a connection over. The edge is read by the first transaction.
func newWriter(c *stdlib.Conn, id int64, known *backend.Known) *writer {
	return &writer{id: id, known: known, c: c.Conn(), lent: backend.Lend(c), edge: backend.Edge{Head: backend.Head{Stamp: backend.Unread}}}
}

// close drops the connection, and with it the transaction that it holds.
func (w *writer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return errors.Join(w.lent.DB.Close(), w.c.Close(ctx))
}

// start begins a transaction: it takes the lock of the head, reads the edge anew where another
// process has committed since, and returns which of the IDs are in the log already.
func (w *writer) start(ctx context.Context, ids []string) (map[string]bool, error) {
	var b pgx.Batch
	var stamp int64
	var fsync, pages string
	found := map[string]bool{}
	b.Queue(sqlBegin)
	b.Queue(sqlLock).QueryRow(func(row pgx.Row) error { return row.Scan(&stamp, &fsync, &pages) })
	if len(ids) > 0 {
		b.Queue(sqlDup, ids).Query(func(rows pgx.Rows) error {
			var id string
			_, err := pgx.ForEachRow(rows, []any{&id}, func() error { found[id] = true; return nil })
			return err
		})
	}
	if err := w.c.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	if err := checkDisk(fsync, pages); err != nil {
		return nil, err
	}
	if stamp != w.edge.Stamp {
		h, err := backend.ScanHead(w.c.QueryRow(ctx, sqlHead).Scan)
		if err == nil {
			w.edge, err = backend.LoadEdge(h, chunksOf(ctx, w.c), w.known.Head().Tree)
		}
		if err != nil {
			return nil, fmt.Errorf("begin: %w", err)
		}
	}
	return found, nil
}

// rollback ends a transaction without a trace.
func (w *writer) rollback(ctx context.Context) error {
	if _, err := w.c.Exec(ctx, `ROLLBACK`); err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}

// errFate means that a COMMIT may have been carried out.
var errFate = errors.New("commit of unknown fate")

// finish writes rows, tree, rollups and head, and commits, all in one round trip (but for catchUp's,
// where another process has appended to a segment that is complete now). An error that
// wraps errFate leaves open whether the server has committed; after any other it has not.
func (w *writer) finish(ctx context.Context, rows *rowArrays, g backend.Growth) error {
	var b pgx.Batch
	if err := w.catchUp(ctx, g.Next.Tree.N); err != nil {
		return errors.Join(err, w.rollback(ctx))
	}
	rows.queue(&b)
	if len(g.Chunks) > 0 {
		b.Queue(sqlPutChunks, g.Chunks, g.Hashes)
	}
	w.queueSegments(&b, rows)
	b.Queue(sqlPutHead, g.Next.Tree.N, g.Next.Tree.Hash[:], g.Next.Checkpoint, g.Next.Stamp)
	b.Queue(sqlPutFate, w.id, g.Next.Stamp)
	var tag pgconn.CommandTag
	b.Queue(`COMMIT`).Exec(func(t pgconn.CommandTag) error { tag = t; return nil })
	switch err := w.c.SendBatch(ctx, &b).Close(); {
	case err == nil && tag.String() == "COMMIT":
		w.edge = g.Next
		return nil
	case err == nil:
		return fmt.Errorf("the server answered the commit with %s", tag)
	case w.c.IsClosed() || w.c.PgConn().TxStatus() != 'E':
		return fmt.Errorf("%w: %w", errFate, err)
	default: // a statement before the commit failed, and the commit was skipped
		return errors.Join(err, w.rollback(ctx))
	}
}

// lastStamp returns that of this log's last commit, backend.Unread where there is none. It takes the lock of the
// head first: a transaction whose fate is in question held it, so that it has ended by then, one way or the other.
func (w *writer) lastStamp(ctx context.Context) (int64, error) {
	if _, err := w.start(ctx, nil); err != nil {
		return backend.Unread, err
	}
	last := int64(backend.Unread)
	err := w.c.QueryRow(ctx, sqlGetFate, w.id).Scan(&last)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return backend.Unread, fmt.Errorf("look up the commit: %w", err)
	}
	return last, w.rollback(ctx)
}

// rowArrays are rows to insert, as the arrays of sqlInsert: one statement for each statementBytes of
// them, as a parameter has 1 GB at most.
type rowArrays struct {
	parts []*rowPart
	left  int // rows that may still come
}

const statementBytes = 8 << 20

type rowPart struct {
	size                int
	idx, time           []int64
	texts               [len(columns)][]string
	body, salt, details [][]byte
}

func newRowPart(n int) *rowPart {
	p := &rowPart{idx: make([]int64, 0, n), time: make([]int64, 0, n), body: make([][]byte, 0, n), salt: make([][]byte, 0, n), details: make([][]byte, 0, n)}
	texts := make([]string, len(columns)*n)
	for i := range p.texts {
		p.texts[i] = texts[i*n : i*n : (i+1)*n]
	}
	return p
}

// add takes a row that has its place.
func (a *rowArrays) add(row *audit.Row, ns int64) {
	if n := len(a.parts); n == 0 || a.parts[n-1].size > statementBytes {
		a.parts = append(a.parts, newRowPart(a.left))
	}
	a.left--
	p := a.parts[len(a.parts)-1]
	p.idx, p.time = append(p.idx, row.Index), append(p.time, ns)
	for i, name := range columns {
		p.texts[i] = append(p.texts[i], escape(row.Columns[name]))
	}
	p.body = append(p.body, row.Body)
	var salt, details []byte // NULL where there are none
	if len(row.Salt) > 0 {
		salt, details = row.Salt, row.Details
	}
	p.salt, p.details = append(p.salt, salt), append(p.details, details)
	p.size += len(row.Body) + len(row.Details)
}

func (a *rowArrays) queue(b *pgx.Batch) {
	for _, p := range a.parts {
		args := []any{p.idx, p.time}
		for i := range p.texts {
			args = append(args, p.texts[i])
		}
		b.Queue(sqlInsert, append(args, p.body, p.salt, p.details)...)
	}
}
