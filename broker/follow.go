package broker

import (
	"context"
	"errors"
	"time"

	"sega/audit/query"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// following is one search on its way to the asker, and what comes after it.
type following struct {
	s       *Server
	c       *call
	asked   query.Query // as the asker put it
	query   query.Query // as it is searched with
	reading reading
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
		select {
		case <-f.beat.C:
			if err := f.stands(ctx); err != nil {
				return err
			}
		default:
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
	if err := f.stands(ctx); err != nil {
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
	if err := f.stands(ctx); err != nil {
		return err
	}
	if err := f.out.emit(map[string]any{"heartbeat": true}); err != nil {
		return err
	}
	return f.out.push()
}

// stands reports whether the asker may still see what he asked for: the session lives, nobody has
// revoked it, and policy decides as it did (I3).
func (f *following) stands(ctx context.Context) error {
	session, err := f.s.alive(ctx, f.c)
	if err != nil {
		return err
	}
	now := &call{id: f.c.id, request: f.c.request, source: f.c.source, session: session}
	r := f.s.reading(now, f.asked.Where)
	switch {
	case !r.allowed:
		return api.Errorf(api.KindDenied, "policy no longer lets you read these events")
	case r.scope != f.reading.scope || r.content != f.reading.content:
		return api.Errorf(api.KindDenied, "what policy lets you read has changed").WithHint("ask again")
	}
	return nil
}

// alive re-reads the session of a request that goes on, or says why it ends.
func (s *Server) alive(ctx context.Context, c *call) (session state.Session, err error) {
	var current bool
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		if session, err = state.SessionByID(ctx, tx, c.session.ID); err == nil {
			current, err = state.Current(ctx, tx, c.bearer())
		}
		return err
	})
	if errors.Is(err, state.ErrNotFound) {
		return session, api.Errorf(api.KindUnauthenticated, "the session has ended").WithHint("run: sega login")
	}
	if err != nil {
		return session, unavailable(err)
	}
	if problem := s.judgeSession(session, authSession); problem != nil {
		return session, problem
	}
	if !current {
		return session, revokedProblem()
	}
	return session, nil
}
