package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit/store"
)

// headLag is how long the head that we know of may lie behind what another broker has committed to
// the same database (store.Log.Head), and some.
const headLag = 1500 * time.Millisecond

// headPoll is how often it is looked at, once for all who wait for it.
const headPoll = 20 * time.Millisecond

// headReach is how many events another broker may have committed beyond the head that we know of: all
// that a backend takes in headLag. A size beyond it is no reason to wait.
const headReach = 100_000

// headWatch tells those who wait for the head that it has moved. One of them looks; where that one
// leaves, another takes his place.
type headWatch struct {
	mu      sync.Mutex
	looking bool
	moved   chan struct{} // closed when the head has moved, or nobody looks any more
}

// wait returns when the head's size is not was any more, when who looked has left, or when ctx ends.
func (h *headWatch) wait(ctx context.Context, was int64, size func() int64) {
	h.mu.Lock()
	if h.moved == nil {
		h.moved = make(chan struct{})
	}
	moved, look := h.moved, !h.looking
	h.looking = true
	h.mu.Unlock()
	if !look {
		if size() != was {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
		}
		return
	}
	defer h.leave()
	tick := time.NewTicker(headPoll)
	defer tick.Stop()
	for size() == was {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (h *headWatch) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looking = false
	close(h.moved)
	h.moved = nil
}

// headSize is the size of the log as this broker knows it.
func (s *Server) headSize() int64 {
	_, tree := s.Log.Head()
	return tree.N
}

// awaitTree returns the tree once it has size events; where that many do not come within the time that
// the head may lag, as it is. It asks the database nothing. Strangers wait only through awaitClaimed.
func (s *Server) awaitTree(ctx context.Context, size int64) tlog.Tree {
	ctx, cancel := context.WithTimeout(ctx, headLag)
	defer cancel()
	for {
		_, tree := s.Log.Head()
		if tree.N >= size || ctx.Err() != nil {
			return tree
		}
		s.heads.wait(ctx, tree.N, s.headSize)
	}
}

// awaitClaimed is awaitTree for a size that somebody names: it waits only where another broker may have
// committed so much. Alone on its database a broker knows its head.
func (s *Server) awaitClaimed(ctx context.Context, size int64) tlog.Tree {
	if _, tree := s.Log.Head(); !s.Peers || size > tree.N+headReach {
		return tree
	}
	return s.awaitTree(ctx, size)
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
