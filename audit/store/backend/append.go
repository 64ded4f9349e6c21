package backend

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

// ErrClosed, beside store.ErrUnavailable in one error, is of an append that came after Close.
var ErrClosed = errors.New("the log is closed")

// Request is an append on its way through the committer.
type Request struct {
	Rows   []audit.Row // without their places
	Times  []int64     // of Rows, ns since 1970
	Leaves []tlog.Hash // of Rows

	First  int64 // index of the first row, set with the batch
	Failed error // of apply or of a row: the outcome if the batch commits

	ctx   context.Context
	size  int // bytes of Rows
	apply func(ctx context.Context, tx store.Tx) error

	state atomic.Int32
	done  chan struct{} // closed when err is set
	err   error
}

// newRequest seals the events on the caller's goroutine, so that the committer need not.
func newRequest(ctx context.Context, events []audit.Event, apply func(context.Context, store.Tx) error) (*Request, error) {
	r := &Request{ctx: ctx, apply: apply, done: make(chan struct{}),
		Rows: make([]audit.Row, len(events)), Times: make([]int64, len(events)), Leaves: make([]tlog.Hash, len(events))}
	for i, e := range events {
		row, err := audit.Seal(e)
		if err != nil {
			return nil, fmt.Errorf("event %d of %d: %w", i+1, len(events), err)
		}
		r.size += len(row.Body) + len(row.Details)
		r.Rows[i], r.Times[i], r.Leaves[i] = row, e.Time.UnixNano(), tlog.RecordHash(row.Body)
	}
	return r, nil
}

// Applies reports whether the request changes state.
func (r *Request) Applies() bool { return r.apply != nil }

// Empty reports whether the request has nothing to commit.
func (r *Request) Empty() bool { return r.apply == nil && len(r.Rows) == 0 }

func (r *Request) answer(err error) {
	r.err = err
	close(r.done)
}

// answered is what the caller gets.
func (r *Request) answered() (int64, error) {
	if r.err != nil {
		return 0, r.err
	}
	return r.First, nil
}

// Append implements store.Log. Besides store.ErrUnavailable an error may wrap audit.ErrInvalid (an
// event breaks a rule) or store.ErrDuplicate (an event's ID is in the log): retrying mends neither.
// A context that ends while the append is queued cancels it; once begun, its outcome is awaited.
func (c *Committer) Append(ctx context.Context, events []audit.Event, apply func(ctx context.Context, tx store.Tx) error) (int64, error) {
	r, err := newRequest(ctx, events, apply)
	if err != nil {
		return 0, unavailable(err)
	}
	if err := ctx.Err(); err != nil {
		return 0, unavailable(context.Cause(ctx))
	}
	select {
	case <-c.closing:
		return 0, unavailable(ErrClosed)
	default:
	}
	select {
	case c.queue <- r:
	case <-ctx.Done():
		return 0, unavailable(context.Cause(ctx))
	case <-c.closing:
		return 0, unavailable(ErrClosed)
	}
	return c.await(ctx, r)
}

func (c *Committer) await(ctx context.Context, r *Request) (int64, error) {
	var why error
	select {
	case <-r.done:
		return r.answered()
	case <-ctx.Done():
		why = context.Cause(ctx)
	case <-c.stopped: // the queue took it when the committer had left already
		why = ErrClosed
	}
	if r.state.CompareAndSwap(queued, gone) {
		return 0, unavailable(why)
	}
	<-r.done
	return r.answered()
}

func unavailable(why error) error { return fmt.Errorf("%w: %w", store.ErrUnavailable, why) }
