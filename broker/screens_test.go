package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

const screenPolicies = readPolicies + `
@id("replays") permit (principal in Group::"reviewers", action == Action::"replay", resource)
unless { resource.hasTag("env") && resource.getTag("env") == "vault" };
@id("indexes") permit (principal is Machine, action == Action::"index", resource is Recording)
unless { resource.hasTag("env") && resource.getTag("env") == "vault" };
`

// screenWorld is readWorld with SSH sessions in the records, one of them on a host that nobody replays.
func screenWorld(t testing.TB) *world {
	t.Helper()
	w := readWorld(t)
	w.setPolicy(screenPolicies)
	w.s.Hosts = append(w.s.Hosts, Host{Name: "vault-1", ID: "vault-1", Labels: map[string]string{"env": "vault"}})
	for id, host := range map[string]string{"ssh_alice": "web-1", "ssh_bob": "web-1", "ssh_vault": "vault-1"} {
		h, _ := w.s.host(host)
		w.write(func(ctx context.Context, tx store.Tx) error {
			return state.AddSSH(ctx, tx, state.SSHSession{ID: id, Bearer: state.Bearer{LoginID: "ses_1", Issuer: issuer, Subject: "alice", Epoch: 1, Rev: 1},
				Host: host, Labels: labelsOf(h), Started: w.clock.now(), NotAfter: w.clock.now()})
		})
	}
	return w
}

// fakeIndexer follows searches. answer may be nil: then nothing is answered.
type fakeIndexer struct {
	caller
	asked chan api.IndexSearch
	ended chan struct{}
}

// piped is an answer that is read while it is written.
type piped struct {
	header http.Header
	*io.PipeWriter
}

func (p *piped) Header() http.Header { return p.header }
func (p *piped) WriteHeader(int)     {}
func (p *piped) Flush()              {}

func (w *world) indexer(id string, answer func(api.IndexSearch) api.IndexHits) *fakeIndexer {
	w.t.Helper()
	before := w.s.screens.connected()
	x := &fakeIndexer{asked: make(chan api.IndexSearch, 100), ended: make(chan struct{})}
	x.caller = w.login(func(s *state.Session) {
		s.Kind, s.Issuer, s.Subject, s.Email = state.KindMachine, machineIssuer, id, "indexer-"+id
	})
	ctx, cancel := context.WithCancel(w.t.Context())
	read, write := io.Pipe()
	served := make(chan struct{})
	request := x.request("GET", api.RouteIndexSearches, nil).WithContext(ctx)
	go func() {
		defer close(served)
		w.s.ServeHTTP(&piped{http.Header{}, write}, request)
		_ = write.Close()
	}()
	go func() {
		defer close(x.ended)
		d := json.NewDecoder(read)
		for {
			var q api.IndexSearch
			if d.Decode(&q) != nil {
				return
			}
			if q.ID == "" {
				continue
			}
			x.asked <- q
			if answer != nil {
				if rec := x.do("POST", api.RouteIndexHits, answer(q)); rec.Code != 200 {
					w.t.Errorf("the answer is refused: %d %s", rec.Code, rec.Body)
				}
			}
		}
	}()
	w.t.Cleanup(func() { cancel(); _ = read.Close(); <-served; <-x.ended })
	eventually(w.t, func() bool { return w.s.screens.connected() > before })
	return x
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come about")
		}
	}
}

func hits(upTo int64, ids ...string) func(api.IndexSearch) api.IndexHits {
	return func(q api.IndexSearch) api.IndexHits { return api.IndexHits{ID: q.ID, Sessions: ids, UpTo: upTo} }
}

// TestScreens: an answer names the sessions that the asker may replay, and no others, also where
// the query turns it round.
func TestScreens(t *testing.T) {
	w := screenWorld(t)
	x := w.indexer("mch_9", hits(6, "ssh_vault", "ssh_bob", "ssh_made_up", "ssh_bob"))
	carol, sam, bob := w.as("carol", "reviewers"), w.as("sam", "security"), w.as("bob")
	same := func(what string, got, want []string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", what, diff)
		}
	}
	same("carol", carol.read(`screen:"DROP TABLE"`), []string{"3 user.login bob", "4 session.command bob", "5 sftp.rename bob", "6 session.end bob"})
	if got, want := <-x.asked, (api.IndexSearch{Text: "DROP TABLE", Limit: searchSessions, UpTo: 6}); got.Text != want.Text || got.Limit != want.Limit || got.UpTo != want.UpTo || got.ID == "" {
		t.Errorf("asked %+v", got)
	}
	same("with another term", carol.read(`screen:"DROP TABLE" kind:session.end`), []string{"6 session.end bob"})
	if p := problemOf(t, carol.do("GET", eventsPath(`-screen:"DROP TABLE" kind:session.*`), nil)); p.Kind != api.KindInvalid || !strings.Contains(p.Detail, "cannot be negated") {
		t.Errorf("turned round: %+v", p)
	}
	if p := problemOf(t, bob.do("GET", eventsPath(`screen:"DROP TABLE"`), nil)); p.Kind != api.KindDenied || !strings.Contains(p.Detail, "everybody's") {
		t.Errorf("bob: %+v", p)
	}
	if p := problemOf(t, sam.do("GET", eventsPath(`screen:"DROP TABLE"`), nil)); p.Kind != api.KindDenied {
		t.Errorf("sam: %+v", p)
	}
	if rec := carol.do("GET", api.RouteCount+"?by=user&q=screen%3ADROPTABLE", nil); rec.Code != 200 || !strings.Contains(rec.Body.String(), `"count":4`) {
		t.Errorf("counted: %d %s", rec.Code, rec.Body)
	}
	// What was looked for is in the events of the search, once each, with who looked.
	var trail []string
	for _, e := range w.events()[7:] {
		if bytes.Contains(e.Details, []byte("TABLE")) {
			trail = append(trail, e.Kind+" "+string(e.Outcome)+" "+e.Actor.Sub)
		}
	}
	same("events", trail, []string{"audit.read success carol", "audit.read success carol", "audit.read denied carol", "audit.read denied bob", "audit.read denied sam", "audit.read success carol"})
	if strings.Contains(w.logs.String(), "TABLE") {
		t.Error("the broker's own log holds the text")
	}
}

// TestScreensFail: without a whole answer there is an error that says what to do, never an empty answer.
func TestScreensFail(t *testing.T) {
	more := func(q api.IndexSearch) api.IndexHits {
		return api.IndexHits{ID: q.ID, Sessions: []string{"ssh_bob"}, More: true, UpTo: 6}
	}
	failed := func(q api.IndexSearch) api.IndexHits {
		return api.IndexHits{ID: q.ID, Error: "its database does not answer", UpTo: 6}
	}
	for name, c := range map[string]struct {
		query    string
		indexers []func(api.IndexSearch) api.IndexHits
		policy   string
		kind     api.Kind
		detail   string
	}{
		"none connected":           {query: "screen:xyz", kind: api.KindUnavailable, detail: "no indexer is connected"},
		"no answer":                {query: "screen:xyz", indexers: []func(api.IndexSearch) api.IndexHits{nil}, kind: api.KindUnavailable, detail: "has not answered within"},
		"behind":                   {query: "screen:xyz", indexers: []func(api.IndexSearch) api.IndexHits{hits(5, "ssh_bob")}, kind: api.KindUnavailable, detail: "the index is behind: it holds sessions up to event 5"},
		"all behind or silent":     {query: "screen:xyz", indexers: []func(api.IndexSearch) api.IndexHits{hits(5, "ssh_bob"), nil}, kind: api.KindUnavailable, detail: "the index is behind"},
		"failed":                   {query: "screen:xyz", indexers: []func(api.IndexSearch) api.IndexHits{failed}, kind: api.KindUnavailable, detail: "its database does not answer"},
		"too many":                 {query: "screen:xyz", indexers: []func(api.IndexSearch) api.IndexHits{more}, kind: api.KindInvalid, detail: "more than 10000 sessions"},
		"too short":                {query: "screen:xy", indexers: []func(api.IndexSearch) api.IndexHits{hits(6)}, kind: api.KindInvalid, detail: "3 characters"},
		"too short, in bytes long": {query: "screen:üö", indexers: []func(api.IndexSearch) api.IndexHits{hits(6)}, kind: api.KindInvalid, detail: "3 characters"},
		"too long":                 {query: "screen:" + strings.Repeat("x", api.MaxScreen+1), indexers: []func(api.IndexSearch) api.IndexHits{hits(6)}, kind: api.KindInvalid, detail: "1000 bytes"},
		"too many terms":           {query: "screen:aaa or screen:bbb or screen:ccc or screen:ddd or screen:eee", indexers: []func(api.IndexSearch) api.IndexHits{hits(6)}, kind: api.KindInvalid, detail: "4 screen: at most"},
		"two lines":                {query: "screen:\"one\ntwo\"", indexers: []func(api.IndexSearch) api.IndexHits{hits(6)}, kind: api.KindInvalid, detail: "line by line"},
		"replay with a reason":     {query: "screen:xyz", indexers: []func(api.IndexSearch) api.IndexHits{hits(6, "ssh_bob")}, policy: `@id("replays") @require_reason("yes")`, kind: api.KindDenied, detail: "asks for a reason"},
		"replay after a login":     {query: "screen:xyz", indexers: []func(api.IndexSearch) api.IndexHits{hits(6, "ssh_bob")}, policy: `@id("replays") @max_auth_age("1s")`, kind: api.KindStepUp, detail: "asks for a login of the last"},
	} {
		t.Run(name, func(t *testing.T) {
			w := screenWorld(t)
			w.s.screens.wait = patience
			for _, answer := range c.indexers {
				if answer == nil { // it is waited for in vain, while those that answer have time to
					w.s.screens.wait = time.Second
				}
			}
			if c.policy != "" {
				w.setPolicy(strings.Replace(screenPolicies, `@id("replays")`, c.policy, 1))
			}
			for i, answer := range c.indexers {
				w.indexer(fmt.Sprintf("mch_%d", i), answer)
			}
			carol := w.as("carol", "reviewers")
			p := problemOf(t, carol.do("GET", eventsPath(c.query), nil))
			if p.Kind != c.kind || !strings.Contains(p.Detail, c.detail) {
				t.Errorf("%s: %s", p.Kind, p.Detail)
			}
			if events := w.events(); events[len(events)-1].Kind != audit.KindAuditRead || events[len(events)-1].Outcome == audit.Success {
				t.Errorf("the last event is %+v", events[len(events)-1])
			}
		})
	}
}

// TestScreensUncovered: an answer says what could not be searched, whether it lists or counts.
func TestScreensUncovered(t *testing.T) {
	w := screenWorld(t)
	w.indexer("mch_9", func(q api.IndexSearch) api.IndexHits {
		hits := api.IndexHits{ID: q.ID, Sessions: []string{"ssh_bob"}, UpTo: 6}
		if q.Text == "xyz" {
			hits.Missing, hits.Cut = 3, 1
		}
		return hits
	})
	w.write(func(ctx context.Context, tx store.Tx) error {
		return errors.Join(state.AddSSH(ctx, tx, state.SSHSession{ID: "ssh_live", Bearer: state.Bearer{LoginID: "ses_1", Issuer: issuer, Subject: "alice", Epoch: 1, Rev: 1},
			Host: "web-1", Started: w.clock.now(), NotAfter: w.clock.now().Add(time.Hour)}), state.SetSSHState(ctx, tx, "ssh_live", state.SSHLive))
	})
	carol := w.as("carol", "reviewers")
	for _, path := range []string{eventsPath("screen:xyz or screen:abcd"), api.RouteCount + "?by=user&q=screen%3Axyz"} {
		rec := carol.do("GET", path, nil)
		if got := rec.Header().Get(api.HeaderNotice); rec.Code != 200 || !strings.Contains(got, ": 1 that are live, 3 that the index lacks, 1 of which it has a part (") {
			t.Errorf("%s: %d, %q", path, rec.Code, got)
		}
	}
	if got := carol.do("GET", eventsPath("kind:session.end"), nil).Header().Get(api.HeaderNotice); got != "" {
		t.Errorf("nothing of screens was asked for, and it says %q", got)
	}
}

// TestSeveralIndexers: the first answer that covers everything is the answer.
func TestSeveralIndexers(t *testing.T) {
	w := screenWorld(t)
	w.indexer("mch_1", hits(5, "ssh_alice"))
	w.indexer("mch_2", func(q api.IndexSearch) api.IndexHits { return api.IndexHits{ID: q.ID, Error: "broken"} })
	w.indexer("mch_3", nil)
	w.indexer("mch_4", hits(6, "ssh_bob"))
	if got := w.as("carol", "reviewers").read("screen:xyz kind:session.end"); !slices.Equal(got, []string{"6 session.end bob"}) {
		t.Errorf("got %q", got)
	}
}

// TestForeignHits: who was not asked, or asked for something else, or has answered, answers nothing.
func TestForeignHits(t *testing.T) {
	w := screenWorld(t)
	x := w.indexer("mch_1", nil)
	got := make(chan []string)
	carol := w.as("carol", "reviewers")
	go func() { got <- carol.read("screen:xyz kind:session.end") }()
	q := <-x.asked
	late := w.indexer("mch_2", nil) // it was not there when the question was asked
	late.do("POST", api.RouteIndexHits, hits(6, "ssh_alice")(q))
	x.do("POST", api.RouteIndexHits, hits(6, "ssh_alice")(api.IndexSearch{ID: "isr_other"}))
	select {
	case ids := <-got:
		t.Fatalf("taken for the answer: %q", ids)
	case <-time.After(50 * time.Millisecond):
	}
	x.do("POST", api.RouteIndexHits, hits(6, "ssh_bob")(q))
	x.do("POST", api.RouteIndexHits, hits(6, "ssh_alice")(q))
	if ids := <-got; !slices.Equal(ids, []string{"6 session.end bob"}) {
		t.Errorf("got %q", ids)
	}
	if n := len(w.s.screens.open); n != 0 {
		t.Errorf("%d questions are remembered", n)
	}
	if rec := x.do("POST", api.RouteIndexHits, `{"id":"x","text":"what was found"}`); rec.Code != 400 {
		t.Errorf("an answer with text is taken: %d", rec.Code)
	}
}

// TestRevokedIndexer: a machine whose session ends loses its stream, and is asked nothing more.
func TestRevokedIndexer(t *testing.T) {
	w := screenWorld(t)
	w.s.screens.wait = 200 * time.Millisecond
	x := w.indexer("mch_1", hits(6, "ssh_bob"))
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.EndSessionsOf(ctx, tx, machineIssuer, "mch_1", state.EndedRevoked, w.clock.now())
	})
	carol := w.as("carol", "reviewers")
	if p := problemOf(t, carol.do("GET", eventsPath("screen:xyz"), nil)); p.Kind != api.KindUnavailable {
		t.Errorf("got %+v", p)
	}
	<-x.ended
	if len(x.asked) != 0 {
		t.Errorf("it was asked %+v", <-x.asked)
	}
	if rec := x.do("POST", api.RouteIndexHits, hits(6, "ssh_bob")(api.IndexSearch{ID: "isr_1"})); rec.Code != 401 {
		t.Errorf("it answers: %d", rec.Code)
	}
}

// TestOwnScreensAskNobody: who may read his own events alone reaches no indexer, and learns nothing by the
// time that an answer takes.
func TestOwnScreensAskNobody(t *testing.T) {
	w := screenWorld(t)
	x := w.indexer("mch_1", nil)
	for _, path := range []string{eventsPath("screen:xyz"), eventsPath("screen:xyz user:alice"), eventsPath("screen:xyz or kind:user.login"), api.RouteCount + "?by=user&q=screen%3Axyz"} {
		if p := problemOf(t, w.as("alice").do("GET", path, nil)); p.Kind != api.KindDenied {
			t.Errorf("%s: %+v", path, p)
		}
	}
	if len(x.asked) != 0 {
		t.Errorf("the indexer was asked %+v", <-x.asked)
	}
}

// TestTurns: the indexer is asked as much at once as it works on, what comes beyond waits, and nobody
// leaves nothing to the others.
func TestTurns(t *testing.T) {
	w := screenWorld(t)
	x := w.indexer("mch_1", nil)
	greedy := w.as("carol", "reviewers")
	codes := make(chan int, 100)
	search := func(p caller) {
		r := p.request("GET", eventsPath("screen:xyz kind:session.end"), nil)
		go func() { codes <- w.serve(r).Code }()
	}
	for range 20 {
		search(greedy)
	}
	for range 20 - searchPerson {
		if code := <-codes; code != 429 {
			t.Errorf("more than one person's share: %d", code)
		}
	}
	others := 4 * searchPerson
	for i := range 4 {
		p := w.as(fmt.Sprint("reviewer", i), "reviewers")
		for range searchPerson {
			search(p)
		}
	}
	open := func() int {
		w.s.screens.mu.Lock()
		defer w.s.screens.mu.Unlock()
		return len(w.s.screens.open)
	}
	for range searchPerson + others {
		q := <-x.asked
		if n := open(); n > searchTurns {
			t.Errorf("%d questions at once", n)
		}
		if rec := x.do("POST", api.RouteIndexHits, hits(6, "ssh_bob")(q)); rec.Code != 200 {
			t.Fatal(rec.Body)
		}
	}
	for range searchPerson + others {
		if code := <-codes; code != 200 {
			t.Errorf("got %d", code)
		}
	}
	if len(w.s.screens.people) != 0 || len(w.s.screens.turns) != 0 {
		t.Errorf("left: %v, %d turns", w.s.screens.people, len(w.s.screens.turns))
	}
}

// TestTurnIsWaitedFor no longer than an answer, nor by who has gone.
func TestTurnIsWaitedFor(t *testing.T) {
	x := newScreens()
	x.wait = time.Millisecond
	for i := range searchTurns {
		if _, err := x.turn(t.Context(), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := x.turn(t.Context(), "late"); !api.IsKind(err, api.KindUnavailable) {
		t.Errorf("got %v", err)
	}
	x.wait = time.Hour
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.turn(gone, "late"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if x.people["late"] != 0 {
		t.Error("who waits no more is counted")
	}
}

// TestSearchesAreLimited: a person's searches come from a budget.
func TestSearchesAreLimited(t *testing.T) {
	w := screenWorld(t)
	w.indexer("mch_1", hits(6, "ssh_bob"))
	carol := w.as("carol", "reviewers")
	for range searchBurst {
		if rec := carol.do("GET", eventsPath("screen:xyz"), nil); rec.Code != 200 {
			t.Fatal(rec.Body)
		}
	}
	if rec := carol.do("GET", eventsPath("screen:xyz"), nil); rec.Code != 429 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := w.as("dora", "reviewers").do("GET", eventsPath("screen:xyz"), nil); rec.Code != 200 {
		t.Errorf("another person: %d %s", rec.Code, rec.Body)
	}
}

// TestFollowHasNoScreens: new sessions would never show.
func TestFollowHasNoScreens(t *testing.T) {
	w := screenWorld(t)
	x := w.indexer("mch_1", hits(6, "ssh_bob"))
	p := problemOf(t, w.as("carol", "reviewers").do("GET", eventsPath("kind:session.end screen:xyz", "follow", "1"), nil))
	if p.Kind != api.KindInvalid || !strings.Contains(p.Detail, "has no screen:") || len(x.asked) != 0 {
		t.Errorf("%+v", p)
	}
}

// TestReplacedStream: a machine has one stream, the newest.
func TestReplacedStream(t *testing.T) {
	x := newScreens()
	first := x.join("mch_1")
	second := x.join("mch_1")
	select {
	case <-first.replaced:
	default:
		t.Error("the older stream goes on")
	}
	x.leave("mch_1", first)
	if x.connected() != 1 {
		t.Error("the older stream took the newer one with it")
	}
	for range searchQueue {
		if _, _, err := x.ask(api.IndexSearch{ID: api.NewID("isr_")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := x.ask(api.IndexSearch{ID: "isr_more"}); !api.IsKind(err, api.KindRateLimited) {
		t.Errorf("a question too many: %v", err)
	}
	x.leave("mch_1", second)
	if _, _, err := x.ask(api.IndexSearch{ID: "isr_1"}); !api.IsKind(err, api.KindUnavailable) {
		t.Errorf("nobody is there: %v", err)
	}
}

// TestMachinesKeepToTheirRoutes: what an indexer holds opens no host, what a bastion holds reads no
// recording, and people have neither (R6).
func TestMachinesKeepToTheirRoutes(t *testing.T) {
	w := screenWorld(t)
	machine := func(id, name string) caller {
		return w.login(func(s *state.Session) {
			s.Kind, s.Issuer, s.Subject, s.Email = state.KindMachine, machineIssuer, id, name
		})
	}
	bastion, indexer, carol := machine("mch_1", "bastion-1"), machine("mch_2", "indexer-1"), w.as("carol", "reviewers")
	gone := machine("mch_3", "indexer-2")
	w.write(func(ctx context.Context, tx store.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM machines WHERE id='mch_3'`)
		return err
	})
	for _, r := range []struct {
		method, path string
		of           caller
	}{
		{"GET", api.RouteFeed + "?after=-1", bastion}, {"POST", api.RouteAck, bastion}, {"POST", api.RouteHop, bastion}, {"POST", api.RouteFront, bastion}, {"POST", api.RouteReport, bastion}, {"POST", api.RouteChannel, bastion},
		{"GET", api.RouteIndexSessions + "?after=-1", indexer}, {"GET", "/v1/indexer/recordings/ssh_bob", indexer}, {"GET", api.RouteIndexSearches, indexer}, {"POST", api.RouteIndexHits, indexer},
	} {
		for who, p := range map[string]caller{"bastion": bastion, "indexer": indexer, "person": carol, "gone": gone} {
			if p.session.ID == r.of.session.ID {
				continue
			}
			before := len(w.events())
			rec := p.do(r.method, r.path, nil)
			want := api.KindDenied
			if who == "gone" {
				want = api.KindUnauthenticated
			}
			if got := problemOf(t, rec); got.Kind != want {
				t.Errorf("%s %s by a %s: %+v", r.method, r.path, who, got)
			}
			if events := w.events()[before:]; len(events) != 1 || events[0].Kind != audit.KindRequestRefuse {
				t.Errorf("%s %s by a %s: %d events", r.method, r.path, who, len(events))
			}
		}
	}
	for _, p := range []string{api.RouteEvents, api.RouteLog + "?from=0&to=1", "/v1/recordings/ssh_bob?purpose=play&reason=x"} {
		if got := problemOf(t, indexer.do("GET", p, nil)); got.Kind != api.KindDenied {
			t.Errorf("%s by an indexer: %+v", p, got)
		}
	}
}

// TestIndexRecording: by policy, one event each, as ciphertext.
func TestIndexRecording(t *testing.T) {
	w := screenWorld(t)
	shelf := &shelf{data: map[string][]byte{}}
	w.s.Recordings = shelf
	for _, id := range []string{"ssh_bob", "ssh_vault"} {
		shelf.add(id, "ciphertext of "+id)
	}
	x := w.login(func(s *state.Session) {
		s.Kind, s.Issuer, s.Subject, s.Email = state.KindMachine, machineIssuer, "mch_1", "indexer-1"
	})
	before := len(w.events())
	for id, want := range map[string]string{"ssh_bob": "200 ciphertext of ssh_bob", "ssh_vault": "403", "ssh_none": "404"} {
		if rec := x.do("GET", "/v1/indexer/recordings/"+id, nil); !strings.HasPrefix(fmt.Sprint(rec.Code, " ", rec.Body), want) {
			t.Errorf("%s: %d %s", id, rec.Code, rec.Body)
		}
	}
	got := map[string]string{}
	for _, e := range w.events()[before:] {
		got[e.SessionID] = fmt.Sprint(e.Kind, " ", e.Outcome, " ", e.Actor.Kind, " ", e.Actor.Email, " ", bytes.Contains(e.Details, []byte(`"purpose":"index"`)))
	}
	want := map[string]string{"ssh_bob": "recording.read success machine indexer-1 true", "ssh_vault": "recording.read denied machine indexer-1 true", "ssh_none": "recording.read denied machine indexer-1 true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	w.log.on(func([]audit.Event) error { return errDisk })
	if rec := x.do("GET", "/v1/indexer/recordings/ssh_bob", nil); rec.Code != 503 || strings.Contains(rec.Body.String(), "ciphertext") {
		t.Errorf("a recording that is not audited: %d %s", rec.Code, rec.Body)
	}
}

// TestIndexSessions: each ended session comes once, in order, with what the log says of it alone.
func TestIndexSessions(t *testing.T) {
	w := newWorld(t)
	of := func(kind, id, details string) made {
		e := w.event(kind, "alice", "host/web-1", "").details(details)
		e.SessionID = id
		return e
	}
	heads := func(text string) made {
		e := w.event(audit.KindRecordingHeads, "alice", "machine/b", "").details(text)
		e.SessionID = ""
		return e
	}
	failed := of(audit.KindSessionStart, "ssh_b", `{"error":"host away"}`)
	failed.Outcome = audit.Failure
	w.append(
		of(audit.KindSessionStart, "ssh_a", `{"a":1}`), failed, of(audit.KindSessionStart, "ssh_b", `{"b":1}`),
		heads(`{"sessions":[{"id":"ssh_a","segments":1},{"id":"ssh_b","segments":2}]}`), heads(`"odd"`), heads(`{"sessions":[{"id":"ssh_a","segments":3}]}`),
		of(audit.KindSessionEnd, "ssh_b", `{"b":2}`), of(audit.KindSessionEnd, "ssh_a", `{"a":2}`), of(audit.KindSessionStart, "ssh_c", `{"c":1}`), of(audit.KindSessionEnd, "ssh_odd", `{}`),
	)
	x := w.login(func(s *state.Session) {
		s.Kind, s.Issuer, s.Subject, s.Email = state.KindMachine, machineIssuer, "mch_1", "indexer-1"
	})
	ask := func(after int) []string {
		var out []string
		for _, v := range whole[api.IndexSession](t, x.do("GET", fmt.Sprintf("%s?after=%d", api.RouteIndexSessions, after), nil)) {
			out = append(out, fmt.Sprintf("%d %s %s %s %s", v.Index, v.SessionID, v.Start, v.End, v.Heads))
		}
		return out
	}
	b, a, odd := `6 ssh_b {"b":1} {"b":2} [{"id":"ssh_b","segments":2}]`, `7 ssh_a {"a":1} {"a":2} [{"id":"ssh_a","segments":1} {"id":"ssh_a","segments":3}]`, `9 ssh_odd null {} []`
	for after, want := range map[int][]string{-1: {b, a, odd}, 6: {a, odd}, 7: {odd}, 9: nil} {
		if diff := cmp.Diff(want, ask(after)); diff != "" {
			t.Errorf("after %d: -want +got\n%s", after, diff)
		}
	}
	before := len(w.events())
	for _, q := range []string{"", "?after=", "?after=x", "?after=-2"} {
		if p := problemOf(t, x.do("GET", api.RouteIndexSessions+q, nil)); p.Kind != api.KindInvalid {
			t.Errorf("%q: %+v", q, p)
		}
	}
	if p := problemOf(t, x.do("GET", api.RouteIndexSessions+"?after=999", nil)); p.Kind != api.KindConflict || !strings.Contains(p.Hint, "--accept-new-log") {
		t.Errorf("beyond the log: %+v", p)
	}
	if n := len(w.events()) - before; n != 0 {
		t.Errorf("%d events for asking", n)
	}
	// A page is bounded, and what follows it comes after it.
	var many []made
	for i := range indexPage + 5 {
		many = append(many, of(audit.KindSessionEnd, fmt.Sprintf("ssh_%03d", i), `{}`))
	}
	w.append(many...)
	if n := len(ask(9)); n != indexPage {
		t.Errorf("a page of %d", n)
	}
	if n := len(ask(9 + indexPage)); n != 5 {
		t.Errorf("after it %d", n)
	}
}

// TestThin: a session of weeks has heads from its beginning to its end, and a line of bounded length.
func TestThin(t *testing.T) {
	var heads []json.RawMessage
	for i := range 7 * indexHeads {
		heads = append(thin(heads), json.RawMessage(fmt.Sprint(i)))
	}
	if n := len(heads); n > indexHeads || n < indexHeads/2 || string(heads[n-1]) != fmt.Sprint(7*indexHeads-1) {
		t.Errorf("%d heads, the last %s", n, heads[n-1])
	}
	if !slices.IsSortedFunc(heads, func(a, b json.RawMessage) int { return len(a) - len(b) }) {
		t.Error("they are out of order")
	}
}

// TestIndexerNames: a join token for an indexer under a bastion's name would replace the bastion.
func TestIndexerNames(t *testing.T) {
	w := newWorld(t)
	for name, want := range map[string]bool{"indexer-1": true, "bastion-1": false, "web-1": false} {
		c := w.config
		c.Indexers = []string{name}
		if err := c.validateNames(); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := w.config
	c.Indexers = []string{"x", "x"}
	if err := c.validateNames(); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("the same name twice: %v", err)
	}
}
