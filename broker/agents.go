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

// feedsInAll is how many feeds of people there may be. Each holds a connection, of which segad takes 2,048 more:
// bastions, and whoever revokes, find one that is free (I3).
const feedsInAll = 10 << 10

// agents knows the agents on people's laptops that follow the feed of their session, one for each login.
type agents struct {
	now func() time.Time

	mu      sync.Mutex
	all     map[string]*agent // by login
	feeds   int               // that live
	people  map[string]int    // and of each person
	changed chan struct{}     // closed and replaced when an acknowledgement came, or a loss of which nobody waits for more
	swept   time.Time
	looks   looks
	most    int // feedsInAll, but in tests
}

// agent is that of one login, with a live or recently lost feed.
type agent struct {
	person  state.Session
	feed    *sessionFeed // nil when lost
	lease   time.Time    // when what it was agreed to hold ends at the latest, if nothing more is sent
	dropped *cut         // set when it has said that it dropped everything: its session is over
}

func newAgents(now func() time.Time) *agents {
	return &agents{now: now, all: map[string]*agent{}, people: map[string]int{}, changed: make(chan struct{}), swept: now(), most: feedsInAll}
}

func (g *agents) connected() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.feeds
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
	if a == nil || a.feed == nil {
		if err := g.room(f.session); err != nil {
			return err
		}
		g.count(f.session, 1)
	}
	if a == nil {
		a = &agent{person: f.session}
		g.all[f.session.ID] = a
	}
	if a.feed != nil {
		close(a.feed.taken)
	}
	a.feed, a.lease = f, lease
	return nil
}

// count counts a feed that begins (1) or ends (-1).
func (g *agents) count(s state.Session, n int) {
	who := s.Issuer + "\x00" + s.Subject
	g.feeds += n
	if g.people[who] += n; g.people[who] == 0 {
		delete(g.people, who)
	}
}

// room refuses a feed where there are too many. Who is refused asks the broker for each hand-out.
func (g *agents) room(s state.Session) error {
	var p *api.Problem
	switch own := g.people[s.Issuer+"\x00"+s.Subject]; {
	case own >= feedsPerPerson:
		p = api.Errorf(api.KindRateLimited, "%d logins of this person follow their session already", own).WithHint("log out where you work no more: sega logout")
	case g.feeds >= g.most:
		p = api.Errorf(api.KindRateLimited, "%d agents follow their session already, and this broker takes no more", g.feeds)
	default:
		return nil
	}
	p.RetrySecs = 60
	return p
}

// leave records that a feed has ended; its lease goes on, so that a receipt says the same as before unless that
// is over. When many are lost at once, who waits for a receipt is not woken for each.
func (g *agents) leave(f *sessionFeed) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a := g.all[f.session.ID]; a != nil && a.feed == f {
		a.feed = nil
		g.count(f.session, -1)
		if g.now().After(a.lease) {
			g.tell()
		}
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
