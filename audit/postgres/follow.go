package postgres

import (
	"context"
	"database/sql"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit/store"
)

// followTime is between two looks at what other processes have appended.
const followTime = 500 * time.Millisecond

// follow keeps Head within a second of what other processes commit. While the server is away the
// last head stays, and where the database was set back it stays for good.
func (l *Log) follow(ctx context.Context) {
	tick := time.NewTicker(followTime)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := l.look(ctx); err != nil && !l.setBack(err) {
			l.cfg.Log.Debug("audit store: ask for the head", "error", err)
		}
	}
}

// look takes a newer head over.
func (l *Log) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, replyTime)
	defer cancel()
	known := l.last.Load() // before the database is asked: it has that much at least
	return l.read(ctx, func(ctx context.Context, tx *sql.Tx) error {
		h, err := scanHead(tx.QueryRowContext(ctx, sqlHead).Scan)
		if err != nil || h.stamp == known.stamp {
			return err
		}
		if err := store.CheckExtends(known.tree, h.tree, chunksIn(ctx, tx)); err != nil {
			return err
		}
		l.advance(&h)
		l.grown(h.tree.N)
		return nil
	})
}

// known is the newest tree that this process has signed or seen; the empty one before it has any.
func (l *Log) known() tlog.Tree {
	if h := l.last.Load(); h != nil {
		return h.tree
	}
	return tlog.Tree{}
}

// advance moves the head that is known on, and never back: committer and follower may come with theirs in any order.
func (l *Log) advance(h *head) {
	for {
		old := l.last.Load()
		if old != nil && h.tree.N < old.tree.N || l.last.CompareAndSwap(old, h) {
			return
		}
	}
}

// setBack makes the log refuse everything from now on, if that is what the error says.
func (l *Log) setBack(err error) bool {
	if l.lost.Keep(err) {
		l.cfg.Log.Error("audit store: nothing is appended and nothing read until this process is started anew", "error", err)
		return true
	}
	return false
}
