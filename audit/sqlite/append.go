package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
)

// A request is queued until the committer begins it or its caller goes away, whichever comes first.
const (
	queued int32 = iota
	begun
	gone
)

var errClosed = errors.New("the log is closed")

// request is an append on its way through the committer.
type request struct {
	ctx    context.Context
	rows   []audit.Row
	times  []int64 // of rows, ns since 1970
	leaves []tlog.Hash
	size   int // bytes of rows
	apply  func(ctx context.Context, tx store.Tx) error

	state  atomic.Int32
	done   chan struct{} // closed when first and err are set
	first  int64
	err    error
	failed error // of apply or of a row: the outcome if the batch commits
}

// newRequest seals the events on the caller's goroutine, so that the committer need not.
func newRequest(ctx context.Context, events []audit.Event, apply func(context.Context, store.Tx) error) (*request, error) {
	r := &request{ctx: ctx, apply: apply, done: make(chan struct{}),
		rows: make([]audit.Row, len(events)), times: make([]int64, len(events)), leaves: make([]tlog.Hash, len(events))}
	for i, e := range events {
		row, err := audit.Seal(e)
		if err != nil {
			return nil, fmt.Errorf("event %d of %d: %w", i+1, len(events), err)
		}
		r.size += len(row.Body) + len(row.Details)
		r.rows[i], r.times[i], r.leaves[i] = row, e.Time.UnixNano(), tlog.RecordHash(row.Body)
	}
	return r, nil
}

func (r *request) answer(first int64, err error) {
	r.first, r.err = first, err
	close(r.done)
}

// Append implements store.Log. Besides store.ErrUnavailable an error may wrap audit.ErrInvalid (an
// event breaks a rule) or store.ErrDuplicate (an event's ID is in the log): retrying mends neither.
// A context that ends while the append is queued cancels it; once begun, its outcome is awaited.
func (l *Log) Append(ctx context.Context, events []audit.Event, apply func(ctx context.Context, tx store.Tx) error) (int64, error) {
	r, err := newRequest(ctx, events, apply)
	if err != nil {
		return 0, unavailable(err)
	}
	if err := ctx.Err(); err != nil {
		return 0, unavailable(context.Cause(ctx))
	}
	select {
	case <-l.closing:
		return 0, unavailable(errClosed)
	default:
	}
	select {
	case l.queue <- r:
	case <-ctx.Done():
		return 0, unavailable(context.Cause(ctx))
	case <-l.closing:
		return 0, unavailable(errClosed)
	}
	return l.await(ctx, r)
}

func (l *Log) await(ctx context.Context, r *request) (int64, error) {
	var why error
	select {
	case <-r.done:
		return r.first, r.err
	case <-ctx.Done():
		why = context.Cause(ctx)
	case <-l.stopped: // the queue took it when the committer had left already
		why = errClosed
	}
	if r.state.CompareAndSwap(queued, gone) {
		return 0, unavailable(why)
	}
	<-r.done
	return r.first, r.err
}

func unavailable(why error) error { return fmt.Errorf("%w: %w", store.ErrUnavailable, why) }
