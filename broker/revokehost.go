package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
)

// targetHost finds a host of the inventory.
func (s *Server) targetHost(id string) (target, error) {
	h, ok := s.host(id)
	if !ok {
		return target{}, api.Errorf(api.KindNotFound, "no host %q is known", printable(id, 128)).WithHint("run: sega hosts")
	}
	return target{kind: revokeKinds[api.SubjectHost], name: "host/" + h.Name, host: &h, resource: hostResource(h)}, nil
}

// planHost lists what goes with a host.
func (s *Server) planHost(ctx context.Context, q state.Querier, t target, p *api.Plan) error {
	p.What, p.Blocks = "host "+t.host.Name, true
	live, err := state.SSHByHost(ctx, q, t.host.Name)
	if err != nil {
		return err
	}
	p.Sessions = append(p.Sessions, sshInfos(live)...)
	certs, err := state.CertsOfName(ctx, q, api.ProfileHost, t.host.ID, s.Now())
	if err != nil {
		return err
	}
	for _, c := range certs {
		p.Certificates = append(p.Certificates, outstanding(c))
	}
	m, err := s.machineOf(ctx, q, *t.host)
	if err != nil || m == nil {
		return err
	}
	own, err := state.LiveSessions(ctx, q, machineIssuer, m.ID, s.Now())
	for _, v := range own {
		p.Sessions = append(p.Sessions, loginInfo(v))
	}
	return err
}

// machineOf is the machine that has enrolled for a host; nil where none has.
func (s *Server) machineOf(ctx context.Context, q state.Querier, h Host) (*state.Machine, error) {
	m, err := state.MachineByName(ctx, q, h.Name)
	if errors.Is(err, state.ErrNotFound) || err == nil && m.Kind != api.MachineHost {
		return nil, nil
	}
	return &m, err
}

// applyHost blocks a host: its certificates go on the list, its machine's sessions end, no session to it starts.
func (s *Server) applyHost(ctx context.Context, tx store.Tx, c *call, h Host, entry *state.Revocation) error {
	entry.Host = h.Name
	b := state.HostBlock{Host: h.Name, Index: entry.Index, Issuer: c.session.Issuer, Subject: c.session.Subject, Reason: entry.Reason, At: entry.At}
	if err := state.BlockHost(ctx, tx, b); err != nil {
		return err
	}
	certs, err := state.CertsOfName(ctx, tx, api.ProfileHost, h.ID, s.Now())
	if err != nil {
		return err
	}
	for _, v := range certs {
		if err := state.RevokeCert(ctx, tx, state.RevokedCert{Profile: v.Profile, Serial: v.Serial, Named: true, ValidBefore: v.ValidBefore, Index: entry.Index, Reason: entry.Reason}); err != nil {
			return err
		}
	}
	opening, err := state.SSHByHost(ctx, tx, h.Name)
	if err := errors.Join(err, endOpening(ctx, tx, opening)); err != nil {
		return err
	}
	m, err := s.machineOf(ctx, tx, h)
	if err != nil || m == nil {
		return err
	}
	subject, err := state.SubjectByID(ctx, tx, machineIssuer, m.ID)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	if !subject.Blocked { // else it stays for what it is blocked for
		err = state.BlockSubject(ctx, tx, machineIssuer, m.ID, c.session.Issuer, c.session.Subject, blockedWith(h.Name)+entry.Reason)
	} else {
		err = nil
	}
	return errors.Join(err, state.EndSessionsOf(ctx, tx, machineIssuer, m.ID, state.EndedRevoked, entry.At))
}

// blockedWith begins the reason for which a host's machine is blocked, so that it is let in with the host and not
// where somebody has revoked it by itself.
func blockedWith(host string) string { return "host " + host + " is revoked: " }

// hostBlocked is the problem of whoever wants something of a host that is revoked, or nil. Read in the transaction that
// releases (R4).
func hostBlocked(ctx context.Context, q state.Querier, host string) (*api.Problem, error) {
	b, err := state.HostBlockOf(ctx, q, host)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return blockedProblem(b), nil
}

func blockedProblem(b state.HostBlock) *api.Problem {
	return api.Errorf(api.KindRevoked, "host %s was revoked: %s", b.Host, b.Reason).WithHint("ask the security staff; who did not revoke it lifts that by: sega unblock host %s", b.Host)
}

// unblockHost lets people reach a host again; somebody else than whoever revoked it must ask. Certificates that were
// revoked stay so: an enrolled host gets a new one.
func (s *Server) unblockHost(ctx context.Context, c *call, r api.UnblockRequest) (any, error) {
	reason := printable(r.Reason, 1000)
	op := operation{kind: audit.KindHostUnblock, name: printable("host/"+r.ID, 128), reason: reason}
	t, err := s.targetHost(r.ID)
	if err != nil {
		return s.noTarget(ctx, c, op, policy.ActionUnblock, err)
	}
	var block state.HostBlock
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		block, err = state.HostBlockOf(ctx, tx, t.host.Name)
		return err
	})
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return nil, unavailable(err)
	}
	blocked := err == nil
	op.name, op.details = t.name, map[string]any{"blocked_for": block.Reason}
	op.decide = s.request(c.session, policy.ActionUnblock, t.resource, policy.Context{Reason: reason, Source: c.source.String()})
	op.act = func(context.Context, policy.Decision, string) (effect, error) {
		switch {
		case !blocked:
			return effect{denied: api.Errorf(api.KindConflict, "host %s is not revoked", t.host.Name)}, nil
		case block.Issuer == c.session.Issuer && block.Subject == c.session.Subject:
			return effect{denied: api.Errorf(api.KindDenied, "nobody lifts what he has revoked himself").WithHint("ask another of the security staff")}, nil
		}
		return effect{reply: api.Empty{}, apply: func(ctx context.Context, tx store.Tx, _ audit.Event) error {
			return s.liftHost(ctx, tx, *t.host, block)
		}}, nil
	}
	return s.perform(ctx, c, op)
}

// liftHost lifts the block that was read, and none that came since: revocation wins (I8).
func (s *Server) liftHost(ctx context.Context, tx store.Tx, h Host, read state.HostBlock) error {
	err := state.UnblockHost(ctx, tx, h.Name, read.Index)
	if errors.Is(err, state.ErrNotFound) {
		return api.Errorf(api.KindConflict, "host %s was revoked or unblocked meanwhile", h.Name).WithHint("look at it before you repeat: sega audit query --kind 'host.*'")
	} else if err != nil {
		return err
	}
	m, err := s.machineOf(ctx, tx, h)
	if err != nil || m == nil {
		return err
	}
	subject, err := state.SubjectByID(ctx, tx, machineIssuer, m.ID)
	if errors.Is(err, state.ErrNotFound) || err == nil && !strings.HasPrefix(subject.BlockedReason, blockedWith(h.Name)) {
		return nil
	} else if err != nil {
		return fmt.Errorf("the machine of %s: %w", h.Name, err)
	}
	return state.UnblockSubject(ctx, tx, machineIssuer, m.ID)
}
