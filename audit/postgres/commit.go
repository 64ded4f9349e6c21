package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
	l.advance(l.w.edge.Head)
	return nil
}

func (l *Log) transact(batch []*backend.Request) error {
	ctx, cancel := context.WithTimeout(context.Background(), replyTime)
	defer cancel()
	found, err := l.begin(ctx, batch)
	if err != nil {
		return l.broken(err)
	}
	done, err := l.w.requests(batch, found)
	if err != nil {
		return l.broken(err)
	}
	if !done.changed {
		if err := l.w.rollback(ctx); err != nil {
			return l.broken(err)
		}
		return nil
	}
	g, err := l.w.edge.Grow(done.leaves, l.cfg.Signer)
	if err != nil {
		return l.broken(err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), replyTime) // each apply had its own time
	defer cancel()
	switch err := l.w.finish(ctx, &done.rows, g); {
	case errors.Is(err, errFate):
		return l.settle(g.Next.Stamp, err)
	case err != nil:
		return l.broken(err)
	}
	return nil
}

// begin starts the batch's transaction, on a new connection where there is none or where the one
// that is there turns out to be dead: nothing was asked of it that could be done twice.
func (l *Log) begin(ctx context.Context, batch []*backend.Request) (map[string]bool, error) {
	var ids []string
	for _, r := range batch {
		for i := range r.Rows {
			ids = append(ids, r.Rows[i].Columns["id"])
		}
	}
	if l.w != nil {
		found, err := l.w.start(ctx, ids)
		if err == nil || !l.w.c.IsClosed() {
			return found, err
		}
		_ = l.broken(err)
	}
	if err := l.ready(ctx); err != nil {
		return nil, err
	}
	return l.w.start(ctx, ids)
}

// ready connects where an earlier failure has cut the connection.
func (l *Log) ready(ctx context.Context) error {
	if l.w != nil {
		return nil
	}
	c, err := connect(ctx, l.target.forAppending())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := holdOpen(ctx, c.Conn(), l.target.schema); err != nil {
		return errors.Join(err, c.Close())
	}
	l.w = newWriter(c, l.id, &l.known)
	return nil
}

// broken drops a connection that failed, with the transaction that it held: what the committer
// knows of the log is read anew before the next append.
func (l *Log) broken(why error) error {
	if l.w != nil {
		if err := l.w.close(); err != nil {
			l.cfg.Log.Debug("audit store: close the failed connection", "error", err)
		}
		l.w = nil
	}
	return explain(why)
}

// Between the tries to settle a commit, and for all of them.
const (
	settlePause = 100 * time.Millisecond
	settleTime  = 20 * time.Second
)

// settle finds out what became of a COMMIT whose answer did not come, on a new connection. Where the
// commit is there, one of our own behind it is acknowledged before settle returns nil: a server that waits
// for standbys lets others see what they do not have yet, and sends a later commit to them behind it. Where the
// server stays away the fate stays unknown, and nothing is released.
func (l *Log) settle(stamp int64, why error) error {
	why = l.broken(why)
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	for ours := []int64{stamp}; ; {
		last, err := l.lookUp(ctx)
		if err == nil && !slices.Contains(ours, last) {
			return fmt.Errorf("%w; it was not carried out", why)
		}
		if err == nil {
			if last, err = l.confirm(ctx); err == nil {
				return nil
			}
			ours = append(ours, last)
		}
		if errors.Is(err, errUnfit) || errors.Is(err, store.ErrSetBack) {
			return fmt.Errorf("%w; it stays unknown: %w", why, err)
		}
		select {
		case <-time.After(settlePause):
		case <-ctx.Done():
			return fmt.Errorf("%w; it stays unknown: %w", why, err)
		}
	}
}

func (l *Log) lookUp(ctx context.Context) (int64, error) {
	err := l.ready(ctx)
	last := int64(backend.Unread)
	if err == nil {
		last, err = l.w.lastStamp(ctx)
	}
	if err != nil {
		return backend.Unread, l.broken(err)
	}
	return last, nil
}

// confirm commits a new stamp, which it returns, and nothing else.
func (l *Log) confirm(ctx context.Context) (int64, error) {
	if _, err := l.w.start(ctx, nil); err != nil {
		return backend.Unread, l.broken(err)
	}
	g, err := l.w.edge.Grow(nil, nil)
	if err == nil {
		err = l.w.finish(ctx, &rowArrays{}, g)
	}
	if err != nil {
		return g.Next.Stamp, l.broken(err)
	}
	return g.Next.Stamp, nil
}
