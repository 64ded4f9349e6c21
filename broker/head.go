package broker

import (
	"context"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit/store"
)

// headLag is how long the head that we know of may lie behind what another broker has committed to
// the same database (store.Log.Head), and some.
const headLag = 1500 * time.Millisecond

// headPoll is how often we look whether it has come.
const headPoll = 20 * time.Millisecond

// awaitTree returns the tree once it has size events; where that many do not come within the time that
// the head may lag, as it is. It asks the database nothing, so anybody may cause it.
func (s *Server) awaitTree(ctx context.Context, size int64) tlog.Tree {
	ctx, cancel := context.WithTimeout(ctx, headLag)
	defer cancel()
	tick := time.NewTicker(headPoll)
	defer tick.Stop()
	for {
		_, tree := s.Log.Head()
		if tree.N >= size {
			return tree
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return tree
		}
	}
}

// treeWith is the tree of the log for a decision that hangs on its size: where the head that we know of has
// less than size events, the database itself is asked how many there are. The tree has less than size only
// where the log has.
func (s *Server) treeWith(ctx context.Context, size int64) (tlog.Tree, error) {
	_, tree := s.Log.Head()
	if tree.N >= size {
		return tree, nil
	}
	var has int64
	if _, err := s.Log.Append(ctx, nil, func(_ context.Context, tx store.Tx) error {
		has = tx.Next
		return nil
	}); err != nil {
		return tlog.Tree{}, unavailable(err)
	}
	if tree = s.awaitTree(ctx, min(size, has)); tree.N < min(size, has) {
		return tlog.Tree{}, unavailable(errors.Join(store.ErrUnavailable, errors.New("broker: the head of the log does not follow the database")))
	}
	return tree, nil
}
