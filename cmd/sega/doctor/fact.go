package doctor

import (
	"context"
	"time"
)

// fact is something that several checks need. It is found out once, beginning when the first asks, and
// within a time of its own.
type fact[T any] struct {
	find  func(ctx context.Context) (T, error)
	time  time.Duration
	begin chan struct{} // holds one token until somebody begins
	done  chan struct{} // closed when the rest is there
	value T
	err   error
	took  time.Duration
}

func newFact[T any](limit time.Duration, find func(ctx context.Context) (T, error)) *fact[T] {
	f := &fact[T]{find: find, time: limit, begin: make(chan struct{}, 1), done: make(chan struct{})}
	f.begin <- struct{}{}
	return f
}

// get waits for the fact, no longer than ctx, and at the latest until its own time is over: what finds
// it may be stuck in the system, which takes no context.
func (f *fact[T]) get(ctx context.Context) (T, error) {
	select {
	case <-f.begin:
		go f.run(context.WithoutCancel(ctx))
	default:
	}
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var zero T
		return zero, context.Cause(ctx)
	}
}

func (f *fact[T]) run(ctx context.Context) {
	type outcome struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeout(ctx, f.time)
	defer cancel()
	begun, found := time.Now(), make(chan outcome, 1)
	go func() { // where it hangs it ends with the process, and its answer is dropped
		v, err := f.find(ctx)
		found <- outcome{v, err}
	}()
	timer := time.NewTimer(f.time + lateness)
	defer timer.Stop()
	select {
	case o := <-found:
		f.value, f.err = o.value, o.err
	case <-timer.C:
		f.err = context.DeadlineExceeded
	}
	f.took = time.Since(begun)
	close(f.done)
}
