package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
)

// answerMemory is how long a question that comes again gets its first answer. A bastion gives up on an
// answer after seconds.
const answerMemory = time.Hour

// maxForwardName bounds a host or a path, in bytes.
const maxForwardName = 1024

// channelType is what a type of channel or request is to the log and to policy.
type channelType struct {
	kind      string // of its event
	channel   string // policy.ChannelShell …
	action    string // of policy, beside ActionConnect; "" for none
	direction string
}

var channelTypes = map[string]channelType{
	api.ChannelShell:           {audit.KindSessionCommand, policy.ChannelShell, "", ""},
	api.ChannelExec:            {audit.KindSessionCommand, policy.ChannelExec, "", ""},
	api.ChannelSubsystem:       {audit.KindSessionCommand, policy.ChannelSubsystem, "", ""},
	api.ChannelDirectTCP:       {audit.KindForwardOpen, policy.ChannelForward, policy.ActionForward, policy.DirectionLocal},
	api.ChannelDirectSocket:    {audit.KindForwardOpen, policy.ChannelForward, policy.ActionForward, policy.DirectionLocal},
	api.ChannelListenTCP:       {audit.KindForwardOpen, policy.ChannelForward, policy.ActionForward, policy.DirectionRemote},
	api.ChannelListenSocket:    {audit.KindForwardOpen, policy.ChannelForward, policy.ActionForward, policy.DirectionRemote},
	api.ChannelForwardedTCP:    {audit.KindForwardOpen, policy.ChannelForward, policy.ActionForward, policy.DirectionRemote},
	api.ChannelForwardedSocket: {audit.KindForwardOpen, policy.ChannelForward, policy.ActionForward, policy.DirectionRemote},
	api.ChannelAgentRequest:    {audit.KindForwardOpen, policy.ChannelAgent, policy.ActionForwardAgent, ""},
	api.ChannelAgent:           {audit.KindForwardOpen, policy.ChannelAgent, policy.ActionForwardAgent, ""},
	api.ChannelX11Request:      {audit.KindForwardOpen, policy.ChannelX11, policy.ActionForwardX11, ""},
	api.ChannelX11:             {audit.KindForwardOpen, policy.ChannelX11, policy.ActionForwardX11, ""},
}

// opening is one question whether something may begin, with our own records of whose it is.
type opening struct {
	request api.ChannelRequest
	channelType
	ssh    state.SSHSession
	person state.Session
	answer *state.Answer
	digest []byte
}

// channel answers whether something may begin in a session, and logs the decision first (I1). Who it is,
// where and as whom comes from the records of the session; that they stand is read again in the
// decision's transaction (R4).
func (s *Server) channel(ctx context.Context, c *call) (any, error) {
	o := opening{}
	if err := decode(c, &o.request); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, s.refuse(ctx, c, api.Errorf(api.KindInvalid, "a bastion does not ask like this: %v", err))
	}
	if err := s.recordsOf(ctx, c, &o); err != nil {
		return nil, err
	}
	if o.answer != nil {
		return s.answerAgain(ctx, c, o)
	}
	return s.answerFirst(ctx, c, o)
}

// check reads what of a request policy and log rely on.
func (o *opening) check() error {
	r, known := o.request, false
	if o.channelType, known = channelTypes[r.Type]; !known {
		return fmt.Errorf("unknown type %q", printable(r.Type, 64))
	}
	switch {
	case r.ID == "" || len(r.ID) > 64 || r.SessionID == "":
		return errors.New("it names no request or no session")
	case len(r.Host) > maxForwardName || len(r.Socket) > maxForwardName || r.Port > 65535:
		return errors.New("it names more than a port or a path")
	case !o.goesSomewhere() && (r.Host != "" || r.Port != 0 || r.Socket != ""):
		return errors.New("only a forward goes somewhere")
	case o.goesSomewhere() && !o.onePlace():
		return errors.New("a forward names a port or a socket")
	case o.kind != audit.KindSessionCommand && (r.Command != "" || len(r.Raw) > 0):
		return errors.New("only a program has a command")
	}
	if r.Type == api.ChannelSubsystem && r.Command == api.SubsystemSFTP {
		o.channel = policy.ChannelSFTP
	}
	body, err := json.Marshal(r)
	digest := sha256.Sum256(body)
	o.digest = digest[:]
	return err
}

func (o *opening) goesSomewhere() bool { return o.action == policy.ActionForward }

// onePlace reports whether a forward names what its type needs. Who listens may leave the host open.
func (o *opening) onePlace() bool {
	r := o.request
	if strings.Contains(r.Type, "streamlocal") {
		return r.Socket != "" && r.Host == "" && r.Port == 0
	}
	return r.Socket == "" && (o.direction == policy.DirectionRemote || r.Host != "" && r.Port != 0)
}

// recordsOf finds session and person, and the answer that the question may have got already.
func (s *Server) recordsOf(ctx context.Context, c *call, o *opening) error {
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		if o.ssh, err = state.SSHByID(ctx, tx, o.request.SessionID); err != nil {
			return err
		}
		if o.person, err = state.SessionByID(ctx, tx, o.ssh.LoginID); err != nil {
			return err
		}
		a, err := state.AnswerByID(ctx, tx, c.session.Subject+"/"+o.request.ID)
		if err == nil {
			o.answer = &a
		}
		if errors.Is(err, state.ErrNotFound) {
			err = nil
		}
		return err
	})
	if errors.Is(err, state.ErrNotFound) || err == nil && o.ssh.Node != c.session.Email {
		return s.refuse(ctx, c, api.Errorf(api.KindNotFound, "this bastion has no session %q", printable(o.request.SessionID, 64)))
	}
	return unavailable(err)
}

// event is that of the decision, without its outcome.
func (s *Server) openingEvent(c *call, o opening) audit.Event {
	e := s.newEvent(c, operation{kind: o.kind, name: audit.ResourceHost + o.ssh.Host, session: o.ssh.ID, loginID: o.ssh.LoginID, reason: o.ssh.Reason, ticket: o.ssh.Ticket,
		actor: &audit.Actor{Kind: "user", Iss: o.ssh.Issuer, Sub: o.ssh.Subject, Email: o.ssh.Email}})
	e.Node, e.Source = c.session.Email, o.ssh.Source // where it happens
	return e
}

// answerFirst decides, makes the decision durable together with the answer, and then answers.
func (s *Server) answerFirst(ctx context.Context, c *call, o opening) (any, error) {
	event := s.openingEvent(c, o)
	decision, grant, problem := s.judgeOpening(o)
	event.PolicyDigest, event.PolicyIDs = decision.Digest, nonNil(decision.PolicyIDs)
	event.Outcome = audit.Success
	if problem != nil {
		event.Outcome = outcomeOf(problem.Kind)
		grant = api.ChannelGrant{Reason: problem.Detail, Hint: problem.Hint}
	}
	grant.Event = event.ID
	if err := s.describe(&event, o, grant, problem); err != nil {
		return nil, s.refuse(ctx, c, api.Errorf(api.KindInvalid, "the request is not one of its type").WithCause(err))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeTimeout)
	defer cancel()
	_, err := s.Log.Append(ctx, []audit.Event{event}, func(ctx context.Context, tx store.Tx) error {
		if err := o.stands(ctx, tx, c); err != nil && problem == nil {
			return err
		}
		return o.keep(ctx, tx, c, grant, s.Now())
	})
	switch {
	case errors.Is(err, errRevoked):
		return nil, s.closeOpening(ctx, event, o, revokedProblem())
	case errors.Is(err, state.ErrExists):
		return nil, api.Errorf(api.KindConflict, "this question is being answered").WithHint("ask again")
	case errors.Is(err, audit.ErrInvalid):
		return nil, s.refuse(ctx, c, api.Errorf(api.KindInvalid, "the request is not one of its type").WithCause(err))
	case err != nil:
		return nil, unavailable(err)
	}
	return grant, nil
}

// answerAgain repeats an answer, where that would still be given: a revocation may have come meanwhile.
func (s *Server) answerAgain(ctx context.Context, c *call, o opening) (any, error) {
	if !bytes.Equal(o.answer.Digest, o.digest) {
		return nil, s.refuse(ctx, c, api.Errorf(api.KindConflict, "another question came under this ID"))
	}
	var grant api.ChannelGrant
	if err := json.Unmarshal(o.answer.Grant, &grant); err != nil {
		return nil, api.Errorf(api.KindInternal, "the answer is not readable").WithCause(err)
	}
	if !grant.Allow {
		return grant, nil
	}
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error { return o.stands(ctx, tx, c) })
	if errors.Is(err, errRevoked) {
		return nil, s.closeOpening(ctx, s.openingEvent(c, o), o, revokedProblem())
	}
	return grant, unavailable(err)
}

// closeOpening logs a refusal beside the decision, and returns it.
func (s *Server) closeOpening(ctx context.Context, event audit.Event, o opening, problem *api.Problem) error {
	event.ID, event.Outcome = audit.NewID(), outcomeOf(problem.Kind)
	if err := s.describe(&event, o, api.ChannelGrant{}, problem); err != nil {
		return err
	}
	if _, err := s.Log.Append(ctx, []audit.Event{event}, nil); err != nil {
		return unavailable(err)
	}
	return problem
}

// stands re-reads that the session is live and nobody whom it hangs on was revoked.
func (o opening) stands(ctx context.Context, q store.Querier, c *call) error {
	now, err := state.SSHByID(ctx, q, o.ssh.ID)
	if err != nil {
		return err
	}
	revoked, err := state.RevokedSSH(ctx, q, o.ssh.ID)
	if err != nil {
		return err
	}
	if now.State != state.SSHLive || revoked {
		return errRevoked
	}
	return errors.Join(current(ctx, q, o.ssh.Bearer), current(ctx, q, c.bearer()))
}

// keep stores the answer for a repetition of the question.
func (o opening) keep(ctx context.Context, q state.Querier, c *call, grant api.ChannelGrant, now time.Time) error {
	raw, err := json.Marshal(grant)
	if err != nil {
		return err
	}
	return state.AddAnswer(ctx, q, state.Answer{ID: c.session.Subject + "/" + o.request.ID, Digest: o.digest, Grant: raw}, now)
}

// openingDetails are those of session.command and of forward.open, a refusal's too.
type openingDetails struct {
	Channel uint32         `json:"channel"`
	Type    string         `json:"type"`
	Command *string        `json:"command,omitempty"`
	Raw     []byte         `json:"raw,omitempty"`
	Cut     bool           `json:"cut,omitempty"`
	Host    string         `json:"host,omitempty"`
	Port    uint32         `json:"port,omitempty"`
	Socket  string         `json:"socket,omitempty"`
	Opaque  bool           `json:"opaque,omitempty"`
	Omit    bool           `json:"omit_content,omitempty"`
	Only    bool           `json:"read_only,omitempty"`
	Error   map[string]any `json:"error,omitempty"`
}

// describe sets the details of a decision's event, without the secrets that a command may hold (R11).
func (s *Server) describe(e *audit.Event, o opening, grant api.ChannelGrant, problem *api.Problem) error {
	r := o.request
	d := openingDetails{Channel: r.Channel, Type: r.Type, Raw: r.Raw, Cut: r.Cut, Host: r.Host, Port: r.Port, Socket: r.Socket, Opaque: grant.Opaque, Omit: grant.OmitContent, Only: grant.ReadOnly}
	if o.kind == audit.KindSessionCommand {
		d.Command = &r.Command
	}
	if problem != nil {
		d.Error = map[string]any{"kind": problem.Kind, "detail": problem.Detail}
	}
	raw, err := json.Marshal(d)
	if err == nil {
		e.Details, err = s.redact.details(o.kind, raw)
	}
	if t := r.Time.UTC(); !r.Time.IsZero() && t.Before(s.Now().Add(time.Minute)) {
		e.Time = t
	}
	return err
}

// judgeOpening decides: by the session's own state, by where a forward goes, and by policy anew for
// each question, so that what changed since the session began counts.
func (s *Server) judgeOpening(o opening) (policy.Decision, api.ChannelGrant, *api.Problem) {
	none := policy.Decision{Digest: s.Policy.Set().Digest()}
	host, known := s.host(o.ssh.Host)
	switch {
	case o.ssh.State == state.SSHEnded || s.Now().After(o.ssh.NotAfter):
		return none, api.ChannelGrant{}, api.Errorf(api.KindDenied, "the session has ended").WithHint("connect again")
	case o.ssh.State != state.SSHLive:
		return none, api.ChannelGrant{}, api.Errorf(api.KindDenied, "the session has not begun").WithHint("connect again")
	case !known:
		return none, api.ChannelGrant{}, api.Errorf(api.KindDenied, "no host %q is known any more", printable(o.ssh.Host, 128)).WithHint("run: sega hosts")
	}
	around, problem := s.forwardOf(o.request, host)
	if problem != nil {
		return none, api.ChannelGrant{}, problem
	}
	return s.decideOpening(o, host, around)
}

func (s *Server) decideOpening(o opening, host Host, forward policy.Forward) (policy.Decision, api.ChannelGrant, *api.Problem) {
	around := policy.Context{Login: o.ssh.Login, Source: o.ssh.Source, Reason: o.ssh.Reason, Ticket: o.ssh.Ticket, Channel: o.channel, Forward: forward,
		HardwareKey: o.ssh.Hardware, UserVerified: o.ssh.Verified}
	if o.channel == policy.ChannelExec || o.channel == policy.ChannelSubsystem {
		around.Command = o.request.Command
	}
	ask := func(action string) *policy.Request { return s.request(o.person, action, hostResource(host), around) }
	op := operation{name: audit.ResourceHost + host.Name, decide: ask(policy.ActionConnect)}
	if o.action != "" {
		op.also = append(op.also, demand{request: ask(o.action)})
	}
	d, problem := s.decided(op)
	if problem != nil {
		return d, api.ChannelGrant{}, problem
	}
	if limit := d.Obligations.MaxDuration; limit > 0 && s.Now().After(o.ssh.Started.Add(limit)) {
		return d, api.ChannelGrant{}, api.Errorf(api.KindDenied, "policy ends sessions after %s, and this one is older", limit).WithHint("connect again")
	}
	grant := api.ChannelGrant{Allow: true}
	grant.Opaque = o.action == policy.ActionForward && s.permits(ask(policy.ActionOpaque))
	if o.channel == policy.ChannelSFTP {
		grant.OmitContent = s.permits(ask(policy.ActionOmitContent))
		around.Channel = policy.ChannelSFTPWrite
		grant.ReadOnly = !s.permits(ask(policy.ActionConnect))
	}
	return d, grant, nil
}

// permits is a decision whose refusal leaves things as they are by default.
func (s *Server) permits(r *policy.Request) bool {
	_, problem := s.decided(operation{decide: r})
	return problem == nil
}

// forwardsOf says what policy may permit in a session that is about to begin. What it can never permit
// the hop certificate does not carry.
func (s *Server) forwardsOf(person state.Session, host Host, around policy.Context) api.HopForwards {
	may := func(action string) bool {
		return s.Policy.Set().Possible(*s.request(person, action, hostResource(host), around))
	}
	return api.HopForwards{Ports: may(policy.ActionForward), Agent: may(policy.ActionForwardAgent), X11: may(policy.ActionForwardX11)}
}
