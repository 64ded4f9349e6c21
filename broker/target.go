package broker

import (
	"context"
	"errors"
	"strings"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
)

// revokeKinds are the kinds of the events of revocations, by what they are about.
var revokeKinds = map[string]string{api.SubjectUser: audit.KindUserRevoke, api.SubjectSession: audit.KindSessionRevoke,
	api.SubjectCert: audit.KindCertRevoke, api.SubjectHost: audit.KindHostRevoke, api.SubjectKey: audit.KindKeyRemove}

// target is what a revocation is about.
type target struct {
	subject   state.Subject // of the person, or of the machine
	kind      string        // of the event: one of revokeKinds
	name      string        // resource in the log
	resource  policy.Resource
	loginID   string             // of session.revoke of a login
	sessionID string             // of session.revoke of an SSH session
	cert      *state.RevokedCert // of cert.revoke
	host      *Host              // of host.revoke
}

// ends reports whether the revocation ends a login.
func (t target) ends(login state.Session) bool {
	if t.kind == revokeKinds[api.SubjectUser] {
		return login.Issuer == t.subject.Issuer && login.Subject == t.subject.Subject
	}
	return t.loginID != "" && login.ID == t.loginID
}

// target finds what the request is about.
func (s *Server) target(ctx context.Context, r api.RevokeRequest) (t target, err error) {
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		var err error
		switch r.Subject {
		case api.SubjectUser:
			t, err = s.targetUser(ctx, tx, r.ID)
		case api.SubjectSession:
			t, err = s.targetSession(ctx, tx, r.ID)
		case api.SubjectCert:
			t, err = s.targetCert(ctx, tx, r.ID, r.Profile)
		case api.SubjectHost:
			t, err = s.targetHost(r.ID)
		case api.SubjectKey:
			t, err = s.targetKey(ctx, tx, r.ID)
		default:
			err = api.Errorf(api.KindInvalid, "sega revokes a user, a session, a cert, a host or a key, not a %q", printable(r.Subject, 32))
		}
		return err
	})
	return t, unavailable(err)
}

func (s *Server) targetUser(ctx context.Context, q state.Querier, id string) (target, error) {
	subject, err := s.findSubject(ctx, q, id)
	if err != nil {
		return target{}, err
	}
	return target{subject: subject, kind: revokeKinds[api.SubjectUser], name: "user/" + subject.Subject,
		resource: policy.Resource{Type: policy.TypeUser, ID: policy.UserID(subject.Issuer, subject.Subject)}}, nil
}

// findSubject takes an e-mail, where it is one person's alone, "sub:" and a subject (R2), or a
// machine's ID.
func (s *Server) findSubject(ctx context.Context, q state.Querier, id string) (state.Subject, error) {
	if sub, ok := strings.CutPrefix(id, "sub:"); ok && sub != "" && len(sub) <= 255 {
		subject, err := state.SubjectByID(ctx, q, s.Issuer, sub)
		if errors.Is(err, state.ErrNotFound) {
			return state.Subject{Issuer: s.Issuer, Subject: sub, Email: ""}, nil
		}
		return subject, err
	}
	if strings.HasPrefix(id, api.IDMachine) { // a machine: its sessions end and its key opens no new one
		m, err := state.MachineByID(ctx, q, id)
		if errors.Is(err, state.ErrNotFound) {
			return state.Subject{}, api.Errorf(api.KindNotFound, "no machine %q is enrolled", printable(id, 64)).WithHint("run: sega sessions")
		} else if err != nil {
			return state.Subject{}, err
		}
		subject, err := state.SubjectByID(ctx, q, machineIssuer, m.ID)
		if errors.Is(err, state.ErrNotFound) { // never revoked
			subject, err = state.Subject{Issuer: machineIssuer, Subject: m.ID}, nil
		}
		subject.Email = m.Name
		return subject, err
	}
	found, err := state.SubjectsByEmail(ctx, q, id)
	switch {
	case err != nil:
		return state.Subject{}, err
	case len(found) == 0:
		return state.Subject{}, api.Errorf(api.KindNotFound, "nobody with the e-mail %q has ever logged in", printable(id, 100)).
			WithHint("to block somebody before the first login name the identity provider's subject: sub:SUBJECT")
	case len(found) > 1:
		var subs []string
		for _, f := range found {
			subs = append(subs, "sub:"+f.Subject)
		}
		return state.Subject{}, api.Errorf(api.KindConflict, "%d identities have the e-mail %q", len(found), printable(id, 100)).
			WithHint("name one of: %s", strings.Join(subs, " "))
	}
	return found[0], nil
}

func (s *Server) targetSession(ctx context.Context, q state.Querier, id string) (target, error) {
	t := target{kind: revokeKinds[api.SubjectSession], name: "session/" + id}
	var iss, sub, email string
	notFound := api.Errorf(api.KindNotFound, "there is no session %q", printable(id, 64)).WithHint("run: sega sessions")
	if strings.HasPrefix(id, api.IDSSH) {
		v, err := state.SSHByID(ctx, q, id)
		if errors.Is(err, state.ErrNotFound) || err == nil && v.State == state.SSHEnded {
			return t, notFound
		} else if err != nil {
			return t, err
		}
		t.sessionID, iss, sub, email = id, v.Issuer, v.Subject, v.Email
	} else {
		v, err := state.SessionByID(ctx, q, id)
		if errors.Is(err, state.ErrNotFound) || err == nil && !v.Ended.IsZero() {
			return t, notFound
		} else if err != nil {
			return t, err
		}
		t.loginID, iss, sub, email = id, v.Issuer, v.Subject, v.Email
	}
	t.subject = state.Subject{Issuer: iss, Subject: sub, Email: email}
	t.resource = policy.Resource{Type: policy.TypeSession, ID: id, Owner: sub, OwnerIssuer: iss}
	return t, nil
}

// noTarget answers a request about somebody or something that is not there, or is several: to those
// who might stop anybody. Everybody else is denied as if it were there, and learns nothing.
func (s *Server) noTarget(ctx context.Context, c *call, op operation, action string, err error) (any, error) {
	p := asProblem(err)
	if p.Kind != api.KindNotFound && p.Kind != api.KindConflict {
		return nil, err
	}
	nobody := policy.Resource{Type: policy.TypeUser, ID: policy.UserID(s.Issuer, "nobody")}
	op.decide = s.request(c.session, action, nobody, policy.Context{Reason: op.reason, Source: c.source.String()})
	op.act = func(context.Context, policy.Decision, string) (effect, error) { return effect{denied: p}, nil }
	return s.perform(ctx, c, op)
}
