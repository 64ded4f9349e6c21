package broker

import (
	"context"
	"errors"
	"strings"
	"time"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// keyHolder finds whose registered key it is, by our own record of its fingerprint (R6), and whether it
// still stands.
func (s *Server) keyHolder(ctx context.Context, fingerprint string) (person state.Session, access state.Cert, problem *api.Problem, err error) {
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		k, err := state.KeyByFingerprint(ctx, tx, fingerprint)
		if errors.Is(err, state.ErrNotFound) {
			problem = api.Errorf(api.KindDenied, "this key is not registered").WithHint("run: sega keys add FILE")
			return nil
		}
		if err != nil {
			return err
		}
		if person, err = state.SessionByID(ctx, tx, k.ID); err != nil {
			return err
		}
		access = state.Cert{Bearer: state.Bearer{LoginID: person.ID, Issuer: person.Issuer, Subject: person.Subject, Epoch: person.Epoch, Rev: person.Rev},
			Fingerprint: k.Fingerprint, ValidBefore: person.NotAfter, Hardware: k.Hardware}
		ok, err := state.Current(ctx, tx, access.Bearer)
		switch {
		case err != nil:
			return err
		case !ok && person.EndedWhy == state.EndedRevoked:
			problem = revokedProblem()
		case !ok:
			problem = api.Errorf(api.KindDenied, "this key was removed").WithHint("run: sega keys list")
		case !s.Now().Before(person.NotAfter):
			problem = api.Errorf(api.KindDenied, "this registered key has expired").WithHint("register it anew: sega keys add FILE")
		}
		return nil
	})
	return person, access, problem, err
}

// whose finds who has signed at a bastion: by the serial of the access certificate, or by the fingerprint of
// a registered key. With a certificate the fingerprint may be nil, where nothing is handed out to its holder.
func (s *Server) whose(ctx context.Context, serial uint64, fingerprint *string) (state.Session, state.Cert, *api.Problem, error) {
	if serial == 0 && fingerprint != nil {
		return s.keyHolder(ctx, *fingerprint)
	}
	return s.holder(ctx, serial, fingerprint)
}

// endOf is when an SSH session ends at the latest: with the login, or as long after it began as a login
// may live where a registered key, which lives for months, has opened it.
func (s *Server) endOf(person state.Session) time.Time {
	if person.Kind == state.KindKey {
		return earlier(person.NotAfter, s.Now().Add(s.Times.Login))
	}
	return person.NotAfter
}

// targetKey finds a live key to remove.
func (s *Server) targetKey(ctx context.Context, q state.Querier, id string) (target, error) {
	if !strings.HasPrefix(id, api.IDKey) {
		return target{}, api.Errorf(api.KindNotFound, "there is no key %q", printable(id, 64)).WithHint("run: sega keys list")
	}
	t, err := s.targetSession(ctx, q, id)
	if err != nil {
		return target{}, err
	}
	t.kind, t.name = revokeKinds[api.SubjectKey], "key/"+id
	return t, nil
}

// ended is why a login ends by this revocation: a person who removes a key of his own may register it again.
func (t target) ended(c *call) string {
	own := t.subject.Issuer == c.session.Issuer && t.subject.Subject == c.session.Subject
	if own && t.kind == revokeKinds[api.SubjectKey] {
		return state.EndedRemoved
	}
	return state.EndedRevoked
}
