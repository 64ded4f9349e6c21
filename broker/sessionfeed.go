package broker

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"sega/broker/api"
	"sega/broker/state"
)

// sessionFeed is one connection of an agent. What the looks tell it is under the agents' lock.
type sessionFeed struct {
	s       *Server
	c       *call
	session state.Session // as it was authenticated
	out     *http.ResponseController
	w       http.ResponseWriter
	taken   chan struct{} // closed when another feed of the login has taken its place
	until   time.Time     // for which writes are allowed
	stood   stood
	noted   time.Time  // when the log's checkpoint was sent last
	trust   *api.Trust // whose front CAs were sent last

	after   int64 // revocations up to this index are told, or pending
	pending []revoked
	seen    *state.Followed
	asOf    time.Time // when it was so
}

// sessionFeed streams to a person's agent that its session stands, and what revokes it (R12).
func (s *Server) sessionFeed(ctx context.Context, c *call) (any, error) {
	f := &sessionFeed{s: s, c: c, session: c.session, after: unplaced, taken: make(chan struct{})}
	if err := s.agents.join(f, s.leaseFrom(s.Now())); err != nil {
		return nil, err
	}
	return stream(func(w http.ResponseWriter) {
		defer s.agents.leave(f)
		f.w, f.out = w, http.NewResponseController(w)
		err := f.run(ctx)
		s.Logger.Debug("feed of a session ended", "login", c.session.ID, "request", c.id, "reason", err)
		f.end(err)
	}), nil
}

// end tells a client that still reads why nothing more comes.
func (f *sessionFeed) end(why error) {
	var p *api.Problem
	if !errors.As(why, &p) {
		return // nobody reads
	}
	told := *p
	told.RequestID = f.c.id
	_ = f.send(api.FeedItem{Type: api.FeedEnd, Problem: &told})
}

// leaseFrom is when what an item agrees to ends at the latest that is sent now. The agent counts from the
// item's own time, by a clock that it has set by such items: feedWrite is for what that lacks.
func (s *Server) leaseFrom(now time.Time) time.Time { return now.Add(feedWrite + s.Times.Lease) }

// run sends until the session ends, and returns why it did.
func (f *sessionFeed) run(ctx context.Context) error {
	unhurried(f.w)
	f.s.stamp(f.w)
	f.w.Header().Set("Content-Type", "application/x-ndjson")
	if err := f.sendTrust(f.s.trust()); err != nil {
		return err
	}
	if err := f.s.place(ctx, f); err != nil {
		return err
	}
	tick := time.NewTicker(f.s.Times.Heartbeat)
	defer tick.Stop()
	for beat := true; ; {
		wake := f.s.hub.waker() // before the news, so that nothing falls between
		n, err := f.s.news(ctx, f)
		if err != nil {
			return err
		}
		if trust := f.s.trust(); trust != f.trust {
			if err := f.sendTrust(trust); err != nil {
				return err
			}
		}
		if err := f.tell(n, beat); err != nil {
			return err
		}
		select {
		case <-wake:
			beat = false
		case <-tick.C:
			beat = true
		case <-f.taken: // which the news say
		case <-ctx.Done():
			return ctx.Err()
		case <-f.s.stop:
			return api.Errorf(api.KindUnavailable, "the broker stops").WithHint("connect anew")
		}
	}
}

// sendTrust tells which CAs vouch for bastions. The others are nothing to a laptop.
func (f *sessionFeed) sendTrust(all *api.Trust) error {
	f.trust = all
	trust := api.Trust{Version: all.Version, AccessCAs: []string{}, HostCAs: []string{}, FrontCAs: all.FrontCAs, HopCAs: []string{}}
	return f.send(api.FeedItem{Type: api.FeedTrust, Trust: &trust})
}

// tell sends news: first what was revoked, then that the session stands, or why it does not.
func (f *sessionFeed) tell(n news, beat bool) error {
	over := false
	for _, r := range n.revocations {
		item := api.Revocation{Index: r.Index, EventID: r.EventID, Issuer: r.Issuer, Subject: r.Subject, LoginID: r.LoginID, SessionID: r.SessionID,
			Profile: r.Profile, Serial: r.Serial, Host: r.Host, Reason: r.Reason}
		if err := f.send(api.FeedItem{Type: api.FeedRevoke, Revocation: &item}); err != nil {
			return err
		}
		over = over || r.ends(f.session)
	}
	if over {
		return revokedProblem()
	}
	if err := f.stands(n); err != nil || !beat {
		return err
	}
	return f.heartbeat(n)
}

// stands is the problem that a new request with the session would get, or nil.
func (f *sessionFeed) stands(n news) error {
	if n.session == nil {
		return api.Errorf(api.KindUnauthenticated, "the session has ended").WithHint("run: sega login")
	}
	now := f.session
	now.Expires, now.Ended, now.EndedWhy = n.session.Expires, n.session.Ended, n.session.EndedWhy
	if problem := f.s.judgeSession(now, authSession); problem != nil {
		return problem
	}
	if !n.session.Current {
		return revokedProblem()
	}
	return nil
}

func (f *sessionFeed) heartbeat(n news) error {
	f.s.agents.sent(f, f.s.leaseFrom(f.s.Now())) // from before it leaves: it may arrive at once
	return f.send(api.FeedItem{Type: api.FeedHeartbeat, Checkpoint: f.checkpoint(), LeaseMS: f.s.Times.Lease.Milliseconds(),
		Session: &api.FeedSession{Now: n.now.UTC(), Expires: n.session.Expires, Standing: f.standing(n.session)}})
}

// noteEvery is how often a feed carries the log's checkpoint: each new one costs a laptop a proof.
const noteEvery = time.Minute

// checkpoint is the log's, or "" where it was sent of late.
func (f *sessionFeed) checkpoint() string {
	now := f.s.Now()
	if now.Sub(f.noted) < noteEvery {
		return ""
	}
	f.noted = now
	note, _ := f.s.Log.Head()
	return base64.StdEncoding.EncodeToString(note)
}

// stood is a standing, and what of it may change while a feed lives.
type stood struct{ policy, groups, standing string }

// standing is a digest of all that decisions about this person hang on and that may change while the
// feed lives, but for the time. What only a restart changes (roles, hosts) is in the mark of this run.
func (f *sessionFeed) standing(v *state.Followed) string {
	policy := f.s.Policy.Set().Digest()
	if f.stood.standing == "" || f.stood.policy != policy || f.stood.groups != v.Groups {
		text, _ := json.Marshal([]string{f.s.run, policy, v.ID, v.Groups, f.c.source.String()})
		sum := sha256.Sum256(text)
		f.stood = stood{policy, v.Groups, base64.RawURLEncoding.EncodeToString(sum[:])}
	}
	return f.stood.standing
}

// send writes an item. A client that takes nothing is cut after feedWrite, or twice that: to set a deadline
// costs as much as to write.
func (f *sessionFeed) send(item api.FeedItem) error {
	line, err := json.Marshal(item)
	if err != nil {
		return err
	}
	if now := time.Now(); f.until.Before(now.Add(f.s.writeTime)) {
		f.until = now.Add(2 * f.s.writeTime)
		if err := f.out.SetWriteDeadline(f.until); err != nil {
			return err
		}
	}
	if _, err := f.w.Write(append(line, '\n')); err != nil {
		return err
	}
	return f.out.Flush()
}

// sessionAck takes an agent's word that it has dropped what its login was given. It counts once the login
// was revoked: only then does the agent get nothing new.
func (s *Server) sessionAck(_ context.Context, c *call) (any, error) {
	var a api.Ack
	if err := decode(c, &a); err != nil {
		return nil, err
	}
	if c.session.EndedWhy == state.EndedRevoked {
		s.agents.ack(c.session, a.Closed, s.leaseFrom(s.Now()))
	}
	return api.Empty{}, nil
}
