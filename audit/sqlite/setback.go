package sqlite

import (
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit/store"
)

// known is the tree of the last commit; the empty one before there is any.
func (l *Log) known() tlog.Tree {
	if h := l.last.Load(); h != nil {
		return h.tree
	}
	return tlog.Tree{}
}

// setBack makes the log refuse everything from now on, if that is what the error says.
func (l *Log) setBack(err error) {
	if l.lost.Keep(err) {
		l.cfg.Log.Error("audit store: nothing is appended and nothing read until this process is started anew", "error", err)
	}
}

// sameFile looks whether the database that is open still is the one of that name. What is appended to
// one that was replaced or removed is gone with the process, whatever was synced.
func (l *Log) sameFile() error {
	now, err := os.Stat(l.cfg.Path)
	switch {
	case err != nil:
		return fmt.Errorf("look at the database: %w", err)
	case !os.SameFile(l.file, now):
		return fmt.Errorf("%w: another file has taken the place of %s", store.ErrSetBack, l.cfg.Path)
	}
	return nil
}
