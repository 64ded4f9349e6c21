package broker

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"

	"sega/audit/store"
	"sega/broker/state"
	"sega/keychain/secret"
)

// recentSessions bounds the sessions that are remembered; beyond them all are forgotten.
const recentSessions = 4096

// errOutdated is what an act ends with whose session is not any more as it was remembered. Nothing of it was done.
var errOutdated = errors.New("broker: the session is not as it was read before")

// recent are sessions as they were read last, by the hash of their token. What is remembered may be outdated, for anybody may have
// changed the database since. So it serves for one thing: to make an effect whose transaction finds the session, and its
// person, unchanged (stands). Nobody is refused by it, and nothing is read by it.
type recent struct {
	mu       sync.Mutex
	sessions map[[sha256.Size]byte]state.Session
}

func (r *recent) get(token secret.Secret) (state.Session, bool) {
	key := sha256.Sum256(token.Reveal())
	r.mu.Lock()
	defer r.mu.Unlock()
	session, ok := r.sessions[key]
	return session, ok
}

func (r *recent) put(s state.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions == nil || len(r.sessions) >= recentSessions {
		r.sessions = map[[sha256.Size]byte]state.Session{}
	}
	r.sessions[[sha256.Size]byte(s.TokenHash)] = s
}

func (r *recent) forget(s state.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, [sha256.Size]byte(s.TokenHash))
}

// sessionFor returns the session of a token for a kind of authentication: from memory where that will do and the session could go on
// by it.
func (s *Server) sessionFor(ctx context.Context, c *call, token secret.Secret, kind authKind) (state.Session, error) {
	if kind != authRecent {
		return s.sessionOf(ctx, hashToken(token))
	}
	session, ok := s.recent.get(token)
	if ok && session.Thumbprint == c.proof.Thumbprint && s.judgeSession(session, kind) == nil {
		c.recent = true
		return session, nil
	}
	session, err := s.sessionOf(ctx, hashToken(token))
	if err == nil {
		s.recent.put(session)
	}
	return session, err
}

// twice acts for a session that may be remembered, and where the database does not bear that out, for the session
// as it is there: with the answers and the events that there would be if nothing were remembered.
func (s *Server) twice(ctx context.Context, c *call, act func() (any, error)) (any, error) {
	reply, err := act()
	if !errors.Is(err, errOutdated) {
		return reply, err
	}
	s.recent.forget(c.session)
	hash := c.session.TokenHash
	c.recent, c.session = false, state.Session{}
	session, err := s.sessionOf(ctx, hash)
	if err := s.bound(ctx, c, session, err); err != nil {
		return nil, err
	}
	c.session = session
	if problem := s.judgeSession(session, authRecent); problem != nil {
		return nil, s.refuse(ctx, c, s.whyRevoked(ctx, session, problem))
	}
	return act()
}

// unchanged holds a remembered session against the database, in the transaction of what is made for it.
func unchanged(ctx context.Context, tx store.Querier, s state.Session) error {
	ok, err := state.Unchanged(ctx, tx, s)
	if err == nil && !ok {
		err = errOutdated
	}
	return err
}
