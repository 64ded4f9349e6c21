package postgres

import (
	"context"
	"database/sql"
	"time"

	"sega/audit"
	"sega/audit/store/backend"
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
		if err := l.look(ctx); err != nil && !l.known.Lose(l.cfg.Log, err) {
			l.cfg.Log.Debug("audit store: ask for the head", "error", err)
		}
	}
}

// look takes a newer head over.
func (l *Log) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, replyTime)
	defer cancel()
	known := l.known.Head() // before the database is asked: it has that much at least
	return l.read(ctx, func(ctx context.Context, tx *sql.Tx) error {
		h, err := backend.ScanHead(tx.QueryRowContext(ctx, sqlHead).Scan)
		if err != nil || h.Stamp == known.Stamp {
			return err
		}
		if err := backend.CheckExtends(known.Tree, h.Tree, chunksIn(ctx, tx)); err != nil {
			return err
		}
		l.advance(h)
		return nil
	})
}

// advance moves the head that is known on, and wakes the indexer for each segment that is complete.
func (l *Log) advance(h backend.Head) {
	before := l.known.Head().Tree.N
	l.known.Advance(h)
	if audit.RolledUp(h.Tree.N) == audit.RolledUp(before) {
		return
	}
	select {
	case l.grew <- struct{}{}:
	default: // it has not looked yet
	}
}
