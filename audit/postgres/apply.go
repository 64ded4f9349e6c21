package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit/store"
)

// outcome is what the requests of a batch that succeeded have to be made durable.
type outcome struct {
	changed bool
	leaves  []tlog.Hash
	rows    rowArrays
}

// requests runs the changes of state of a batch, in order, each in a savepoint, and gathers the rows
// of those that succeed: they are inserted together at the end. found are the IDs that are in the log
// already. An error is the transaction's, not a request's.
func (w *writer) requests(batch []*request, found map[string]bool) (outcome, error) {
	var out outcome
	for _, r := range batch {
		out.rows.left += len(r.rows)
	}
	out.leaves = make([]tlog.Hash, 0, out.rows.left)
	mark := savepoint{w: w}
	for _, r := range batch {
		r.first, r.failed = w.edge.tree.N+int64(len(out.leaves)), nil
		if len(r.rows) == 0 && r.apply == nil {
			continue
		}
		taken := r.take(found)
		if r.failed == nil && r.apply != nil {
			if err := mark.run(r); err != nil {
				return outcome{}, err
			}
		}
		if r.failed != nil {
			for _, id := range taken {
				delete(found, id)
			}
			continue
		}
		for i := range r.rows {
			r.rows[i].Place(r.first + int64(i))
			out.rows.add(&r.rows[i], r.times[i])
		}
		out.leaves = append(out.leaves, r.leaves...)
		out.changed = true
	}
	return out, nil
}

// take adds the request's IDs to those that are there, and returns them. One that is there already
// is the request's failure.
func (r *request) take(found map[string]bool) (taken []string) {
	for i := range r.rows {
		id := r.rows[i].Columns["id"]
		if found[id] {
			r.failed = fmt.Errorf("%w: %w: %s", store.ErrUnavailable, store.ErrDuplicate, id)
			return taken
		}
		found[id] = true
		taken = append(taken, id)
	}
	return taken
}

// savepoint is what the changes of a batch are undone to, one after the other.
type savepoint struct {
	w    *writer
	open bool // it is there,
	used bool // and a change since then stays
}

// run runs the request's change of state. What fails is undone, and nothing else.
func (s *savepoint) run(r *request) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), replyTime)
	defer cancel()
	text := ""
	switch {
	case s.open && s.used:
		text = `RELEASE SAVEPOINT request; SAVEPOINT request`
	case !s.open:
		text = `SAVEPOINT request`
	}
	if err := s.w.exec(ctx, text); err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	s.open, s.used = true, true
	r.failed = s.w.applyTo(ctx, r)
	status := s.w.c.PgConn().TxStatus()
	switch {
	case s.w.c.IsClosed():
		return errors.Join(errors.New("the connection was lost during a change of state"), r.failed)
	case failing(r.failed):
		return r.failed
	case r.failed == nil && status == 'T':
		return nil
	case r.failed == nil:
		r.failed = errors.New("audit store: a statement of the change of state failed, and it went on; the append was discarded")
	}
	s.used = false
	if err := s.w.exec(ctx, `ROLLBACK TO SAVEPOINT request`); err != nil {
		return fmt.Errorf("undo an append: %w", err)
	}
	return nil
}

// exec runs statements without arguments in one round trip.
func (w *writer) exec(ctx context.Context, text string) error {
	if text == "" {
		return nil
	}
	return w.c.PgConn().Exec(ctx, text).Close()
}

// errPanic is what a caller gets whose apply panicked. What it panicked with may hold anything.
var errPanic = errors.New("audit store: the change of state panicked; the append was discarded")

// applyTo runs the request's change of state. The caller's context is detached: were it to
// interrupt a statement, the connection would be lost with the whole batch.
func (w *writer) applyTo(ctx context.Context, r *request) error {
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
	return r.apply(ctx, store.Tx{Querier: querier{tx}, Next: r.first})
}
