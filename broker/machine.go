package broker

import (
	"context"
	"errors"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
)

// machineIssuer is the issuer of machines' identities: they are ours.
const machineIssuer = "sega:machines"

// AddJoinToken makes a single-use token for the enrolment of one machine of a name and kind.
func AddJoinToken(ctx context.Context, log store.Log, token []byte, name, kind string, expires time.Time) error {
	_, err := log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) error {
		return state.AddJoinToken(ctx, tx, state.JoinToken{Hash: token, Name: name, Kind: kind, Expires: expires})
	})
	return err
}

// enroll spends a join token for the key that signs the request (R6).
func (s *Server) enroll(ctx context.Context, c *call) (any, error) {
	var r api.EnrollRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	machine := state.Machine{ID: api.NewID(api.IDMachine), Name: r.Name, Kind: r.Kind, Thumbprint: c.proof.Thumbprint, Created: s.Now()}
	op := operation{kind: "node.enroll", name: "machine/" + printable(r.Name, 64), bearer: &state.Bearer{},
		// The name is the stranger's word until the token is spent: it is no e-mail that a search finds.
		actor: &audit.Actor{Kind: "machine", Iss: machineIssuer, Sub: machine.ID}, details: map[string]any{"kind": printable(r.Kind, 16), "thumbprint": c.proof.Thumbprint}}
	op.act = func(context.Context, policy.Decision, string) (effect, error) {
		return effect{reply: api.Machine{ID: machine.ID, Name: machine.Name, Kind: machine.Kind}, apply: func(ctx context.Context, tx store.Tx, _ audit.Event) error {
			token, err := state.SpendJoinToken(ctx, tx, hashToken(r.Token), s.Now())
			if errors.Is(err, state.ErrNotFound) || err == nil && (token.Name != r.Name || token.Kind != r.Kind || token.Kind == api.MachineHost) {
				return api.Errorf(api.KindDenied, "the join token is unknown, used, expired or for another machine").WithHint("give it a new join_token in the broker's configuration, and restart the broker")
			}
			if err != nil {
				return err
			}
			return s.replaceMachine(ctx, tx, machine)
		}}, nil
	}
	return s.perform(ctx, c, op)
}

// replaceMachine enrols a machine and ends the sessions of the one that had its name: it may have
// been replaced because its key was stolen.
func (s *Server) replaceMachine(ctx context.Context, tx store.Tx, m state.Machine) error {
	if other, err := state.MachineByKey(ctx, tx, m.Thumbprint); err == nil && other.Name != m.Name {
		return api.Errorf(api.KindConflict, "this key is enrolled as %q: every machine has a key of its own", other.Name)
	} else if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	old, err := state.MachineByName(ctx, tx, m.Name)
	if err == nil {
		err = state.EndSessionsOf(ctx, tx, machineIssuer, old.ID, state.EndedReplaced, s.Now())
	}
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	return state.AddMachine(ctx, tx, m)
}

// machineSession opens a session for a key that was enrolled.
func (s *Server) machineSession(ctx context.Context, c *call) (any, error) {
	var machine state.Machine
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		var err error
		machine, err = state.MachineByKey(ctx, tx, c.proof.Thumbprint)
		return err
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, s.refuse(ctx, c, api.Errorf(api.KindUnauthenticated, "this machine's key is not enrolled").WithHint("give it a join_token in the broker's configuration, and restart the broker"))
	}
	if err != nil {
		return nil, unavailable(err)
	}
	if err := s.checkMark(ctx, c, machine.Name); err != nil {
		return nil, err
	}
	now, token := s.Now(), api.NewToken(api.PrefixMachine)
	session := state.Session{ID: api.NewID(api.IDLogin), Kind: state.KindMachine, TokenHash: hashToken(token), Thumbprint: machine.Thumbprint,
		Issuer: machineIssuer, Subject: machine.ID, Email: machine.Name, Method: "machine", Source: c.source.String(),
		Created: now, Expires: now.Add(s.Times.MachineSession), NotAfter: now.Add(s.Times.MachineSession), Epoch: 1, Rev: 1}
	op := operation{kind: "node.session", name: "machine/" + machine.Name, bearer: &state.Bearer{}, loginID: session.ID,
		actor: &audit.Actor{Kind: "machine", Iss: machineIssuer, Sub: machine.ID, Email: machine.Name}}
	op.act = func(context.Context, policy.Decision, string) (effect, error) {
		reply := api.MachineSession{Token: token, SessionID: session.ID, Machine: api.Machine{ID: machine.ID, Name: machine.Name, Kind: machine.Kind},
			Expires: session.Expires, Trust: *s.trust(), LogKey: s.LogKey}
		return effect{reply: reply, apply: func(ctx context.Context, tx store.Tx, _ audit.Event) error {
			// Another key may have been enrolled for the name since we looked.
			enrolled, err := state.MachineByKey(ctx, tx, c.proof.Thumbprint)
			if errors.Is(err, state.ErrNotFound) || err == nil && enrolled.ID != machine.ID {
				return api.Errorf(api.KindUnauthenticated, "this machine's key is not enrolled")
			}
			if err != nil {
				return err
			}
			subject, err := state.SubjectByID(ctx, tx, machineIssuer, machine.ID)
			if err == nil && subject.Blocked {
				return revokedProblem()
			}
			if err != nil && !errors.Is(err, state.ErrNotFound) {
				return err
			}
			if err == nil {
				session.Epoch = subject.Epoch
			}
			if err := state.EndSessionsOf(ctx, tx, machineIssuer, machine.ID, state.EndedReplaced, now); err != nil {
				return err
			}
			return state.AddSession(ctx, tx, session)
		}}, nil
	}
	return s.perform(ctx, c, op)
}
