package broker

import (
	"context"
	"time"

	"sega/audit/query"
)

// following is one search on its way to the asker, and what comes after it.
type following struct {
	s       *Server
	c       *call
	query   query.Query // as it is searched with
	reading reading
	stands  *standing
	out     *lines
	beat    *time.Ticker
}

// followPoll is how often a stream that follows looks for new events.
const followPoll = 200 * time.Millisecond

// run writes the stream to its end: the last line, or the problem that stands in its place.
func (f *following) run(ctx context.Context, follow bool) {
	f.beat = time.NewTicker(f.s.Times.Heartbeat)
	defer f.beat.Stop()
	var err error
	if follow {
		err = f.follow(ctx)
	} else {
		err = f.search(ctx, f.query)
	}
	if err != nil {
		f.s.Logger.Info("stream of events ended", "request", f.c.id, "reason", err)
		f.out.breakOff(ctx, err)
		return
	}
	f.out.end()
}

// search writes what is there. Once a second it asks whether it still may.
func (f *following) search(ctx context.Context, q query.Query) error {
	for row, err := range f.s.Log.Search(ctx, q) {
		if err != nil {
			return unavailable(err)
		}
		if err := f.stands.still(ctx); err != nil {
			return err
		}
		if err := f.out.emit(f.reading.line(row)); err != nil {
			return err
		}
	}
	return nil
}

// follow writes what is there, and then what is appended, until the broker drains.
func (f *following) follow(ctx context.Context) error {
	poll := time.NewTicker(followPoll)
	defer poll.Stop()
	for {
		if err := f.catchUp(ctx); err != nil {
			return err
		}
		select {
		case <-poll.C:
		case <-f.beat.C:
			if err := f.heartbeat(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-f.s.stop:
			return nil
		}
	}
}

// catchUp writes what the log has beyond the last look.
func (f *following) catchUp(ctx context.Context) error {
	_, tree := f.s.Log.Head()
	if tree.N <= f.query.After+1 {
		return nil
	}
	if err := f.stands.check(ctx); err != nil {
		return err
	}
	f.query.Before = tree.N
	if err := f.search(ctx, f.query); err != nil {
		return err
	}
	f.query.After = tree.N - 1
	return f.out.push()
}

func (f *following) heartbeat(ctx context.Context) error {
	if err := f.stands.check(ctx); err != nil {
		return err
	}
	if err := f.out.emit(map[string]any{"heartbeat": true}); err != nil {
		return err
	}
	return f.out.push()
}
