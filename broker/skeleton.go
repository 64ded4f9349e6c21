package broker

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/policy"
	"sega/broker/state"
)

// outcomeTimeout bounds the record of an outcome, which outlives its request.
const outcomeTimeout = 10 * time.Second

// endpoint is a row of the table in server.go. handle decodes the request and says what it is
// about; perform does the rest.
type endpoint struct {
	method, route string
	auth          authKind
	handle        func(ctx context.Context, c *call) (any, error)
}

// call is one request on its way through the skeleton.
type call struct {
	id      string // request ID
	request *http.Request
	writer  http.ResponseWriter
	source  netip.Addr
	proof   dpop.Proof
	session state.Session // zero where there is none
	recent  bool          // the session is as it was remembered: its endpoint acts by twice
	shown   string        // login whose token was shown under another key: not the caller's
}

func newRequestID() string { return api.NewID("req_") }

// errRevoked is what an apply returns when the subject has changed since it was authenticated.
var errRevoked = errors.New("broker: the subject was revoked meanwhile")

// operation is what an endpoint wants: who may (policy), what to call it in the log, how to act.
type operation struct {
	kind     string          // of its events
	name     string          // resource in the log, "type/name"
	decide   *policy.Request // nil: no decision beyond authentication
	also     []demand        // must be permitted as well
	actor    *audit.Actor    // nil: the session's
	loginID  string          // "" : the session's
	session  string          // ssh_…
	reason   string
	ticket   string
	details  any           // of a denial, and of an outcome that sets none
	external bool          // the effect is outside of our database: intent first (R3)
	bearer   *state.Bearer // whose counters must not have moved; nil: the session's
	act      func(ctx context.Context, d policy.Decision, action string) (effect, error)
}

// demand is a further decision that an operation takes.
type demand struct {
	name    string // resource in the log, where it is refused; "": the operation's
	request *policy.Request
}

// effect is what acting has made: nothing of it leaves before its event is durable (I1).
type effect struct {
	reply   any
	details any
	apply   func(ctx context.Context, tx store.Tx, event audit.Event) error
	denied  *api.Problem // the act found that it must not be, or failed half-way: recorded with the details, then answered
}

// perform runs an operation: authorise, intent, act, outcome, reply.
func (s *Server) perform(ctx context.Context, c *call, op operation) (any, error) {
	event := s.newEvent(c, op)
	var decision policy.Decision
	if op.decide != nil {
		var refused []refusal
		decision, refused = s.decisions(op)
		event.PolicyDigest, event.PolicyIDs = decision.Digest, nonNil(decision.PolicyIDs)
		if len(refused) > 0 && c.recent {
			return nil, errOutdated
		}
		if len(refused) > 0 {
			return nil, s.denyEach(ctx, event, op.details, refused)
		}
	}
	if op.external {
		s.underway.Store(event.Action, true)
		defer s.underway.Delete(event.Action)
		if err := s.intend(ctx, c, event, op); err != nil {
			return nil, err
		}
	}
	made, err := op.act(ctx, decision, event.Action)
	if c.recent && (err != nil || made.denied != nil) {
		return nil, errOutdated
	}
	if err != nil {
		return nil, s.failed(ctx, event, op, err)
	}
	if made.denied != nil {
		op.details = firstOf(made.details, op.details)
		return nil, s.failed(ctx, event, op, made.denied)
	}
	return s.conclude(ctx, c, event, op, made)
}

// judge turns a decision about a resource into the problem that the person reads, or nil.
func (s *Server) judge(d policy.Decision, name string, around policy.Context) *api.Problem {
	if !d.Allow {
		kind := api.KindDenied
		switch d.Cause {
		case policy.CauseMFA:
			kind = api.KindMFA
		case policy.CauseNoPolicy:
			kind = api.KindUnavailable
		}
		if len(d.Errors) > 0 {
			s.Logger.Error("policy errs", "errors", d.Errors)
		}
		p := api.Errorf(kind, "%s", d.Reason)
		p.PolicyIDs = d.PolicyIDs
		return p
	}
	unmet := d.Obligations.Unmet(around)
	switch {
	case unmet.Reason:
		return api.Errorf(api.KindDenied, "policy asks for a reason for %s", name).WithHint("repeat with --reason TEXT")
	case unmet.Ticket:
		return api.Errorf(api.KindDenied, "policy asks for a ticket for %s", name).WithHint("repeat with --ticket ID")
	case unmet.Verified:
		return api.Errorf(api.KindDenied, "policy asks for a FIDO2 key that verifies its user for %s", name).WithHint("use one made by ssh-keygen -t ed25519-sk -O verify-required: sega ssh --key FILE --verify HOST")
	case unmet.Hardware:
		return api.Errorf(api.KindDenied, "policy asks for a FIDO2 key for %s", name).WithHint("use one made by ssh-keygen -t ed25519-sk: sega ssh --key FILE HOST")
	case unmet.StepUp:
		return api.Errorf(api.KindStepUp, "policy asks for a login of the last %s for %s", d.Obligations.MaxAuthAge, name).WithHint("run: sega login")
	}
	return nil
}

// newEvent fills in all of an event that does not depend on the outcome.
func (s *Server) newEvent(c *call, op operation) audit.Event {
	e := audit.Event{V: 1, ID: audit.NewID(), Time: s.Now().UTC(), Kind: op.kind, Actor: c.actor(), LoginID: c.session.ID, SessionID: op.session,
		RequestID: c.id, Action: api.NewID("act_"), Resource: op.name, Reason: op.reason, Ticket: op.ticket,
		PolicyDigest: s.Policy.Set().Digest(), PolicyIDs: []string{}, Source: c.source.String(), Node: s.Node}
	if op.actor != nil {
		e.Actor = *op.actor
	}
	if op.loginID != "" {
		e.LoginID = op.loginID
	}
	return e
}

// actor is who stands behind the session.
func (c *call) actor() audit.Actor {
	switch c.session.Kind {
	case state.KindLogin:
		return audit.Actor{Kind: "user", Iss: c.session.Issuer, Sub: c.session.Subject, Email: c.session.Email}
	case state.KindMachine:
		return audit.Actor{Kind: "machine", Iss: c.session.Issuer, Sub: c.session.Subject, Email: c.session.Email}
	}
	return audit.Actor{Kind: "anonymous"}
}

// bearer is who would hold what is handed out.
func (c *call) bearer() state.Bearer {
	return state.Bearer{LoginID: c.session.ID, Issuer: c.session.Issuer, Subject: c.session.Subject, Epoch: c.session.Epoch, Rev: c.session.Rev}
}

// current is the re-reading of R4: in the transaction that would release, the counters still stand.
func current(ctx context.Context, tx store.Querier, b state.Bearer) error {
	if b.LoginID == "" {
		return nil // nobody is logged in yet: login looks at the block itself
	}
	ok, err := state.Current(ctx, tx, b)
	if err == nil && !ok {
		err = errRevoked
	}
	return err
}

// stands re-reads everybody whose counters must not have moved: the person who would hold what is
// released, and the session that asks for it, which is a bastion's where it asks for somebody.
func (op operation) stands(ctx context.Context, tx store.Tx, c *call) error {
	own := c.bearer()
	var err error
	if c.recent {
		err = unchanged(ctx, tx, c.session)
	} else {
		err = current(ctx, tx, own)
	}
	if err == nil && op.bearer != nil && *op.bearer != own {
		err = current(ctx, tx, *op.bearer)
	}
	return err
}

// intend records what is about to happen outside, and that its outcome is open.
func (s *Server) intend(ctx context.Context, c *call, event audit.Event, op operation) error {
	event.ID, event.Outcome = audit.NewID(), audit.Intent
	if err := setDetails(&event, op.details); err != nil {
		return err
	}
	body, err := json.Marshal(event)
	if err != nil {
		return err
	}
	_, err = s.Log.Append(ctx, []audit.Event{event}, func(ctx context.Context, tx store.Tx) error {
		if err := op.stands(ctx, tx, c); err != nil {
			return err
		}
		return state.OpenIntent(ctx, tx, state.Intent{Action: event.Action, Node: s.Node, Body: body})
	})
	if errors.Is(err, errRevoked) {
		return s.deny(ctx, event, op.details, revokedProblem())
	}
	return unavailable(err)
}

// conclude makes the outcome durable and only then answers.
func (s *Server) conclude(ctx context.Context, c *call, event audit.Event, op operation, made effect) (any, error) {
	event.Outcome, event.Time = audit.Success, s.Now().UTC()
	op.details = firstOf(made.details, op.details) // what was made is told of a refusal, too
	if err := setDetails(&event, op.details); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeTimeout)
	defer cancel()
	_, err := s.Log.Append(ctx, []audit.Event{event}, func(ctx context.Context, tx store.Tx) error {
		if op.external {
			if err := state.CloseIntent(ctx, tx, event.Action); err != nil {
				return err
			}
		}
		if err := op.stands(ctx, tx, c); err != nil {
			return err
		}
		if made.apply == nil {
			return nil
		}
		return made.apply(ctx, tx, event)
	})
	var problem *api.Problem
	switch {
	case err == nil:
		return made.reply, nil
	case errors.Is(err, errOutdated):
		return nil, errOutdated
	case errors.Is(err, errRevoked):
		return nil, s.close(ctx, event, op, audit.Revoked, revokedProblem())
	case errors.As(err, &problem):
		return nil, s.close(ctx, event, op, outcomeOf(problem.Kind), problem)
	case !errors.Is(err, store.ErrUnavailable): // the records refuse, the log does not
		return nil, s.close(ctx, event, op, audit.Failure, asProblem(err))
	}
	return nil, unavailable(err)
}

// failed records that acting failed or denied itself, and answers why.
func (s *Server) failed(ctx context.Context, event audit.Event, op operation, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeTimeout)
	defer cancel()
	problem := asProblem(err)
	outcome := outcomeOf(problem.Kind)
	if problem.Kind == api.KindUnreachable && op.external {
		outcome = audit.Unknown // the call may have arrived
	}
	return s.close(ctx, event, op, outcome, problem)
}

// close records an outcome that hands out nothing, closes the intent where there is one, and
// returns the problem to answer.
func (s *Server) close(ctx context.Context, event audit.Event, op operation, outcome audit.Outcome, problem *api.Problem) error {
	event.ID, event.Outcome, event.Time = audit.NewID(), outcome, s.Now().UTC()
	if err := setDetails(&event, denial(op.details, problem)); err != nil {
		return err
	}
	_, err := s.Log.Append(ctx, []audit.Event{event}, func(ctx context.Context, tx store.Tx) error {
		if !op.external {
			return nil
		}
		return state.CloseIntent(ctx, tx, event.Action)
	})
	if err != nil {
		return unavailable(err)
	}
	return problem
}

// deny records a refusal and returns it. Where it cannot be recorded, that is what is answered.
func (s *Server) deny(ctx context.Context, event audit.Event, details any, problem *api.Problem) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeTimeout)
	defer cancel()
	return s.close(ctx, event, operation{details: details}, outcomeOf(problem.Kind), problem)
}

// denyEach records what policy refuses, an event for each resource, and returns the first refusal.
func (s *Server) denyEach(ctx context.Context, event audit.Event, details any, refused []refusal) error {
	for i, r := range refused {
		if i > 0 && r.name == refused[0].name {
			continue // a second decision on the same thing
		}
		if err := s.deny(ctx, r.of(event), details, r.problem); !errors.Is(err, r.problem) {
			return err
		}
	}
	return refused[0].problem
}

func outcomeOf(kind api.Kind) audit.Outcome {
	switch kind {
	case api.KindRevoked:
		return audit.Revoked
	case api.KindUpstream, api.KindUnreachable, api.KindInternal, api.KindUnavailable:
		return audit.Failure
	}
	return audit.Denied
}

// denial adds the answer to the details, so that the log says why.
func denial(details any, p *api.Problem) any {
	return map[string]any{"request": details, "error": map[string]any{"kind": p.Kind, "detail": p.Detail}}
}

func setDetails(e *audit.Event, details any) error {
	if details == nil {
		e.Details = nil
		return nil
	}
	raw, err := json.Marshal(details)
	e.Details = raw
	return err
}

func revokedProblem() *api.Problem { return revokedFor("") }

// revokedFor tells a person whose access was revoked why, as the feed tells his agent; "" where that is not known.
func revokedFor(reason string) *api.Problem {
	p := api.Errorf(api.KindRevoked, "access was revoked").WithHint("ask the security staff; after an unblock run: sega login")
	if reason != "" {
		p.Detail += ": " + reason
	}
	return p
}

// whyRevoked gives a refusal of a session that was revoked the reason. Where that cannot be read, it is the refusal that it was.
func (s *Server) whyRevoked(ctx context.Context, session state.Session, p *api.Problem) *api.Problem {
	if p.Kind != api.KindRevoked {
		return p
	}
	var reason string
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		reason, err = state.RevokedWhy(ctx, tx, session)
		return err
	})
	if err != nil {
		return p
	}
	return revokedFor(reason)
}
