package broker

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// TestAgentPoints: where the revocation of alice, committed at start, stands at the agents of her two logins
// and of bob's.
func TestAgentPoints(t *testing.T) {
	lease := start.Add(30 * time.Second)
	login := func(id, sub string) state.Session {
		return state.Session{ID: id, Issuer: issuer, Subject: sub, Email: sub + "@example.com"}
	}
	one, two, bob := login("ses_1", "alice"), login("ses_2", "alice"), login("ses_3", "bob")
	person := target{kind: "user.revoke", subject: state.Subject{Issuer: issuer, Subject: "alice"}}
	open := func(name string) api.Point {
		return api.Point{Kind: "agent", Name: "agent of " + name, Deadline: lease}
	}
	done := func(name string, millis int64, closed int) api.Point {
		return api.Point{Kind: "agent", Name: "agent of " + name, Acknowledged: true, Millis: millis, Closed: closed}
	}
	const first, second = "alice@example.com (ses_1)", "alice@example.com (ses_2)"
	join := func(g *agents, s state.Session) *sessionFeed {
		f := &sessionFeed{session: s, after: unplaced, taken: make(chan struct{})}
		if err := g.join(f, lease); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for name, c := range map[string]struct {
		target  target
		do      func(*agents, *clock)
		now     time.Time
		want    []api.Point
		waiting bool
	}{
		"nobody":                {target: person, do: func(*agents, *clock) {}, now: start},
		"connected, not yet":    {target: person, do: func(g *agents, _ *clock) { join(g, one) }, now: start, want: []api.Point{open(first)}, waiting: true},
		"somebody else":         {target: person, do: func(g *agents, _ *clock) { join(g, bob) }, now: start},
		"of another issuer":     {target: target{kind: "user.revoke", subject: state.Subject{Issuer: "https://other.test", Subject: "alice"}}, do: func(g *agents, _ *clock) { join(g, one) }, now: start},
		"one login of two":      {target: target{kind: "session.revoke", subject: person.subject, loginID: "ses_2"}, do: func(g *agents, _ *clock) { join(g, one); join(g, two) }, now: start, want: []api.Point{open(second)}, waiting: true},
		"an SSH session":        {target: target{kind: "session.revoke", subject: person.subject, sessionID: "ssh_1"}, do: func(g *agents, _ *clock) { join(g, one) }, now: start},
		"lost, its lease runs":  {target: person, do: func(g *agents, _ *clock) { g.leave(join(g, one)) }, now: lease, want: []api.Point{open(first)}, waiting: true},
		"lost, it is over":      {target: person, do: func(g *agents, _ *clock) { g.leave(join(g, one)) }, now: lease.Add(1)},
		"slow, its lease is up": {target: person, do: func(g *agents, _ *clock) { join(g, one) }, now: lease.Add(time.Hour), want: []api.Point{open(first)}, waiting: true},
		"acknowledged": {target: person, do: func(g *agents, c *clock) {
			join(g, one)
			c.add(40 * time.Millisecond)
			g.ack(one, 3, lease)
		}, now: after(50), want: []api.Point{done(first, 40, 3)}},
		"acknowledged twice": {target: person, do: func(g *agents, c *clock) {
			join(g, one)
			c.add(40 * time.Millisecond)
			g.ack(one, 3, lease)
			c.add(40 * time.Millisecond)
			g.ack(one, 0, lease)
		}, now: after(90), want: []api.Point{done(first, 40, 3)}},
		"acknowledged an earlier one": {target: person, do: func(g *agents, c *clock) {
			c.add(-time.Second)
			join(g, one)
			g.ack(one, 3, lease)
		}, now: start, want: []api.Point{done(first, 0, 3)}},
		"one of two": {target: person, do: func(g *agents, c *clock) {
			join(g, one)
			join(g, two)
			g.ack(one, 1, lease)
		}, now: start, want: []api.Point{done(first, 0, 1), open(second)}, waiting: true},
		"of an earlier run": {target: person, do: func(g *agents, _ *clock) { g.ack(one, 1, lease) }, now: start, want: []api.Point{done(first, 0, 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			wall := &clock{t: start}
			g := newAgents(wall.now)
			c.do(g, wall)
			got, waiting, _ := g.points(c.target, start, c.now)
			byName := cmpopts.SortSlices(func(a, b api.Point) bool { return a.Name < b.Name })
			if diff := cmp.Diff(c.want, got, byName); diff != "" || waiting != c.waiting {
				t.Errorf("waiting %v, want %v; -want +got\n%s", waiting, c.waiting, diff)
			}
		})
	}
}

// TestLostAgentsWakeNobody: who waits for a receipt hears of a lost feed when it changes what the receipt says.
func TestLostAgentsWakeNobody(t *testing.T) {
	wall := &clock{t: start}
	g := newAgents(wall.now)
	all := target{kind: "user.revoke", subject: state.Subject{Subject: "alice"}}
	for name, c := range map[string]struct {
		late  time.Duration
		woken bool
	}{"its lease runs": {0, false}, "its lease is over": {time.Minute + 1, true}} {
		f := &sessionFeed{session: state.Session{ID: name, Subject: "alice"}, taken: make(chan struct{})}
		if err := g.join(f, wall.now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		wall.add(c.late)
		_, _, changed := g.points(all, start, wall.now())
		g.leave(f)
		woken := false
		select {
		case <-changed:
			woken = true
		default:
		}
		if woken != c.woken {
			t.Errorf("%s: woken %v", name, woken)
		}
	}
}

// TestAgentsAreForgotten: what holds nothing any more takes no memory.
func TestAgentsAreForgotten(t *testing.T) {
	wall := &clock{t: start}
	g := newAgents(wall.now)
	feed := func(id string) *sessionFeed {
		f := &sessionFeed{session: state.Session{ID: id, Subject: "alice"}, taken: make(chan struct{})}
		if err := g.join(f, wall.now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		return f
	}
	old := feed("ses_1")
	newer := feed("ses_1")
	g.leave(old) // late
	if g.connected() != 1 || g.all["ses_1"].feed != newer {
		t.Error("a feed that ended late took its follower with it")
	}
	select {
	case <-old.taken:
	default:
		t.Error("the older feed was not told")
	}
	g.leave(newer)
	g.leave(newer)
	wall.add(time.Minute)
	feed("ses_2")
	if len(g.all) != 2 {
		t.Errorf("%d agents while a lease runs, want 2", len(g.all))
	}
	wall.add(time.Minute)
	feed("ses_3")
	if len(g.all) != 2 || g.connected() != 2 || g.people["\x00alice"] != 2 {
		t.Errorf("%d agents, %d connected, %v; want the two that follow", len(g.all), g.connected(), g.people)
	}
}

// settled is a world whose broker has run for so long that no agent of an earlier run holds anything.
func settled(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := newWorld(t, append([]func(*Config){quick}, change...)...)
	w.setPolicy(security)
	w.clock.add(time.Minute)
	return w
}

func agentsOf(r api.Receipt) (out []api.Point) {
	for _, p := range r.Points {
		if p.Kind == api.PointAgent {
			out = append(out, p)
		}
	}
	return out
}

// TestReceiptNamesAgents: what a login is revoked for stands in the receipt with what the agent did.
func TestReceiptNamesAgents(t *testing.T) {
	w := settled(t)
	alice, bob := w.login(), w.as("bob")
	f, other := alice.feed(), bob.feed()
	f.until(api.FeedHeartbeat)
	other.until(api.FeedHeartbeat)
	done := make(chan api.Receipt, 1)
	sam := w.sam()
	go func() { done <- sam.revokes("user", "alice@example.com") }()
	index := f.until(api.FeedRevoke).Revocation.Index
	bob.acks(200, api.Ack{Index: index, Closed: 99}) // which is not his
	f.end()
	select {
	case r := <-done:
		t.Fatalf("the receipt came before the acknowledgement: %+v", r.Points)
	default:
	}
	w.clock.add(7 * time.Millisecond)
	alice.acks(200, api.Ack{Index: index, Closed: 3})
	want := []api.Point{{Kind: api.PointAgent, Name: "agent of alice@example.com (" + alice.session.ID + ")", Acknowledged: true, Millis: 7, Closed: 3}}
	if diff := cmp.Diff(want, agentsOf(<-done)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if r := sam.revokes("user", "bob@example.com"); len(agentsOf(r)) != 1 || agentsOf(r)[0].Acknowledged {
		t.Errorf("bob's acknowledgement of another's revocation counts for his own: %+v", agentsOf(r))
	}
}

// TestReceiptOfASilentAgent: the receipt comes when it must, with the end of the lease.
func TestReceiptOfASilentAgent(t *testing.T) {
	w := settled(t, func(c *Config) { c.Times.RevokeWait = 50 * time.Millisecond })
	alice := w.login()
	alice.feed().until(api.FeedHeartbeat)
	asleep := w.login()
	lost := asleep.feed()
	lost.until(api.FeedHeartbeat)
	lost.cancel()
	eventually(t, func() bool { return w.s.agents.connected() == 1 })
	r := w.sam().revokes("user", "alice@example.com")
	deadline := w.clock.now().Add(w.s.Times.Lease + feedWrite)
	want := []api.Point{{Kind: api.PointAgent, Name: "agent of alice@example.com (" + alice.session.ID + ")", Deadline: deadline},
		{Kind: api.PointAgent, Name: "agent of alice@example.com (" + asleep.session.ID + ")", Deadline: deadline}}
	slices.SortFunc(want, func(a, b api.Point) int { return strings.Compare(a.Name, b.Name) })
	if diff := cmp.Diff(want, agentsOf(r)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestReceiptAfterAStart: until the leases of an earlier run are over, nobody knows which agents hold something.
func TestReceiptAfterAStart(t *testing.T) {
	w := newWorld(t, quick, func(c *Config) { c.Bastions, c.Times.RevokeWait = nil, patience }) // they would be waited for
	w.setPolicy(security)
	one, two, sam := w.login(), w.login(), w.sam()
	began := time.Now()
	r := sam.revokes("session", one.session.ID)
	want := []api.Point{{Kind: api.PointAgent, Name: "agent of alice@example.com (" + one.session.ID + "), if there is one", Deadline: start.Add(w.s.Times.Lease + feedWrite)}}
	if diff := cmp.Diff(want, agentsOf(r)); diff != "" || time.Since(began) > w.s.Times.RevokeWait {
		t.Errorf("after %v: -want +got\n%s", time.Since(began), diff)
	}
	w.clock.add(w.s.Times.Lease + feedWrite)
	if r := sam.revokes("session", two.session.ID); len(agentsOf(r)) != 0 {
		t.Errorf("after that: %+v", agentsOf(r))
	}
}

// TestSessionAck: an acknowledgement is taken from whoever had the session, for a minute after its end, and
// counts where the session was revoked.
func TestSessionAck(t *testing.T) {
	end := func(why string) func(*world, caller) {
		return func(w *world, p caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.EndSession(ctx, tx, p.session.ID, why, w.clock.now())
			})
		}
	}
	later := func(d time.Duration, do func(*world, caller)) func(*world, caller) {
		return func(w *world, p caller) { do(w, p); w.clock.add(d) }
	}
	expire := func(w *world, _ caller) { w.clock.add(time.Hour) }
	for name, c := range map[string]struct {
		do     func(*world, caller)
		as     func(*world, caller) caller // nil: as is
		status int
		counts bool
	}{
		"revoked":               {do: end(state.EndedRevoked), status: 200, counts: true},
		"revoked a minute ago":  {do: later(endedTime, end(state.EndedRevoked)), status: 200, counts: true},
		"revoked before that":   {do: later(endedTime+time.Second, end(state.EndedRevoked)), status: 403},
		"lives":                 {do: func(*world, caller) {}, status: 200},
		"logged out":            {do: end(state.EndedLogout), status: 200},
		"logged out before":     {do: later(endedTime+time.Second, end(state.EndedLogout)), status: 401},
		"expired a minute ago":  {do: later(endedTime, expire), status: 200},
		"expired before that":   {do: later(endedTime+time.Second, expire), status: 401},
		"recovered":             {do: end(state.EndedRecovery), status: 200},
		"under another key":     {do: end(state.EndedRevoked), as: func(w *world, p caller) caller { p.key = w.login().key; return p }, status: 401},
		"of no session":         {do: end(state.EndedRevoked), as: func(_ *world, p caller) caller { p.token = api.NewToken(api.PrefixSession); return p }, status: 401},
		"without a token":       {do: end(state.EndedRevoked), as: func(_ *world, p caller) caller { p.token = caller{}.token; return p }, status: 401},
		"of a machine":          {do: func(*world, caller) {}, as: func(w *world, _ caller) caller { return w.machine() }, status: 403},
		"of a machine that was": {do: func(*world, caller) {}, as: func(w *world, _ caller) caller { m := w.machine(); end(state.EndedRevoked)(w, m); return m }, status: 403},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, quick)
			alice := w.login()
			c.do(w, alice)
			who := alice
			if c.as != nil {
				who = c.as(w, alice)
			}
			before := len(w.events())
			who.acks(c.status, api.Ack{Index: 1 << 60, Closed: 1})
			if n := len(w.events()) - before; n > 1 || c.status == 200 && n > 0 {
				t.Errorf("%d events", n)
			}
			a := w.s.agents.all[alice.session.ID]
			if counts := a != nil && a.dropped != nil; counts != c.counts || len(w.s.agents.all) > 1 {
				t.Errorf("it counts: %v", counts)
			}
		})
	}
}

// TestSessionAckIsStrict: a proof is good once, and a body is one.
func TestSessionAckIsStrict(t *testing.T) {
	w := newWorld(t, quick)
	alice := w.login()
	r := alice.request("POST", api.RouteSessionAck, api.Ack{Index: 1})
	again := alice.request("POST", api.RouteSessionAck, api.Ack{Index: 1})
	again.Header = r.Header.Clone()
	if rec := w.serve(r); rec.Code != 200 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := w.serve(again); rec.Code != 401 {
		t.Errorf("a proof that was used: %d %s", rec.Code, rec.Body)
	}
	for _, body := range []string{"", "[]", `{"index":"x"}`, `{"index":1,"login_id":"ses_other"}`, `{"index":1}{}`} {
		alice.want(400, "POST", api.RouteSessionAck, body, nil)
	}
}

// TestRolesNeed: a role that is allowed says what a request for it must bring.
func TestRolesNeed(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		p    caller
		want map[string][]string
	}{
		"a fresh login": {w.login(), map[string][]string{"dev-admin": {}, "reasoned": {api.NeedReason}, "ticketed": {api.NeedTicket}, "fresh": {}, "frozen": {}, "other": {}}},
		"a stale login": {w.login(func(s *state.Session) { s.AuthTime = start.Add(-time.Hour) }),
			map[string][]string{"dev-admin": {}, "reasoned": {api.NeedReason}, "ticketed": {api.NeedTicket}, "fresh": {api.NeedFresh}, "frozen": {}, "other": {}}},
		"a stranger": {w.as("bob"), map[string][]string{"dev-admin": {}, "reasoned": {}, "ticketed": {}, "fresh": {}, "frozen": {}, "other": {}}},
	} {
		t.Run(name, func(t *testing.T) {
			var roles api.Roles
			c.p.want(200, "GET", api.RouteRoles, nil, &roles)
			got := map[string][]string{}
			for _, r := range roles.Roles {
				got[r.Name] = r.Needs
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestSessionFeedOfTheOther: a revocation at A reaches an agent that follows B within B's next heartbeats, and A's receipt
// says of it no more than A knows.
func TestSessionFeedOfTheOther(t *testing.T) {
	a, b := pair(t)
	a.clock.add(time.Hour)
	b.s.Times.Heartbeat = 200 * time.Millisecond
	sam := a.login(func(s *state.Session) { s.Subject, s.Email = "sam", "sam@example.com" })
	alice := a.login()
	f := alice.at(b).feed()
	f.until(api.FeedHeartbeat)
	r := sam.revokes("user", "alice@example.com")
	want := []api.Point{{Kind: api.PointAgent, Name: "agent of alice@example.com (" + alice.session.ID + "), if there is one", Deadline: a.clock.now().Add(a.s.Times.Lease + feedWrite)}}
	if diff := cmp.Diff(want, agentsOf(r)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := f.until(api.FeedRevoke).Revocation; got.Index != r.Index {
		t.Errorf("revocation %+v, want that of index %d", got, r.Index)
	}
	if p := f.end(); p.Kind != api.KindRevoked {
		t.Errorf("ends with %+v", p)
	}
	alice.at(b).acks(200, api.Ack{Index: r.Index})
}
