package broker

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// looks are what the feeds of all people read of the database, once for all of them: what was revoked
// whenever somebody says so, and twice a heartbeat that and what became of their sessions.
type looks struct {
	mu   sync.Mutex      // one feed looks, the others wait for what it sees
	wake <-chan struct{} // of the hub, as it was before the last look: closed once there may be revocations that it lacks
	at   time.Time       // of the last look at sessions, by the process's own clock

	err    error // of the last look, unless its feed went away: who waited for it does not wait once more
	failed time.Time
}

// news is what a feed has to tell its agent.
type news struct {
	now         time.Time       // when it was so
	session     *state.Followed // nil: there is no such session any more
	revocations []revoked       // that concern it and were not told yet, in order
}

// revoked is a revocation, and whose SSH session or access certificate it is about.
type revoked struct {
	state.Revocation
	login string
}

// concerns reports whether a revocation is for the person of a session, for its login, or for an SSH
// session or the access certificate of that login.
func (r revoked) concerns(s state.Session) bool { return r.ends(s) || r.login == s.ID }

// ends reports whether a revocation ends a session.
func (r revoked) ends(s state.Session) bool {
	return r.LoginID != "" && r.LoginID == s.ID || r.Subject != "" && r.Subject == s.Subject && r.Issuer == s.Issuer
}

// unplaced is the place in the row of revocations of a feed that does not know it yet.
const unplaced = math.MaxInt64

// place reads where the session of a new feed stands, and after which revocation its news begin.
func (s *Server) place(ctx context.Context, f *sessionFeed) error {
	now, after := s.Now(), int64(unplaced)
	var found []state.Followed
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		if found, err = state.FollowedSessions(ctx, tx, []string{f.session.ID}); err != nil {
			return err
		}
		after, err = state.LastRevocation(ctx, tx)
		return err
	})
	if err != nil {
		return unavailable(err)
	}
	s.agents.mu.Lock()
	defer s.agents.mu.Unlock()
	f.after = after
	f.saw(now, found)
	return nil
}

// news returns what is new for a feed. What this broker had committed and said when it was called is in it.
func (s *Server) news(ctx context.Context, f *sessionFeed) (news, error) {
	if err := s.lookOnce(ctx); err != nil {
		return news{}, err
	}
	s.agents.mu.Lock()
	defer s.agents.mu.Unlock()
	if a := s.agents.all[f.session.ID]; a == nil || a.feed != f {
		return news{}, api.Errorf(api.KindConflict, "another feed of this login has taken the place of this one")
	}
	n := news{now: f.asOf, session: f.seen, revocations: f.pending}
	f.pending = nil
	return n, nil
}

// lookOnce looks unless another feed has just done so, or has failed to while this one waited.
func (s *Server) lookOnce(ctx context.Context) error {
	l, came := &s.agents.looks, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil && came.Before(l.failed) {
		return l.err
	}
	wake, at := s.hub.waker(), time.Now()
	stale := at.Sub(l.at) >= s.Times.Heartbeat/2
	if !stale && wake == l.wake {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, s.writeTime)
	defer cancel()
	err := unavailable(s.look(bounded, stale))
	if ctx.Err() != nil {
		return err
	}
	if l.err, l.failed = err, time.Now(); err != nil {
		return err
	}
	l.wake = wake
	if stale {
		l.at = at
	}
	return nil
}

// look reads for all feeds that know their place, and gives each its own. Sessions are left out where only
// a revocation is looked for.
func (s *Server) look(ctx context.Context, sessions bool) error {
	feeds, after := s.agents.placed()
	if len(feeds) == 0 {
		return nil
	}
	now := s.Now()
	var found []state.Followed
	var all []revoked
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		if all, err = revokedAfter(ctx, tx, after); err == nil && sessions {
			found, err = state.FollowedSessions(ctx, tx, loginsOf(feeds))
		}
		return err
	})
	if err != nil {
		return err
	}
	s.agents.mu.Lock()
	defer s.agents.mu.Unlock()
	for _, f := range feeds {
		f.heard(all)
	}
	if sessions {
		sawAll(feeds, now, found)
	}
	return nil
}

// placed returns the feeds that know their place, and the first of these places.
func (g *agents) placed() (feeds []*sessionFeed, after int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	after = unplaced
	for _, a := range g.all {
		if f := a.feed; f != nil && f.after != unplaced {
			feeds, after = append(feeds, f), min(after, f.after)
		}
	}
	return feeds, after
}

func loginsOf(feeds []*sessionFeed) []string {
	ids := make([]string, len(feeds))
	for i, f := range feeds {
		ids[i] = f.session.ID
	}
	return ids
}

// revokedAfter reads revocations of a higher index, and whose the SSH sessions are that they end.
func revokedAfter(ctx context.Context, tx store.Querier, after int64) (all []revoked, err error) {
	for {
		page, err := state.RevocationsAfter(ctx, tx, after, feedPage)
		if err != nil {
			return nil, err
		}
		for _, v := range page {
			r := revoked{Revocation: v}
			if r.login, err = loginOf(ctx, tx, v); err != nil {
				return nil, err
			}
			all, after = append(all, r), v.Index
		}
		if len(page) < feedPage {
			return all, nil
		}
	}
}

// loginOf is the login of the SSH session, or of the access certificate, that is revoked; "" where it is neither.
func loginOf(ctx context.Context, tx store.Querier, v state.Revocation) (login string, err error) {
	switch {
	case v.SessionID != "":
		var ssh state.SSHSession
		ssh, err = state.SSHByID(ctx, tx, v.SessionID)
		login = ssh.LoginID
	case v.Profile == caAccess:
		var c state.Cert
		c, err = state.CertBySerial(ctx, tx, caAccess, v.Serial)
		login = c.LoginID
	}
	if errors.Is(err, state.ErrNotFound) {
		err = nil
	}
	return login, err
}

// heard takes over what concerns a feed. The caller holds the agents' lock.
func (f *sessionFeed) heard(all []revoked) {
	for _, r := range all {
		if r.Index <= f.after {
			continue
		}
		f.after = r.Index
		if r.concerns(f.session) {
			f.pending = append(f.pending, r)
		}
	}
}

// saw takes over where a feed's session stands, if it is found. The caller holds the agents' lock.
func (f *sessionFeed) saw(now time.Time, found []state.Followed) {
	f.asOf, f.seen = now, nil
	if len(found) > 0 {
		f.seen = &found[0]
	}
}

// sawAll is saw for many feeds.
func sawAll(feeds []*sessionFeed, now time.Time, found []state.Followed) {
	byID := make(map[string]int, len(found))
	for i := range found {
		byID[found[i].ID] = i
	}
	for _, f := range feeds {
		if i, ok := byID[f.session.ID]; ok {
			f.saw(now, found[i:i+1])
		} else {
			f.saw(now, nil)
		}
	}
}
