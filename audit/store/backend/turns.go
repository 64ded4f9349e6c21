package backend

import (
	"context"
	"errors"
	"iter"

	"golang.org/x/sync/semaphore"

	"sega/audit"
)

// Turns are those of a pool of connections for what may look at much of the log, apart from the one
// for state: whatever is searched and counted, a sign-in or a feed waits for none of it. Who finds
// every connection taken waits in the order in which they came, until their context ends. A turn
// lasts for a statement or a page, never while a consumer has a row.
type Turns struct {
	conns  *semaphore.Weighted
	counts *semaphore.Weighted // so many counts at once leave a connection to searches
	spools *semaphore.Weighted // rollups kept aside
}

// maxSpools bounds how many consumers have rollups kept aside for them at once.
const maxSpools = 8

// NewTurns returns those of a pool of so many connections.
func NewTurns(conns int) Turns {
	return Turns{semaphore.NewWeighted(int64(conns)), semaphore.NewWeighted(int64(max(1, conns-1))), semaphore.NewWeighted(maxSpools)}
}

// Run gives f a turn.
func (t Turns) Run(ctx context.Context, f func() error) error { return take(ctx, t.conns, f) }

// Count runs f, which counts in turns, when few enough others do.
func (t Turns) Count(ctx context.Context, f func() error) error { return take(ctx, t.counts, f) }

func take(ctx context.Context, s *semaphore.Weighted, f func() error) error {
	if err := s.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer s.Release(1)
	return f()
}

// Rollups keeps aside what each yields, in a file of a directory ("": that of temporary files), for
// store.Log's Rollups. each returns how many events the rollups cover.
func (t Turns) Rollups(ctx context.Context, dir func() string, each func(add func(audit.Rollup) error) (upTo int64, err error)) (int64, iter.Seq2[audit.Rollup, error], error) {
	if err := t.spools.Acquire(ctx, 1); err != nil {
		return 0, nil, context.Cause(ctx)
	}
	free := func() { t.spools.Release(1) }
	s, err := newSpool(dir())
	if err != nil {
		free()
		return 0, nil, err
	}
	upTo, err := each(s.add)
	if err != nil {
		free()
		return 0, nil, errors.Join(err, s.close())
	}
	all, err := s.all(ctx, free)
	if err != nil {
		free()
	}
	return upTo, all, err
}
