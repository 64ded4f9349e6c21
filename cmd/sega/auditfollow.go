package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sega/broker/api"
)

// tailOptions are those of `audit tail`, of events and of one session's screen.
type tailOptions struct {
	filters
	lines int
	of    sessionTail // where it is one session
}

func newAuditTail(a *app) *cobra.Command {
	var o tailOptions
	c := &cobra.Command{Use: "tail [QUERY | SESSION]", Short: "Follow events, or what a live SSH session shows", Args: cobra.ArbitraryArgs, ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  sega audit tail 'outcome:denied or kind:user.*'\n  sega audit tail --user alice@example.com --json\n  sega audit tail ssh_abc… --reason INC-7 --identity ~/reviewer.age",
		Long: "Follow the events that a query selects (sega audit query --help) as they happen, the last few that are there first. An\n" +
			"SSH session's ID follows what its person sees, read-only. Ctrl-C ends it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && strings.HasPrefix(args[0], api.IDSSH) {
				if name := besides(cmd, "identity", "reason", "raw"); name != "" {
					return usagef("--%s is for events, not for what a session shows", name)
				}
				return a.tailSession(cmd.Context(), args[0], o.of)
			}
			for _, name := range []string{"identity", "reason", "raw"} {
				if cmd.Flags().Changed(name) {
					return usagef("--%s is for one session: sega audit tail SESSION", name)
				}
			}
			if o.lines < 0 {
				return usagef("--lines is a number of events")
			}
			q, err := o.values(strings.Join(args, " "), a.now())
			if err != nil {
				return err
			}
			return quietly(a.tailEvents(cmd.Context(), q, o))
		}}
	o.flags(c)
	c.Flags().IntVar(&o.lines, "lines", 10, "how many of the events that are there come first")
	c.Flags().BoolVar(&o.of.raw, "raw", false, "of a session: let the recorded side also ask your terminal and reach its clipboard and title")
	viewingFlags(c, &o.of.identity, &o.of.reason)
	return c
}

// besides names a flag of the command's own that was given and is none of those allowed, or "".
func besides(c *cobra.Command, allowed ...string) (name string) {
	c.LocalNonPersistentFlags().Visit(func(f *pflag.Flag) {
		if !slices.Contains(allowed, f.Name) {
			name = f.Name
		}
	})
	return name
}

// How often a lost stream is opened again, and how long one must have held to count as found.
const (
	tailTries = 8
	tailHeld  = 10 * time.Second
	tailWait  = 5 * time.Second // between two tries, at most
)

// errRenew ends a stream whose session is about to end.
var errRenew = errors.New("the session is renewed")

// follower prints events as they come, over sessions that are renewed and streams that are lost.
type follower struct {
	app   *app
	query url.Values
	out   *eventList
	after int64 // index up to which everything was printed or looked at
	lines int   // of those that are there, still to be printed
	tries int   // that failed one after another
}

// tailEvents follows until it is interrupted, which is how it ends.
func (a *app) tailEvents(ctx context.Context, q url.Values, o tailOptions) error {
	f := &follower{app: a, query: q, out: newEventList(a.out, a.json), lines: o.lines, after: -1}
	for {
		begun := a.now()
		err := f.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if a.now().Sub(begun) > tailHeld {
			f.tries = 0
		}
		if err := f.again(ctx, err); err != nil {
			return err
		}
	}
}

// once opens the session, prints what there is, and follows until the stream ends.
func (f *follower) once(ctx context.Context) error {
	s, err := f.app.open(ctx)
	if err != nil {
		return err
	}
	if f.after < 0 {
		if err := f.begin(ctx, s); err != nil {
			return err
		}
	}
	// A session that can be renewed is left in time for that.
	if left := s.saved().Session.Expires.Add(-renewBefore / 2).Sub(f.app.now()); left > 0 && !s.saved().Refresh.Empty() {
		renewing, cancel := context.WithCancelCause(ctx)
		timer := time.AfterFunc(left, func() { cancel(errRenew) })
		defer func() { timer.Stop(); cancel(nil) }()
		ctx = renewing
	}
	return f.follow(ctx, s)
}

// begin prints the last events that are there and notes from where to follow. The log's size is that
// of a checkpoint that was taken before they were looked for, so nothing falls between.
func (f *follower) begin(ctx context.Context, s *session) error {
	if _, err := s.Checkpoint(ctx); err != nil {
		return err
	}
	if s.witness != nil {
		_, tree := s.witness.Latest()
		f.after = tree.N - 1
	}
	if f.lines == 0 {
		return f.shown()
	}
	q := with(f.query, api.ParamNewest, "1", api.ParamLimit, strconv.Itoa(f.lines))
	var last []api.Event
	for e, err := range s.Events(s.app.noticed(ctx), q) {
		if err != nil {
			return err
		}
		last = append(last, e)
	}
	for _, e := range slices.Backward(last) {
		if err := f.out.add(e); err != nil {
			return err
		}
		f.after = max(f.after, e.Index)
	}
	return f.shown()
}

// shown prints what is held, the header of a table too.
func (f *follower) shown() error { return f.out.flush() }

func (f *follower) follow(ctx context.Context, s *session) error {
	for e, err := range s.Events(s.app.noticed(ctx), with(f.query, api.ParamFollow, "1", api.ParamAfter, strconv.FormatInt(f.after, 10))) {
		if err != nil {
			return err
		}
		if err := f.out.add(e); err != nil {
			return err
		}
		if err := f.out.send(); err != nil {
			return err
		}
		f.after, f.tries = e.Index, 0
	}
	return api.Errorf(api.KindUnreachable, "the broker has ended the stream: it is stopping")
}

// again waits before another try, or returns why there is none.
func (f *follower) again(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, errRenew):
		return nil
	case !api.IsKind(err, api.KindUnreachable) || f.after < 0 || f.tries >= tailTries:
		return err
	}
	if f.tries++; f.tries == 1 {
		fmt.Fprintf(f.app.err, "sega: %s; trying again\n", escape(err.Error()))
	}
	select {
	case <-ctx.Done():
	case <-time.After(min(tailWait, time.Duration(1<<f.tries)*250*time.Millisecond)):
	}
	return nil
}

// with returns a copy of values with further ones.
func with(q url.Values, more ...string) url.Values {
	out := url.Values{}
	for name, values := range q {
		out[name] = values
	}
	for i := 0; i < len(more); i += 2 {
		out.Set(more[i], more[i+1])
	}
	return out
}
