package broker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/awssts"
	"sega/broker/policy"
	"sega/broker/state"
)

// standsEvery is how often a stream that sends asks whether it still may: revocation, the end of the
// login and policy reach it within that and one write (I3).
const standsEvery = time.Second

// piece is how much of what is sent whole goes out between two looks at the time.
const piece = 64 << 10

// standing says of one stream whether it may go on. It is for one goroutine.
type standing struct {
	s    *Server
	c    *call
	kind authKind
	may  func(now *call) error // decides anew for the session as it is now; nil: the session alone counts
	next time.Time             // when it is due, by the process's own clock
}

func (s *Server) standing(c *call, kind authKind, may func(now *call) error) *standing {
	return &standing{s: s, c: c, kind: kind, may: may, next: time.Now().Add(s.standsEvery)}
}

// still is check, at most once a second.
func (g *standing) still(ctx context.Context) error {
	if time.Now().Before(g.next) {
		return nil
	}
	return g.check(ctx)
}

// check re-reads the session, its groups and what was revoked, and decides anew. Its error is the
// problem that a new request would get.
func (g *standing) check(ctx context.Context) error {
	g.next = time.Now().Add(g.s.standsEvery)
	session, err := g.s.alive(ctx, g.c, g.kind)
	if err != nil || g.may == nil {
		return err
	}
	now := *g.c
	now.session = session
	return g.may(&now)
}

// mayStill decides an operation anew, obligations included.
func (s *Server) mayStill(build func(now *call) operation) func(now *call) error {
	return func(now *call) error {
		if _, problem := s.decided(build(now)); problem != nil {
			return problem
		}
		return nil
	}
}

// alive re-reads the session of a request that goes on, or says why it ends.
func (s *Server) alive(ctx context.Context, c *call, kind authKind) (session state.Session, err error) {
	var current bool
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		if session, err = state.SessionByID(ctx, tx, c.session.ID); err != nil {
			return err
		}
		if kind.machine() != "" {
			if m, err := state.MachineByID(ctx, tx, session.Subject); err != nil || m.Kind != kind.machine() {
				return errors.Join(err, state.ErrNotFound)
			}
		}
		current, err = state.Current(ctx, tx, c.bearer())
		return err
	})
	if errors.Is(err, state.ErrNotFound) {
		return session, api.Errorf(api.KindUnauthenticated, "the session has ended").WithHint("run: sega login")
	}
	if err != nil {
		return session, unavailable(err)
	}
	if problem := s.judgeSession(session, kind); problem != nil {
		return session, s.whyRevoked(ctx, session, problem)
	}
	if !current {
		return session, s.whyRevoked(ctx, session, revokedProblem())
	}
	return session, nil
}

// copy sends in for as long as the stream stands.
func (g *standing) copy(ctx context.Context, out io.Writer, in io.Reader) error {
	buf := make([]byte, piece)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if err := g.still(ctx); err != nil {
				return err
			}
			if _, err := out.Write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// copyBytes is copy for what is in memory.
func (g *standing) copyBytes(ctx context.Context, out io.Writer, data []byte) error {
	return g.copy(ctx, out, bytes.NewReader(data))
}

// decided is what policy says of an operation, and the problem where it may not be.
func (s *Server) decided(op operation) (policy.Decision, *api.Problem) {
	d, refused := s.decisions(op)
	if len(refused) > 0 {
		return refused[0].decision, refused[0].problem
	}
	return d, nil
}

// refusal is one decision that stands against an operation.
type refusal struct {
	name     string // resource in the log
	decision policy.Decision
	problem  *api.Problem
}

// of is the event of the refusal.
func (r refusal) of(e audit.Event) audit.Event {
	e.Resource, e.PolicyIDs = r.name, nonNil(r.decision.PolicyIDs)
	return e
}

// decisions takes every decision of an operation, by one set of policies: what all of them permit
// together, and each refusal.
func (s *Server) decisions(op operation) (all policy.Decision, refused []refusal) {
	set := s.Policy.Set()
	for i, q := range append([]demand{{op.name, op.decide}}, op.also...) {
		if q.name == "" {
			q.name = op.name
		}
		d := set.Decide(*q.request)
		if problem := s.judge(d, q.name, q.request.Context); problem != nil {
			refused = append(refused, refusal{q.name, d, problem})
		}
		if i == 0 {
			all = d
		} else {
			all = both(all, d)
		}
	}
	return all, refused
}

// both is what two decisions permit together: by the policies of both, and for the shorter time. Where the
// first names none, that is what it gives alone. Whether their other terms are met each was judged by itself.
func both(a, b policy.Decision) policy.Decision {
	a.PolicyIDs = slices.Clone(a.PolicyIDs)
	for _, id := range b.PolicyIDs {
		if !slices.Contains(a.PolicyIDs, id) {
			a.PolicyIDs = append(a.PolicyIDs, id)
		}
	}
	if d := b.Obligations.MaxDuration; d > 0 {
		a.Obligations.MaxDuration = min(d, cmp.Or(a.Obligations.MaxDuration, awssts.DefaultDuration))
	}
	return a
}
