package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
)

// revoke cuts a subject off: a counter in the database, the feed to the bastions, a receipt (R4).
func (s *Server) revoke(ctx context.Context, c *call) (any, error) {
	var r api.RevokeRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	r.Reason = strings.TrimSpace(printable(r.Reason, 1000))
	if r.Reason == "" {
		return nil, api.Errorf(api.KindInvalid, "a revocation needs a reason").WithHint("repeat with --reason TEXT")
	}
	op := operation{kind: revokeKinds[r.Subject], name: printable(r.Subject+"/"+r.ID, 128), reason: r.Reason}
	if r.Plan {
		op.kind = "audit.read"
	}
	t, err := s.target(ctx, r)
	if err != nil {
		return s.noTarget(ctx, c, op, policy.ActionRevoke, err)
	}
	op.name = t.name
	if t.ended(c) != state.EndedRemoved { // to give up a key of one's own takes no more leave than to log out
		op.decide = s.request(c.session, policy.ActionRevoke, t.resource, policy.Context{Reason: r.Reason, Source: c.source.String()})
	}
	var receipt api.Receipt
	op.act = func(ctx context.Context, _ policy.Decision, _ string) (effect, error) {
		plan, err := s.plan(ctx, t)
		if err != nil {
			return effect{}, err
		}
		receipt.Plan = plan
		made := effect{details: map[string]any{"subject": t.subject.Subject, "email": t.subject.Email, "plan": plan}}
		if r.Plan {
			return made, nil
		}
		made.apply = func(ctx context.Context, tx store.Tx, e audit.Event) error {
			receipt.EventID, receipt.Index, receipt.Time = e.ID, tx.Next, e.Time
			if err := s.forgetAcks(ctx, tx); err != nil {
				return err
			}
			return s.applyRevocation(ctx, tx, c, t, e)
		}
		return made, nil
	}
	if _, err := s.perform(ctx, c, op); err != nil || r.Plan {
		return receipt, err
	}
	s.hub.notify()
	receipt.Points = s.awaitAcks(ctx, t, receipt)
	return receipt, nil
}

// applyRevocation raises the counters and queues the revocation for the feed.
func (s *Server) applyRevocation(ctx context.Context, tx store.Tx, c *call, t target, e audit.Event) error {
	now := s.Now()
	entry := state.Revocation{Index: tx.Next, EventID: e.ID, LoginID: t.loginID, SessionID: t.sessionID, Reason: e.Reason, At: now}
	var err error
	switch {
	case t.cert != nil:
		err = applyCert(ctx, tx, *t.cert, &entry)
	case t.host != nil:
		err = s.applyHost(ctx, tx, c, *t.host, &entry)
	case t.kind == "user.revoke":
		entry.Issuer, entry.Subject = t.subject.Issuer, t.subject.Subject
		err = errors.Join(
			state.BlockSubject(ctx, tx, t.subject.Issuer, t.subject.Subject, c.session.Issuer, c.session.Subject, e.Reason),
			state.EndSessionsOf(ctx, tx, t.subject.Issuer, t.subject.Subject, state.EndedRevoked, now))
		if t.subject.Issuer == machineIssuer {
			err = errors.Join(err, s.applyMachine(ctx, tx, t.subject.Subject, entry))
		}
	case t.loginID != "":
		err = state.EndSession(ctx, tx, t.loginID, t.ended(c), now)
	default: // an SSH session that has not started yet must not start
		var v state.SSHSession
		if v, err = state.SSHByID(ctx, tx, t.sessionID); err == nil && v.State == state.SSHOpening {
			err = state.SetSSHState(ctx, tx, v.ID, state.SSHEnded)
		}
	}
	return errors.Join(err, state.MoveKeys(ctx, tx), state.AddRevocation(ctx, tx, entry))
}

// awaitAcks waits until every bastion, and every agent that the revocation is for, has acknowledged, five
// seconds at most.
func (s *Server) awaitAcks(ctx context.Context, t target, r api.Receipt) []api.Point {
	committed := s.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Times.RevokeWait)
	defer cancel()
	look := s.lookAtPeers()
	defer look.Stop()
	for {
		s.hearPeers(ctx)
		points, waiting, acked := s.hub.points(r.Index, committed, s.Now())
		agents, more, dropped := s.agents.points(t, committed, s.Now())
		if waiting || more {
			select {
			case <-acked:
				continue
			case <-dropped:
				continue
			case <-look.C:
				continue
			case <-ctx.Done():
			}
		}
		points = append(append(points, agents...), s.agentsElsewhere(r.Plan, agents, committed)...)
		points = append(points, api.Point{Kind: api.PointBroker, Name: s.Node + " (broker)", Acknowledged: true})
		slices.SortFunc(points, func(a, b api.Point) int { return strings.Compare(a.Name, b.Name) })
		return points
	}
}

// plan lists what a revocation touches: what it cuts, and what lives on until it expires.
func (s *Server) plan(ctx context.Context, t target) (api.Plan, error) {
	p := api.Plan{Person: api.Person{Issuer: t.subject.Issuer, Subject: t.subject.Subject, Email: t.subject.Email}, Blocks: t.kind == "user.revoke",
		Sessions: []api.SessionInfo{}, Certificates: []api.Outstanding{}, AWS: []api.Outstanding{}}
	now := s.Now()
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		switch {
		case t.cert != nil:
			return s.planCert(ctx, tx, t, &p)
		case t.host != nil:
			return s.planHost(ctx, tx, t, &p)
		}
		infos, err := liveSessions(ctx, tx, t.subject.Issuer, t.subject.Subject, now)
		if err != nil {
			return err
		}
		for _, i := range infos {
			if p.Blocks || i.ID == t.sessionID || t.loginID != "" && i.LoginID == t.loginID {
				p.Sessions = append(p.Sessions, i)
			}
		}
		if t.sessionID != "" {
			return nil
		}
		certs, err := state.CertsOf(ctx, tx, t.subject.Issuer, t.subject.Subject, t.loginID, now)
		if err != nil {
			return err
		}
		for _, c := range certs {
			p.Certificates = append(p.Certificates, outstanding(c))
		}
		grants, err := state.GrantsOf(ctx, tx, t.subject.Issuer, t.subject.Subject, t.loginID, now)
		for _, g := range grants {
			p.AWS = append(p.AWS, api.Outstanding{What: whatOf(g), Until: g.Expires})
		}
		return err
	})
	return p, unavailable(err)
}

// whatOf names a grant as people read it.
func whatOf(g state.Grant) string {
	what := g.Role
	if len(g.Through) > 0 {
		what += " (through " + strings.Join(g.Through, ", ") + ")"
	}
	if g.Console {
		what += " (console)"
	}
	return what
}

func liveSessions(ctx context.Context, q state.Querier, iss, sub string, now time.Time) ([]api.SessionInfo, error) {
	out := []api.SessionInfo{}
	logins, err := state.LiveSessions(ctx, q, iss, sub, now)
	if err != nil {
		return nil, err
	}
	for _, v := range logins {
		out = append(out, loginInfo(v))
	}
	live, err := state.LiveSSH(ctx, q, iss, sub, now)
	if err != nil {
		return nil, err
	}
	return append(out, sshInfos(live)...), nil
}

func loginInfo(v state.Session) api.SessionInfo {
	return api.SessionInfo{ID: v.ID, Kind: v.Kind, Person: person(v), LoginID: v.ID, Source: v.Source, Started: v.Created, NotAfter: v.NotAfter}
}

func sshInfos(all []state.SSHSession) []api.SessionInfo {
	out := make([]api.SessionInfo, len(all))
	for i, v := range all {
		out[i] = api.SessionInfo{ID: v.ID, Kind: "ssh", Person: api.Person{Issuer: v.Issuer, Subject: v.Subject, Email: v.Email}, LoginID: v.LoginID,
			Host: v.Host, Login: v.Login, Source: v.Source, Node: v.Node, Started: v.Started, NotAfter: v.NotAfter}
	}
	return out
}

// sessions lists what is live: everybody's for those who may, one's own for everybody.
func (s *Server) sessions(ctx context.Context, c *call) (any, error) {
	iss, sub := "", ""
	all := policy.Resource{Type: policy.TypeBroker, ID: s.Origin}
	decide := s.request(c.session, policy.ActionListSessions, all, policy.Context{Source: c.source.String()})
	if !s.Policy.Decide(*decide).Allow {
		iss, sub = c.session.Issuer, c.session.Subject
		decide = s.request(c.session, policy.ActionListSessions, policy.Resource{Type: policy.TypeSession, ID: "own", Owner: sub, OwnerIssuer: iss}, policy.Context{Source: c.source.String()})
	}
	op := operation{kind: "audit.read", name: "sessions/all", decide: decide}
	if sub != "" {
		op.name = "sessions/own"
	}
	op.act = func(ctx context.Context, _ policy.Decision, _ string) (effect, error) {
		out := api.Sessions{}
		err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
			var err error
			out.Sessions, err = liveSessions(ctx, tx, iss, sub, s.Now())
			// A registered key is no session that lives; the list of keys has it.
			out.Sessions = slices.DeleteFunc(out.Sessions, func(i api.SessionInfo) bool { return i.Kind == state.KindKey })
			return err
		})
		return effect{reply: out, details: map[string]any{"count": len(out.Sessions)}}, unavailable(err)
	}
	return s.perform(ctx, c, op)
}

// unblock lifts the block that `revoke user` left; somebody else than the person must ask.
func (s *Server) unblock(ctx context.Context, c *call) (any, error) {
	var r api.UnblockRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	switch r.Subject {
	case "", api.SubjectUser:
	case api.SubjectHost:
		return s.unblockHost(ctx, c, r)
	default:
		return nil, api.Errorf(api.KindInvalid, "sega unblocks a user or a host, not a %q", printable(r.Subject, 32))
	}
	var subject state.Subject
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		var err error
		subject, err = s.findSubject(ctx, tx, r.ID)
		return err
	})
	reason := printable(r.Reason, 1000)
	if err != nil {
		return s.noTarget(ctx, c, operation{kind: "user.unblock", name: printable("user/"+r.ID, 128), reason: reason}, policy.ActionUnblock, unavailable(err))
	}
	op := operation{kind: "user.unblock", name: "user/" + subject.Subject, reason: reason, details: map[string]any{"email": subject.Email, "blocked_for": subject.BlockedReason},
		decide: s.request(c.session, policy.ActionUnblock, policy.Resource{Type: policy.TypeUser, ID: policy.UserID(subject.Issuer, subject.Subject)}, policy.Context{Reason: reason, Source: c.source.String()})}
	op.act = func(context.Context, policy.Decision, string) (effect, error) {
		switch {
		case subject.Issuer == c.session.Issuer && subject.Subject == c.session.Subject:
			return effect{denied: api.Errorf(api.KindDenied, "nobody unblocks himself").WithHint("ask another of the security staff")}, nil
		case !subject.Blocked:
			return effect{denied: api.Errorf(api.KindConflict, "%s is not blocked", firstText(subject.Email, subject.Subject))}, nil
		}
		return effect{reply: api.Empty{}, apply: func(ctx context.Context, tx store.Tx, _ audit.Event) error {
			return liftBlock(ctx, tx, subject)
		}}, nil
	}
	return s.perform(ctx, c, op)
}

// liftBlock lifts the block that was read, and none that came since: revocation wins (I8).
func liftBlock(ctx context.Context, tx store.Tx, read state.Subject) error {
	now, err := state.SubjectByID(ctx, tx, read.Issuer, read.Subject)
	if err != nil {
		return err
	}
	if !now.Blocked || now.Epoch != read.Epoch {
		return api.Errorf(api.KindConflict, "%s was revoked or unblocked meanwhile", firstText(read.Email, read.Subject)).
			WithHint("look at it before you repeat: sega audit query --kind 'user.*'")
	}
	return state.UnblockSubject(ctx, tx, read.Issuer, read.Subject)
}

func firstText(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
