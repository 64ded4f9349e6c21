package sqlite

import (
	"context"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"

	"sega/audit"
	"sega/audit/store"
	"sega/audit/store/backend"
)

// Append implements store.Log; see backend.Committer.
func (l *Log) Append(ctx context.Context, events []audit.Event, apply func(ctx context.Context, tx store.Tx) error) (int64, error) {
	return l.committer.Append(ctx, events, apply)
}

// commit makes the batch durable, or changes nothing and returns why. The outcomes of single
// requests are in them.
func (l *Log) commit(batch []*backend.Request) error {
	if err := l.transact(batch); err != nil {
		return err
	}
	l.known.Advance(l.w.edge.Head)
	l.text.appended()
	return nil
}

// tidy copies the WAL where it is time to.
func (l *Log) tidy() {
	if err := l.w.tidy(l.copier); err != nil {
		l.cfg.Log.Warn("audit store: checkpoint of the WAL failed, it keeps growing", "error", err)
	}
}

func (l *Log) transact(batch []*backend.Request) error {
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
	w, err := newWriter(ctx, c, &l.known)
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
func (l *Log) settle(next backend.Edge, why error) error {
	why = l.broken(fmt.Errorf("commit: %w", why))
	if err := l.ready(); err != nil {
		return fmt.Errorf("%w; its fate is unknown until the database opens again: %w", why, err)
	}
	committed := l.w.edge.Stamp == next.Stamp
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
func (w *writer) requests(batch []*backend.Request) (added []*backend.Request, err error) {
	next := w.edge.Tree.N
	for _, r := range batch {
		r.First, r.Failed = next, nil
		if r.Empty() {
			continue
		}
		if err := w.request(r); err != nil {
			return nil, err
		}
		if r.Failed == nil {
			added = append(added, r)
			next += int64(len(r.Rows))
		}
	}
	return added, nil
}

// request runs one request in a savepoint. A single row needs none: a failed statement undoes itself.
func (w *writer) request(r *backend.Request) error {
	if !r.Applies() && len(r.Rows) == 1 {
		return w.rows(r)
	}
	if err := w.savepoint.run(); err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	if r.Applies() {
		r.Failed = w.lent.Apply(r.Context(), r, func(q store.Querier) store.Querier { return onlyQuerier{q} })
	}
	if r.Failed == nil {
		if err := w.rows(r); err != nil {
			return err
		}
	}
	if failing(r.Failed) {
		return r.Failed
	}
	if r.Failed != nil {
		if err := w.undo.run(); err != nil {
			return fmt.Errorf("undo an append (%w): %w", r.Failed, err)
		}
	}
	if err := w.release.run(); err != nil {
		return fmt.Errorf("release savepoint: %w", err)
	}
	return nil
}

// rows inserts the request's rows. A duplicate ID is the request's failure, any other the batch's.
func (w *writer) rows(r *backend.Request) error {
	for i := range r.Rows {
		row := &r.Rows[i]
		row.Place(r.First + int64(i))
		err := w.put(row, r.Times[i])
		switch code(err) {
		case sqlite3.SQLITE_OK:
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE:
			r.Failed = fmt.Errorf("%w: %w: %s", store.ErrUnavailable, store.ErrDuplicate, row.Columns["id"])
			return nil
		default:
			return fmt.Errorf("insert event %d: %w", row.Index, err)
		}
	}
	return nil
}

// onlyQuerier hides what would end a transaction: of the whole batch, or of a read.
type onlyQuerier struct{ store.Querier }
