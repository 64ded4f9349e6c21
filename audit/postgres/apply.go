package postgres

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit/store"
	"sega/audit/store/backend"
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
func (w *writer) requests(batch []*backend.Request, found map[string]bool) (outcome, error) {
	var out outcome
	for _, r := range batch {
		out.rows.left += len(r.Rows)
	}
	out.leaves = make([]tlog.Hash, 0, out.rows.left)
	mark := savepoint{w: w}
	for _, r := range batch {
		r.First, r.Failed = w.edge.Tree.N+int64(len(out.leaves)), nil
		if r.Empty() {
			continue
		}
		taken := take(r, found)
		if r.Failed == nil && r.Applies() {
			if err := mark.run(r); err != nil {
				return outcome{}, err
			}
		}
		if r.Failed != nil {
			for _, id := range taken {
				delete(found, id)
			}
			continue
		}
		for i := range r.Rows {
			r.Rows[i].Place(r.First + int64(i))
			out.rows.add(&r.Rows[i], r.Times[i])
		}
		out.leaves = append(out.leaves, r.Leaves...)
		out.changed = true
	}
	return out, nil
}

// take adds the request's IDs to those that are there, and returns them. One that is there already
// is the request's failure.
func take(r *backend.Request, found map[string]bool) (taken []string) {
	for i := range r.Rows {
		id := r.Rows[i].Columns["id"]
		if found[id] {
			r.Failed = fmt.Errorf("%w: %w: %s", store.ErrUnavailable, store.ErrDuplicate, id)
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
func (s *savepoint) run(r *backend.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), replyTime)
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
	r.Failed = s.w.lent.Apply(ctx, r, func(q store.Querier) store.Querier { return querier{q} })
	status := s.w.c.PgConn().TxStatus()
	switch {
	case s.w.c.IsClosed():
		return errors.Join(errors.New("the connection was lost during a change of state"), r.Failed)
	case failing(r.Failed):
		return r.Failed
	case r.Failed == nil && status == 'T':
		return nil
	case r.Failed == nil:
		r.Failed = errors.New("audit store: a statement of the change of state failed, and it went on; the append was discarded")
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
