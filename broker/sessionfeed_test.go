package broker

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/state"
	"sega/idp"
	"sega/keychain/secret"
)

// followed is a feed of a session as its agent reads it.
type followed struct {
	t      testing.TB
	items  chan api.FeedItem // closed at its end
	cancel func()
}

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// feed follows a session's feed on a connection of its own.
func (p caller) feed() *followed {
	p.w.t.Helper()
	srv := httptest.NewServer(p.w.s)
	p.w.t.Cleanup(srv.Close)
	return p.feedAt(srv)
}

func (p caller) feedAt(srv *httptest.Server) *followed {
	t := p.w.t
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := p.request("GET", api.RouteSessionFeed, nil).WithContext(ctx)
	r.RequestURI, r.URL.Scheme, r.URL.Host = "", "http", srv.Listener.Addr().String()
	res, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	f := &followed{t: t, items: make(chan api.FeedItem, 10_000), cancel: cancel}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(f.items)
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			var p api.Problem
			if err := json.NewDecoder(res.Body).Decode(&p); err == nil {
				f.items <- api.FeedItem{Type: "refused", Problem: &p}
			}
			return
		}
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			var item api.FeedItem
			if err := json.Unmarshal(lines.Bytes(), &item); err != nil {
				t.Errorf("%v: %s", err, lines.Bytes())
				return
			}
			f.items <- item
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

// next returns the next item, or one of no type at the end.
func (f *followed) next() api.FeedItem {
	f.t.Helper()
	select {
	case item := <-f.items:
		return item
	case <-time.After(patience):
		f.t.Fatal("nothing came")
		return api.FeedItem{}
	}
}

// until reads up to an item of a type.
func (f *followed) until(kind string) api.FeedItem {
	f.t.Helper()
	for {
		switch item := f.next(); item.Type {
		case kind:
			return item
		case "":
			f.t.Fatalf("the feed ended before %s", kind)
		}
	}
}

// end reads to the end and returns why it came.
func (f *followed) end() *api.Problem {
	f.t.Helper()
	p := f.until(api.FeedEnd).Problem
	if last := f.next(); last.Type != "" {
		f.t.Errorf("after the end: %+v", last)
	}
	return p
}

// quick makes the broker's heartbeat one that a test can wait for.
func quick(c *Config) {
	c.Times = DefaultTimes()
	c.Times.Heartbeat, c.Times.RevokeWait = 40*time.Millisecond, 2*time.Second
}

// security is policy by which sam may revoke.
const security = policies + `
@id("stops") permit (principal in Group::"security", action in [Action::"revoke", Action::"unblock"], resource);
`

func (w *world) sam() caller { return w.as("sam", "security") }

func (p caller) revokes(subject, id string) api.Receipt {
	p.w.t.Helper()
	var r api.Receipt
	p.want(200, "POST", api.RouteRevoke, api.RevokeRequest{Subject: subject, ID: id, Reason: "laptop stolen"}, &r)
	return r
}

func (p caller) acks(status int, a api.Ack) {
	p.w.t.Helper()
	p.want(status, "POST", api.RouteSessionAck, a, nil)
}

func TestSessionFeed(t *testing.T) {
	w := newWorld(t, quick)
	alice := w.login()
	f := alice.feed()
	trust := f.next()
	want := api.FeedItem{Type: api.FeedTrust, Trust: &api.Trust{Version: 1, AccessCAs: []string{}, HostCAs: []string{}, FrontCAs: w.s.trust().FrontCAs, HopCAs: []string{}}}
	if diff := cmp.Diff(want, trust); diff != "" {
		t.Errorf("begins with (-want +got)\n%s", diff)
	}
	note, _ := w.db.Head()
	first := f.next()
	want = api.FeedItem{Type: api.FeedHeartbeat, Checkpoint: base64.StdEncoding.EncodeToString(note), LeaseMS: 30000,
		Session: &api.FeedSession{Now: w.clock.now(), Expires: alice.session.Expires, Standing: first.Session.Standing}}
	if diff := cmp.Diff(want, first); diff != "" || len(first.Session.Standing) != 43 {
		t.Errorf("goes on with (-want +got)\n%s", diff)
	}
	w.clock.add(time.Minute)
	if next := f.beatAt(w.clock.now()); next.Session.Standing != first.Session.Standing {
		t.Error("another standing, though nothing has changed")
	}
}

// beatAt reads up to a heartbeat for a time.
func (f *followed) beatAt(now time.Time) api.FeedItem {
	f.t.Helper()
	for {
		if item := f.until(api.FeedHeartbeat); item.Session.Now.Equal(now) {
			return item
		}
	}
}

// TestSessionFeedEnds: each way in which a session ends, or a feed alone, is told apart.
func TestSessionFeedEnds(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(w *world, alice caller)
		want api.Kind
	}{
		"logged out": {func(_ *world, p caller) { p.want(200, "POST", api.RouteLogout, api.Empty{}, nil) }, api.KindUnauthenticated},
		"expired":    {func(w *world, _ caller) { w.clock.add(61 * time.Minute) }, api.KindUnauthenticated},
		"over":       {func(w *world, _ caller) { w.clock.add(13 * time.Hour) }, api.KindUnauthenticated},
		"recovered": {func(w *world, p caller) {
			w.write(func(ctx context.Context, tx store.Tx) error { return state.Recover(ctx, tx, w.clock.now()) })
		}, api.KindUnauthenticated},
		"blocked": {func(w *world, p caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.BlockSubject(ctx, tx, issuer, "alice", issuer, "sam", "x")
			})
		}, api.KindRevoked},
		"user revoked":  {func(w *world, _ caller) { w.sam().revokes("user", "alice@example.com") }, api.KindRevoked},
		"login revoked": {func(w *world, p caller) { w.sam().revokes("session", p.session.ID) }, api.KindRevoked},
		"drained":       {func(w *world, _ caller) { w.s.Drain() }, api.KindUnavailable},
		"another feed":  {func(_ *world, p caller) { p.feed().until(api.FeedHeartbeat) }, api.KindConflict},
		"no database":   {func(w *world, _ caller) { _ = w.db.Close() }, api.KindUnavailable},
		"session is not": {func(w *world, p caller) {
			w.write(func(ctx context.Context, tx store.Tx) error {
				_, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE id=?`, p.session.ID)
				return err
			})
		}, api.KindUnauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, quick, func(c *Config) { c.Times.RevokeWait = time.Millisecond })
			w.setPolicy(security)
			alice := w.login()
			f := alice.feed()
			f.until(api.FeedHeartbeat)
			c.do(w, alice)
			if p := f.end(); p.Kind != c.want || p.Detail == "" || p.RequestID == "" {
				t.Errorf("ends with %+v, want %s", p, c.want)
			}
			if name != "another feed" && w.s.agents.connected() != 0 {
				t.Error("it counts still")
			}
		})
	}
}

// TestSessionFeedRevokes: the revocation comes before the end, and to nobody else.
func TestSessionFeedRevokes(t *testing.T) {
	w := newWorld(t, quick, func(c *Config) { c.Times.RevokeWait = time.Millisecond })
	w.setPolicy(security)
	sam, sue := w.sam(), w.as("sue", "security")
	sam.revokes("user", "sub:alice") // once before, which is over
	sue.want(200, "POST", api.RouteUnblock, api.UnblockRequest{ID: "sub:alice", Reason: "found"}, nil)
	back := func(s *state.Session) { s.Epoch = 2 }
	alice, again := w.login(back), w.login(back)
	bob := w.as("bob", "engineering")
	namesake := w.login(func(s *state.Session) { s.Issuer = "https://other.test" })
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.AddSSH(ctx, tx, state.SSHSession{ID: "ssh_bob", Bearer: state.Bearer{LoginID: bob.session.ID, Issuer: issuer, Subject: "bob", Epoch: 1, Rev: 1},
			Email: "bob@example.com", Started: start, NotAfter: start.Add(time.Hour)})
	})
	feeds := map[string]*followed{}
	for name, p := range map[string]caller{"alice": alice, "again": again, "bob": bob, "namesake": namesake, "sam": sam} {
		feeds[name] = p.feed()
		feeds[name].until(api.FeedHeartbeat)
	}
	revocation := func(r api.Receipt) api.Revocation {
		return api.Revocation{Index: r.Index, EventID: r.EventID, Reason: "laptop stolen"}
	}
	want := map[string][]api.Revocation{}

	ofSSH := revocation(sam.revokes("session", "ssh_bob"))
	ofSSH.SessionID = "ssh_bob"
	ofLogin := revocation(sam.revokes("session", again.session.ID))
	ofLogin.LoginID = again.session.ID
	ofUser := revocation(sam.revokes("user", "sub:alice"))
	ofUser.Issuer, ofUser.Subject = issuer, "alice"
	want["bob"], want["again"], want["alice"] = []api.Revocation{ofSSH}, []api.Revocation{ofLogin}, []api.Revocation{ofUser}

	for name, f := range feeds {
		var got []api.Revocation
		last := api.FeedItem{}
		if name == "alice" || name == "again" {
			got, last = f.rest()
		} else {
			w.clock.add(time.Second)
			got, last = f.upTo(w.clock.now())
		}
		if diff := cmp.Diff(want[name], got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
		if ended := last.Type == api.FeedEnd; ended != (name == "alice" || name == "again") || ended && last.Problem.Kind != api.KindRevoked {
			t.Errorf("%s: last came %+v", name, last)
		}
	}
}

// TestRevocationsWaitForNoHeartbeat: what is revoked here is told at once, and nobody else hears a heartbeat for it.
func TestRevocationsWaitForNoHeartbeat(t *testing.T) {
	w := newWorld(t, quick, func(c *Config) { c.Times.Heartbeat, c.Times.RevokeWait = time.Hour, time.Millisecond })
	w.setPolicy(security)
	alice, other := w.login(), w.login()
	f, still := alice.feed(), other.feed()
	f.until(api.FeedHeartbeat)
	still.until(api.FeedHeartbeat)
	sam := w.sam()
	sam.revokes("session", alice.session.ID)
	f.until(api.FeedRevoke)
	if p := f.end(); p.Kind != api.KindRevoked {
		t.Errorf("ends with %+v", p)
	}
	sam.revokes("session", other.session.ID)
	if got := still.next(); got.Type != api.FeedRevoke {
		t.Errorf("first came %+v", got)
	}
}

// rest reads to the end: revocations, and the last item.
func (f *followed) rest() (all []api.Revocation, last api.FeedItem) {
	f.t.Helper()
	for {
		item := f.next()
		if item.Type == "" {
			return all, last
		}
		if item.Type == api.FeedRevoke {
			all = append(all, *item.Revocation)
		}
		last = item
	}
}

// upTo reads up to a heartbeat for a time.
func (f *followed) upTo(now time.Time) (all []api.Revocation, last api.FeedItem) {
	f.t.Helper()
	for {
		last = f.next()
		switch {
		case last.Type == api.FeedRevoke:
			all = append(all, *last.Revocation)
		case last.Type == api.FeedHeartbeat && last.Session.Now.Equal(now), last.Type == "", last.Type == api.FeedEnd:
			return all, last
		}
	}
}

// TestSessionFeedIsForSessions: who has none that stands is refused, and machines and people have feeds of their own.
func TestSessionFeedIsForSessions(t *testing.T) {
	w := newWorld(t, quick, func(c *Config) { c.Times.RevokeWait = time.Millisecond })
	w.setPolicy(security)
	out, cut, bob, machine := w.login(), w.login(), w.as("bob"), w.machine()
	out.want(200, "POST", api.RouteLogout, api.Empty{}, nil)
	w.sam().revokes("session", cut.session.ID)
	stranger := bob
	stranger.token = api.NewToken(api.PrefixSession)
	thief := bob
	thief.key, _ = dpop.GenerateKey()
	for name, c := range map[string]struct {
		p    caller
		path string
		want api.Kind
	}{
		"logged out":                {out, api.RouteSessionFeed, api.KindUnauthenticated},
		"revoked":                   {cut, api.RouteSessionFeed, api.KindRevoked},
		"no session":                {stranger, api.RouteSessionFeed, api.KindUnauthenticated},
		"another key":               {thief, api.RouteSessionFeed, api.KindUnauthenticated},
		"a machine":                 {machine, api.RouteSessionFeed, api.KindDenied},
		"a person at the bastions'": {bob, api.RouteFeed + "?after=-1", api.KindDenied},
		"a person at the indexers'": {bob, api.RouteIndexSearches, api.KindDenied},
	} {
		t.Run(name, func(t *testing.T) {
			if p := problemOf(t, c.p.do("GET", c.path, nil)); p.Kind != c.want {
				t.Errorf("%+v, want %s", p, c.want)
			}
		})
	}
	if n := w.s.agents.connected(); n != 0 {
		t.Errorf("%d feeds count", n)
	}
}

// TestStanding: whatever decisions about a person hang on gives another standing, and what concerns another does not.
func TestStanding(t *testing.T) {
	w := newWorld(t, quick)
	alice, bob := w.login(), w.as("bob", "engineering")
	renew := func(p caller, groups ...string) {
		w.write(func(ctx context.Context, tx store.Tx) error {
			return state.RenewSession(ctx, tx, p.session.ID, p.session.TokenHash, groups, p.session.Expires.Add(time.Minute))
		})
	}
	a, b := alice.feed(), bob.feed()
	was := a.until(api.FeedHeartbeat).Session.Standing
	if other := b.until(api.FeedHeartbeat).Session.Standing; other == was {
		t.Error("alice and bob have one standing")
	}
	for _, c := range []struct {
		name    string
		do      func()
		changes bool
	}{
		{"bob renews with other groups", func() { renew(bob, "oncall") }, false},
		{"alice renews with the same groups", func() { renew(alice, "engineering") }, false},
		{"alice renews with other groups", func() { renew(alice, "engineering", "oncall") }, true},
		{"the groups come in one", func() { renew(alice, "engineering,oncall") }, true},
		{"a policy file changes", func() { w.setPolicy(security) }, true},
		{"the same policy is loaded again", func() { w.setPolicy(security) }, false},
	} {
		c.do()
		w.clock.add(time.Second)
		now := a.beatAt(w.clock.now()).Session.Standing
		if (now != was) != c.changes {
			t.Errorf("%s: changed is %v", c.name, now != was)
		}
		was = now
	}
	a.beatAt(w.clock.now())
	w.s.Drain()
	a.end()
	w.restart() // with other roles, for all that the agent knows
	if now := alice.feed().until(api.FeedHeartbeat).Session.Standing; now == was {
		t.Error("the same standing after a restart")
	}
}

// TestSessionFeedShowsRenewals: whoever renews, the agent sees until when the session is good.
func TestSessionFeedShowsRenewals(t *testing.T) {
	w := newWorld(t, quick, func(c *Config) {
		c.Verifier = verifier{idp.Identity{Issuer: issuer, Subject: "alice", GroupsKnown: true, Groups: []string{"engineering"}, MFA: true, Digest: "d", Expires: start.Add(time.Hour)}}
	})
	alice := w.login()
	f := alice.feed()
	f.until(api.FeedHeartbeat)
	w.clock.add(30 * time.Minute)
	var renewed struct{ Expires time.Time }
	alice.want(200, "POST", api.RouteRenew, api.RenewRequest{IDToken: secret.FromString("t")}, &renewed)
	w.clock.add(time.Second)
	if beat := f.beatAt(w.clock.now()); !beat.Session.Expires.Equal(renewed.Expires) || !renewed.Expires.Equal(start.Add(90*time.Minute)) {
		t.Errorf("expires %v, want %v", beat.Session.Expires, renewed.Expires)
	}
}

// TestSlowAgentIsCut: a feed that nobody reads ends, and holds nothing more.
func TestSlowAgentIsCut(t *testing.T) {
	w := newWorld(t, quick, func(c *Config) { c.Times.Heartbeat = time.Millisecond })
	w.s.writeTime = 100 * time.Millisecond
	srv := httptest.NewUnstartedServer(w.s)
	srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(4096)
		return ctx
	}
	srv.Start()
	t.Cleanup(srv.Close)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if err := w.login().request("GET", api.RouteSessionFeed, nil).Write(conn); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return w.s.agents.connected() == 1 })
	eventually(t, func() bool { return w.s.agents.connected() == 0 })
}

// TestFeedsAreBounded: a person has so many, all have so many, and a lost one makes room.
func TestFeedsAreBounded(t *testing.T) {
	w := newWorld(t, quick)
	w.s.agents.most = feedsPerPerson + 1
	srv := httptest.NewServer(w.s)
	t.Cleanup(srv.Close)
	var alices []caller
	var feeds []*followed
	for range feedsPerPerson {
		p := w.login()
		f := p.feedAt(srv)
		f.until(api.FeedHeartbeat)
		alices, feeds = append(alices, p), append(feeds, f)
	}
	refused := func(who string, p caller) {
		t.Helper()
		if problem := problemOf(t, p.do("GET", api.RouteSessionFeed, nil)); problem.Kind != api.KindRateLimited || problem.RetrySecs == 0 {
			t.Errorf("%s: %+v", who, problem)
		}
	}
	refused("one login too many", w.login())
	alices[0].feedAt(srv).until(api.FeedHeartbeat) // in the place of its own
	w.as("bob").feedAt(srv).until(api.FeedHeartbeat)
	refused("one agent too many", w.as("carol"))
	if p := problemOf(t, w.as("carol").do("POST", api.RouteCredentials, api.CredentialsRequest{Role: "dev-admin"})); p.Kind != api.KindDenied {
		t.Errorf("another request: %+v", p)
	}
	feeds[1].cancel()
	eventually(t, func() bool { return w.s.agents.connected() == feedsPerPerson })
	w.login().feedAt(srv).until(api.FeedHeartbeat)
	if n := w.s.agents.connected(); n != feedsPerPerson+1 {
		t.Errorf("%d feeds", n)
	}
}

// TestFeedsShareTheirReads: what the database is asked does not grow with the number of feeds.
func TestFeedsShareTheirReads(t *testing.T) {
	w := newWorld(t, quick)
	reads := &feedReads{Log: w.log}
	w.s.Log = reads
	srv := httptest.NewServer(w.s)
	t.Cleanup(srv.Close)
	var feeds []*followed
	for i := range 25 {
		f := w.as(fmt.Sprintf("p%d", i)).feedAt(srv)
		f.until(api.FeedHeartbeat)
		feeds = append(feeds, f)
	}
	before, beats, from := reads.n.Load(), 0, time.Now()
	for range 10 {
		for _, f := range feeds {
			f.until(api.FeedHeartbeat)
			beats++
		}
	}
	most := 3 + int64(2*time.Since(from)/w.s.Times.Heartbeat)
	if n := reads.n.Load() - before; n > most || n < 5 || beats != 250 {
		t.Errorf("%d reads for %d heartbeats, want at most %d", n, beats, most)
	}
}

type feedReads struct {
	store.Log
	n atomic.Int64
}

func (l *feedReads) Read(ctx context.Context, f func(context.Context, store.Querier) error) error {
	l.n.Add(1)
	return l.Log.Read(ctx, f)
}

// hangingLog is a log whose database answers nothing from some moment on.
type hangingLog struct {
	store.Log
	hangs atomic.Bool
}

func (l *hangingLog) Read(ctx context.Context, f func(context.Context, store.Querier) error) error {
	if l.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return l.Log.Read(ctx, f)
}

// TestFeedsOfAHangingDatabase: all feeds are told at once that the broker cannot look, and not one after the other.
func TestFeedsOfAHangingDatabase(t *testing.T) {
	w := settled(t)
	log := &hangingLog{Log: w.s.Log}
	w.s.Log, w.s.writeTime = log, time.Second
	feeds := make([]*followed, 8)
	for i := range feeds {
		feeds[i] = w.login().feed()
		feeds[i].until(api.FeedHeartbeat)
	}
	log.hangs.Store(true)
	began := time.Now()
	for _, f := range feeds {
		if p := f.end(); p.Kind == api.KindRevoked || p.Kind == api.KindUnauthenticated {
			t.Errorf("the feed ends with %+v", p)
		}
	}
	if d := time.Since(began); d > time.Duration(len(feeds)/2)*w.s.writeTime {
		t.Errorf("the last of %d feeds was told after %v", len(feeds), d)
	}
}
