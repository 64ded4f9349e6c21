package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	sqlite3 "modernc.org/sqlite/lib"

	"sega/audit/store"
)

// batchBytes bounds what the appends of a commit hold, beyond the first.
const batchBytes = 64 << 20

// run is the committer: it takes what is queued, commits it as one, and answers. It ends when the
// log is closed and the queue is empty.
func (l *Log) run() {
	defer close(l.stopped)
	for {
		select {
		case r := <-l.queue:
			l.batch(l.gather(r))
		case <-l.closing:
			for {
				select {
				case r := <-l.queue:
					l.batch(l.gather(r))
				default:
					return
				}
			}
		}
	}
}

// gather adds what is queued already to the first request. Callers that the last commit woke are
// about to queue their next append: as long as yielding to them brings more, they come into this commit and
// not into one after it.
func (l *Log) gather(first *request) []*request {
	batch := []*request{first}
	for before := 0; before < len(batch); {
		before = len(batch)
		runtime.Gosched()
		batch = l.queued(batch)
	}
	return batch
}

// queued adds what is queued, up to a whole batch.
func (l *Log) queued(batch []*request) []*request {
	size := 0
	for _, r := range batch {
		size += r.size
	}
	for len(batch) < l.cfg.MaxBatch && size < batchBytes {
		select {
		case r := <-l.queue:
			batch, size = append(batch, r), size+r.size
		default:
			return batch
		}
	}
	return batch
}

// batch commits requests as one transaction and answers each of them.
func (l *Log) batch(waiting []*request) {
	batch := waiting[:0]
	for _, r := range waiting {
		if r.state.CompareAndSwap(queued, begun) {
			batch = append(batch, r)
		}
	}
	if len(batch) == 0 {
		return
	}
	err := l.lost.Err()
	if err == nil {
		err = l.commit(batch)
	}
	if err != nil {
		l.setBack(err)
		l.cfg.Log.Error("audit store: events are not durable, nothing is released", "appends", len(batch), "error", err)
		for _, r := range batch {
			r.answer(0, unavailable(err))
		}
		return
	}
	h := l.w.edge.head
	l.last.Store(&h)
	l.text.appended()
	for _, r := range batch {
		if r.failed != nil {
			r.answer(0, r.failed)
			continue
		}
		r.answer(r.first, nil)
	}
	if err := l.w.tidy(l.copier); err != nil {
		l.cfg.Log.Warn("audit store: checkpoint of the WAL failed, it keeps growing", "error", err)
	}
}

// commit makes the batch durable, or changes nothing and returns why. The outcomes of single
// requests are in them.
func (l *Log) commit(batch []*request) error {
	if err := l.sameFile(); err != nil {
		return err
	}
	if err := l.ready(); err != nil {
		return err
	}
	if err := l.w.start(); err != nil {
		return l.broken(err)
	}
	added, err := l.w.requests(batch)
	if err != nil {
		return l.broken(err)
	}
	if len(added) == 0 {
		if err := l.w.rollback.run(); err != nil {
			return l.broken(err)
		}
		return nil
	}
	next, err := l.w.grow(added, l.cfg.Signer)
	if err != nil {
		return l.broken(err)
	}
	if err := l.w.commit.run(); err != nil {
		return l.settle(next, err)
	}
	l.w.edge = next
	return nil
}

// ready opens the database anew where an earlier failure has closed it.
func (l *Log) ready() error {
	if l.w != nil {
		return nil
	}
	ctx := context.Background()
	c, err := l.dial(ctx)
	if err != nil {
		return explain(fmt.Errorf("open the database anew: %w", err))
	}
	w, err := newWriter(ctx, c, l.known)
	if err != nil {
		return explain(fmt.Errorf("open the database anew: %w", err))
	}
	l.w = w
	// On a full disk the WAL itself may be what fills it. Copied into the database it starts anew, in
	// the space that it has: whatever little was freed is enough to go on.
	if _, err := w.checkpoint.ints(3); err != nil {
		l.cfg.Log.Warn("audit store: checkpoint of the WAL after a failure", "error", err)
	}
	return nil
}

// broken drops a connection that failed, with the transaction that it held: what the committer
// knows of the log is read anew before the next append.
func (l *Log) broken(why error) error {
	if err := l.w.close(); err != nil {
		l.cfg.Log.Warn("audit store: close the failed connection", "error", err)
	}
	l.w = nil
	return explain(why)
}

// settle finds out what became of a COMMIT that failed. It returns nil where the commit is there,
// after making it durable beyond doubt; otherwise it overwrites what the WAL may hold of it.
func (l *Log) settle(next edge, why error) error {
	why = l.broken(fmt.Errorf("commit: %w", why))
	if err := l.ready(); err != nil {
		return fmt.Errorf("%w; its fate is unknown until the database opens again: %w", why, err)
	}
	committed := l.w.edge.stamp == next.stamp
	if err := l.w.mark(); err != nil {
		return fmt.Errorf("%w; its fate is unknown until the next one succeeds: %w", why, l.broken(err))
	}
	if committed {
		return nil
	}
	return why
}

// requests runs every request of the batch. It returns those that succeeded and have anything to
// commit. An error is the transaction's, not a request's.
func (w *writer) requests(batch []*request) (added []*request, err error) {
	next := w.edge.tree.N
	for _, r := range batch {
		r.first, r.failed = next, nil
		if len(r.rows) == 0 && r.apply == nil {
			continue
		}
		if err := w.request(r); err != nil {
			return nil, err
		}
		if r.failed == nil {
			added = append(added, r)
			next += int64(len(r.rows))
		}
	}
	return added, nil
}

// request runs one request in a savepoint. A single row needs none: a failed statement undoes itself.
func (w *writer) request(r *request) error {
	if r.apply == nil && len(r.rows) == 1 {
		return w.rows(r)
	}
	if err := w.savepoint.run(); err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	if r.apply != nil {
		r.failed = w.applyTo(r)
	}
	if r.failed == nil {
		if err := w.rows(r); err != nil {
			return err
		}
	}
	if failing(r.failed) {
		return r.failed
	}
	if r.failed != nil {
		if err := w.undo.run(); err != nil {
			return fmt.Errorf("undo an append (%w): %w", r.failed, err)
		}
	}
	if err := w.release.run(); err != nil {
		return fmt.Errorf("release savepoint: %w", err)
	}
	return nil
}

// rows inserts the request's rows. A duplicate ID is the request's failure, any other the batch's.
func (w *writer) rows(r *request) error {
	for i := range r.rows {
		row := &r.rows[i]
		row.Place(r.first + int64(i))
		err := w.put(row, r.times[i])
		switch code(err) {
		case sqlite3.SQLITE_OK:
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE:
			r.failed = fmt.Errorf("%w: %w: %s", store.ErrUnavailable, store.ErrDuplicate, row.Columns["id"])
			return nil
		default:
			return fmt.Errorf("insert event %d: %w", row.Index, err)
		}
	}
	return nil
}

// errPanic is what a caller gets whose apply panicked. What it panicked with may hold anything.
var errPanic = errors.New("audit store: the change of state panicked; the append was discarded")

// applyTo runs the request's change of state. The caller's context is detached: were it to
// interrupt a statement, SQLite would roll back the whole batch.
func (w *writer) applyTo(r *request) (err error) {
	ctx := context.WithoutCancel(r.ctx)
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := guard(ctx, r, tx); err != nil {
		_ = tx.Rollback() // closes what apply left open; the savepoint is undone by the caller
		return err
	}
	if err := tx.Commit(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return err
	}
	if w.apply.undone {
		return errors.New("audit store: the change of state rolled its transaction back; the append was discarded")
	}
	return nil
}

// guard turns a panic of apply into an error, so that it does not take the committer along.
func guard(ctx context.Context, r *request, tx *sql.Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w (%T)\n%s", errPanic, p, debug.Stack())
		}
	}()
	return r.apply(ctx, store.Tx{Querier: onlyQuerier{tx}, Next: r.first})
}

// onlyQuerier hides what would end a transaction: of the whole batch, or of a read.
type onlyQuerier struct{ store.Querier }
