package broker

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"sega/broker/api"
	"sega/broker/state"
)

// feedsPerPerson is how many logins of one person may have a feed at once.
const feedsPerPerson = 32

// agents knows the agents on people's laptops that follow the feed of their session, one for each login.
type agents struct {
	now func() time.Time

	mu      sync.Mutex
	all     map[string]*agent // by login
	changed chan struct{}     // closed and replaced when an acknowledgement or a loss came
	swept   time.Time
	looks   looks
}

// agent is that of one login, with a live or recently lost feed.
type agent struct {
	person  state.Session
	feed    *sessionFeed // nil when lost
	lease   time.Time    // when what it was agreed to hold ends at the latest, if nothing more is sent
	dropped *cut         // set when it has said that it dropped everything: its session is over
}

func newAgents(now func() time.Time) *agents {
	return &agents{now: now, all: map[string]*agent{}, changed: make(chan struct{}), swept: now()}
}

func (g *agents) connected() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, a := range g.all {
		if a.feed != nil {
			n++
		}
	}
	return n
}

// join registers a feed. It takes the place of another one of the same login, which then ends: a laptop
// that comes back is not kept out by what is left of its last connection.
//
// Until lease it may hold what it was agreed to hold, though no heartbeat has gone out yet.
func (g *agents) join(f *sessionFeed, lease time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweep()
	a := g.all[f.session.ID]
	if a == nil {
		if n := g.feedsOf(f.session); n >= feedsPerPerson {
			p := api.Errorf(api.KindRateLimited, "%d logins of this person have a feed already", n).WithHint("log out where you work no more: sega logout")
			p.RetrySecs = 60
			return p
		}
		a = &agent{person: f.session}
		g.all[f.session.ID] = a
	}
	if a.feed != nil {
		close(a.feed.taken)
	}
	a.feed, a.lease = f, lease
	return nil
}

// feedsOf counts the logins of a person that have a feed.
func (g *agents) feedsOf(s state.Session) (n int) {
	for _, a := range g.all {
		if a.feed != nil && a.person.Issuer == s.Issuer && a.person.Subject == s.Subject {
			n++
		}
	}
	return n
}

// leave records that a feed has ended; its lease goes on.
func (g *agents) leave(f *sessionFeed) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a := g.all[f.session.ID]; a != nil && a.feed == f {
		a.feed = nil
		g.tell()
	}
}

// sweep forgets, once a second, agents that hold nothing any more.
func (g *agents) sweep() {
	now := g.now()
	if now.Sub(g.swept) < time.Second {
		return
	}
	g.swept = now
	for id, a := range g.all {
		if a.feed == nil && now.After(a.lease) {
			delete(g.all, id)
		}
	}
}

// sent records that a heartbeat goes out and prolongs the lease.
func (g *agents) sent(f *sessionFeed, lease time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a := g.all[f.session.ID]; a != nil {
		a.lease = lease
	}
}

// ack records that the agent of a login that was revoked has dropped everything. It may have followed
// the feed of an earlier run, or of another broker.
func (g *agents) ack(s state.Session, closed int, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweep()
	a := g.all[s.ID]
	if a == nil {
		a = &agent{person: s, lease: until}
		g.all[s.ID] = a
	}
	if a.dropped == nil {
		a.dropped = &cut{closed: closed, at: g.now()}
		g.tell()
	}
}

// points says of the agents that a revocation is for where it stands, and whether there is still somebody to wait for.
// Those whose lease has ended hold nothing.
func (g *agents) points(t target, committed, now time.Time) (points []api.Point, waiting bool, changed <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.all {
		if !t.ends(a.person) || a.feed == nil && now.After(a.lease) {
			continue
		}
		p := api.Point{Kind: api.PointAgent, Name: agentName(a.person.Email, a.person.Subject, a.person.ID)}
		if a.dropped != nil {
			p.Acknowledged, p.Closed = true, a.dropped.closed
			p.Millis = max(0, a.dropped.at.Sub(committed).Milliseconds()) // it may have been for an earlier revocation
		} else {
			p.Deadline, waiting = a.lease.UTC(), true
		}
		points = append(points, p)
	}
	return points, waiting, g.changed
}

// agentsElsewhere are the agents of logins that a revocation ends of which this broker knows nothing, but which
// may hold something: they may follow another broker, which tells us nothing of agents, or have followed
// an earlier run of this one. Nobody waits for them.
func (s *Server) agentsElsewhere(p api.Plan, known []api.Point, committed time.Time) (points []api.Point) {
	until := s.leaseFrom(s.began)
	if s.Peers {
		until = s.leaseFrom(committed)
	}
	if !committed.Before(until) {
		return nil
	}
	for _, v := range p.Sessions {
		name := agentName(v.Person.Email, v.Person.Subject, v.ID)
		if v.Kind == state.KindLogin && !slices.ContainsFunc(known, func(p api.Point) bool { return p.Name == name }) {
			points = append(points, api.Point{Kind: api.PointAgent, Name: name + ", if there is one", Deadline: until.UTC()})
		}
	}
	return points
}

// tell wakes those who wait for agents.
func (g *agents) tell() {
	close(g.changed)
	g.changed = make(chan struct{})
}

func agentName(email, subject, login string) string {
	return fmt.Sprintf("agent of %s (%s)", firstText(email, subject), login)
}
