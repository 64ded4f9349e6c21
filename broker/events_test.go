package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

const readPolicies = policies + `
@id("own-events")
permit (principal is User, action == Action::"readEvents", resource is AuditLog) when { resource has owner && resource.owner == principal.id };
@id("own-content")
permit (principal is User, action == Action::"readContent", resource is AuditLog) when { resource has owner && resource.owner == principal.id };
@id("security")
permit (principal in Group::"security", action == Action::"readEvents", resource);
@id("reviewers")
permit (principal in Group::"reviewers", action in [Action::"readEvents", Action::"readContent"], resource);
`

// readWorld is a broker with the policy of readers and a log in which alice and bob did things.
func readWorld(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.setPolicy(readPolicies)
	w.append(
		w.event(audit.KindUserLogin, "alice", "login/1", ""),
		w.event(audit.KindAWSAssume, "alice", "role/prod", "the outage"),
		w.event(audit.KindSessionCommand, "alice", "host/web-1", "").details(`{"channel":0,"type":"exec","command":"rm -rf /srv/alice"}`),
		w.event(audit.KindUserLogin, "bob", "login/2", ""),
		w.event(audit.KindSessionCommand, "bob", "host/web-2", "the outage").details(`{"channel":0,"type":"exec","command":"cat /srv/bob","raw":"Y2F0"}`),
		w.event(audit.KindSFTPRename, "bob", "host/web-2", "").details(`{"path":"/etc/bob","to":"/tmp/bob","bytes":7}`),
		w.event(audit.KindSessionEnd, "bob", "host/web-2", "").details(`{"bytes_in":5}`),
	)
	return w
}

// made is an event on its way into the log.
type made audit.Event

func (w *world) event(kind, who, resource, reason string) made {
	e := audit.New(w.clock.now(), kind, audit.Success)
	e.Actor = audit.Actor{Kind: audit.ActorUser, Iss: issuer, Sub: who, Email: who + "@example.com"}
	e.Resource, e.Reason, e.LoginID, e.SessionID, e.Source, e.Node = resource, reason, "ses_"+who, "ssh_"+who, "192.0.2.1", "node-1"
	return made(e)
}

func (m made) details(text string) made { m.Details = json.RawMessage(text); return m }

func (w *world) append(events ...made) {
	w.t.Helper()
	var all []audit.Event
	for _, e := range events {
		all = append(all, audit.Event(e))
	}
	if _, err := w.db.Append(context.Background(), all, nil); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) setPolicy(text string) {
	w.t.Helper()
	w.mu.Lock()
	w.policy = fstest.MapFS{"p.cedar": {Data: []byte(text)}}
	w.mu.Unlock()
	if err := w.config.Policy.Reload(); err != nil {
		w.t.Fatal(err)
	}
}

// as is a login of somebody with groups.
func (w *world) as(who string, groups ...string) caller {
	return w.login(func(s *state.Session) { s.Subject, s.Email, s.Groups = who, who+"@example.com", groups })
}

func eventsPath(q string, more ...string) string {
	v := url.Values{}
	if q != "" {
		v.Set(api.ParamQuery, q)
	}
	for i := 0; i < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return api.RouteEvents + "?" + v.Encode()
}

// whole reads a stream that must have its last line.
func whole[T any](t testing.TB, rec *httptest.ResponseRecorder) (out []T) {
	t.Helper()
	body, found := strings.CutSuffix(rec.Body.String(), lastLine)
	if rec.Code != 200 || !found {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	for line := range strings.Lines(body) {
		var v T
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, v)
	}
	return out
}

// read is what a search finds, as "index kind sub".
func (p caller) read(q string, more ...string) []string {
	p.w.t.Helper()
	out := []string{}
	for _, e := range whole[api.Event](p.w.t, p.do("GET", eventsPath(q, more...), nil)) {
		v, err := audit.Parse(e.Envelope)
		if err != nil {
			p.w.t.Fatal(err)
		}
		out = append(out, fmt.Sprint(e.Index, " ", v.Kind, " ", v.Actor.Sub))
	}
	return out
}

func TestEvents(t *testing.T) {
	for name, c := range map[string]struct {
		q    string
		more []string
		want []string
	}{
		"one person":      {"user:bob kind:session.*", nil, []string{"4 session.command bob", "6 session.end bob"}},
		"or":              {"kind:aws.assume or resource:login/2", nil, []string{"1 aws.assume alice", "3 user.login bob"}},
		"content":         {`"/srv/"`, nil, []string{"2 session.command alice", "4 session.command bob"}},
		"a path":          {`"/tmp/bob"`, nil, []string{"5 sftp.rename bob"}},
		"after":           {"user:bob", []string{"after", "4"}, []string{"5 sftp.rename bob", "6 session.end bob"}},
		"before":          {"user:bob", []string{"before", "5"}, []string{"3 user.login bob", "4 session.command bob"}},
		"a page":          {"user:bob", []string{"after", "3", "limit", "1"}, []string{"4 session.command bob"}},
		"the newest":      {"user:bob", []string{"newest", "1", "limit", "2"}, []string{"6 session.end bob", "5 sftp.rename bob"}},
		"the newest page": {"user:bob", []string{"newest", "1", "limit", "1", "before", "6"}, []string{"5 sftp.rename bob"}},
		"nothing":         {"user:bob -user:bob", nil, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := readWorld(t)
			if diff := cmp.Diff(c.want, w.as("carol", "reviewers").read(c.q, c.more...)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestOwnEvents: whoever may read no more than what is about him gets no more, however he asks.
func TestOwnEvents(t *testing.T) {
	w := readWorld(t)
	alice := w.as("alice")
	own := []string{"0 user.login alice", "1 aws.assume alice", "2 session.command alice"}
	for _, q := range []string{"", "kind:*", "user:alice", "user:alice@example.com", "user:alice or kind:*", "kind:* or host:web-2", "-kind:nothing", "not user:bob", "-user:alice or kind:*",
		"session:ssh_bob or session:ssh_alice or kind:*", `"/srv/" or "outage" or "login" or kind:*`, "user:alice or -user:alice", "node:node-1", "source:192.*"} {
		got := slices.DeleteFunc(alice.read(q, "intents", "1"), func(s string) bool { return strings.Contains(s, "audit.read alice") })
		if diff := cmp.Diff(own, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", q, diff)
		}
	}
	for _, q := range []string{"session:ssh_bob", "host:web-2", `"/srv/bob"`, "not user:alice", "id:" + w.events()[4].ID, "resource:login/2"} {
		if got := alice.read(q); len(got) > 0 {
			t.Errorf("%s: %q", q, got)
		}
	}
	for _, q := range []string{"user:bob", "user:bob@example.com", "user:b*", "user:*", "user:~ali", "user:alice or user:bob", "(user:alice (user:bob))", `user:""`, "user:Alice"} {
		if p := problemOf(t, alice.do("GET", eventsPath(q), nil)); p.Kind != api.KindDenied || !strings.Contains(p.Detail, `readEvents on audit log "all"`) {
			t.Errorf("%s: %+v", q, p)
		}
		if p := problemOf(t, alice.do("GET", strings.Replace(eventsPath(q), api.RouteEvents, api.RouteCount, 1), nil)); p.Kind != api.KindDenied {
			t.Errorf("count of %s: %+v", q, p)
		}
	}
	// Another issuer's alice is another person.
	other := w.login(func(s *state.Session) { s.Issuer = "https://other.test" })
	if got := other.do("GET", eventsPath("kind:user.login"), nil); got.Code == 200 && strings.Contains(got.Body.String(), "alice") {
		t.Errorf("got %s", got.Body)
	}
	// No policy of one's own events: nothing.
	w.setPolicy(policies)
	if p := problemOf(t, alice.do("GET", eventsPath(""), nil)); p.Kind != api.KindDenied {
		t.Errorf("got %+v", p)
	}
}

// TestContent (R11): without readContent nothing of what was typed comes out, and nothing is found by it.
func TestContent(t *testing.T) {
	w := readWorld(t)
	sam := w.as("sam", "security")
	for _, e := range whole[api.Event](t, sam.do("GET", eventsPath("host:*"), nil)) {
		want := map[int64]string{2: `{"channel":0,"type":"exec","withheld":true}`, 4: `{"channel":0,"type":"exec","withheld":true}`, 5: `{"bytes":7,"withheld":true}`, 6: `{"bytes_in":5}`}[e.Index]
		if string(e.Details) != want {
			t.Errorf("event %d: %s, want %s", e.Index, e.Details, want)
		}
	}
	for q, want := range map[string][]string{
		`"/srv/"`:                                 {},
		`"rm -rf" or "/etc"`:                      {},
		`-"/srv/" kind:session.command`:           {"2 session.command alice", "4 session.command bob"},
		"outage":                                  {"1 aws.assume alice", "4 session.command bob"},
		`reason:~srv or resource:~srv`:            {},
		`kind:session.command (outage or "/srv")`: {"4 session.command bob"},
	} {
		if diff := cmp.Diff(want, sam.read(q)); diff != "" {
			t.Errorf("%s: -want +got\n%s", q, diff)
		}
		groups := whole[query.Group](t, sam.do("GET", strings.Replace(eventsPath(q, "by", "kind"), api.RouteEvents, api.RouteCount, 1), nil))
		n := 0
		for _, g := range groups {
			n += int(g.Count)
		}
		if n != len(want) {
			t.Errorf("%s counts %d", q, n)
		}
	}
	if p := problemOf(t, sam.do("GET", eventsPath("screen:secret"), nil)); p.Kind != api.KindDenied || !strings.Contains(p.Detail, "screens") {
		t.Errorf("got %+v", p)
	}
	// Reviewers read it, and one's own one reads oneself, where policy says so.
	alice, carol := w.as("alice"), w.as("carol", "reviewers")
	for _, p := range []caller{alice, carol} {
		if got := p.do("GET", eventsPath("kind:session.command"), nil).Body.String(); !strings.Contains(got, "rm -rf /srv/alice") || strings.Contains(got, "withheld") {
			t.Errorf("%s: %s", p.session.Subject, got)
		}
	}
	w.setPolicy(strings.Replace(readPolicies, "own-content\")\npermit (principal is User", "own-content\") @require_reason(\"yes\")\npermit (principal is User", 1))
	if got := alice.do("GET", eventsPath("kind:session.command"), nil).Body.String(); strings.Contains(got, "rm -rf") || !strings.Contains(got, "withheld") {
		t.Errorf("content without what its grant asks for: %s", got)
	}
}

// TestReadingIsAudited: what was asked for is in the log, without secrets, before an answer is out.
func TestReadingIsAudited(t *testing.T) {
	w := readWorld(t)
	sam, carol := w.as("sam", "security"), w.as("carol", "reviewers")
	sam.read("user:bob since:1h", "limit", "3", "newest", "1")
	carol.do("GET", api.RouteCount+"?by=user,day&q="+url.QueryEscape(`"password=hunter2"`), nil)
	sam.do("GET", eventsPath("screen:canary"), nil)
	w.as("bob").do("GET", eventsPath("user:alice"), nil)
	want := []string{
		`events/all success sam {"query":"user:bob since:2030-01-02T11:00:00Z","content":false,"newest":true,"limit":3}`,
		`events/all success carol {"query":"\"password=[redacted:password]\"","content":true,"by":["user","day"]}`,
		`events/all denied sam {"error":{"detail":"what screens showed is content, which policy does not let you read","kind":"denied"},"request":{"query":"screen:\"canary\"","content":false}}`,
		`events/all denied bob {"error":{"detail":"no policy permits readEvents on audit log \"all\": it needs group \"reviewers\" (policy \"reviewers\"), or group \"security\" (policy \"security\")","kind":"denied"},"request":{"query":"user:alice","content":false}}`,
	}
	var got []string
	for _, e := range w.events()[7:] {
		if e.Kind != audit.KindAuditRead {
			t.Errorf("there is an event %s", e.Kind)
		}
		got = append(got, fmt.Sprint(e.Resource, " ", e.Outcome, " ", e.Actor.Sub, " ", string(e.Details)))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	w.log.on(func([]audit.Event) error { return errDisk })
	if rec := sam.do("GET", eventsPath(""), nil); rec.Code != 503 || strings.Contains(rec.Body.String(), "idx") {
		t.Errorf("an answer that is not audited: %d %s", rec.Code, rec.Body)
	}
}

func TestCount(t *testing.T) {
	w := readWorld(t)
	carol := w.as("carol", "reviewers")
	for name, c := range map[string]struct {
		q, by string
		want  []query.Group
	}{
		"by user":          {"-kind:audit.read", "user", []query.Group{{Key: []string{"alice@example.com"}, Count: 3}, {Key: []string{"bob@example.com"}, Count: 4}}},
		"by host and user": {"host:*", "host,user", []query.Group{{Key: []string{"web-1", "alice@example.com"}, Count: 1}, {Key: []string{"web-2", "bob@example.com"}, Count: 3}}},
		"by day":           {"kind:user.login", "day", []query.Group{{Key: []string{"2030-01-02"}, Count: 2}}},
		"by content":       {`"/srv/"`, "user", []query.Group{{Key: []string{"alice@example.com"}, Count: 1}, {Key: []string{"bob@example.com"}, Count: 1}}},
		"of nothing":       {"kind:x", "day", nil},
	} {
		t.Run(name, func(t *testing.T) {
			rec := carol.do("GET", api.RouteCount+"?by="+c.by+"&q="+url.QueryEscape(c.q), nil)
			if diff := cmp.Diff(c.want, whole[query.Group](t, rec)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	own := whole[query.Group](t, w.as("alice").do("GET", api.RouteCount+"?by=user", nil))
	if len(own) != 1 || own[0].Key[0] != "alice@example.com" {
		t.Errorf("alice counts %v", own)
	}
	total := whole[query.Group](t, carol.do("GET", api.RouteCount+"?q=kind:user.login", nil))
	if len(total) != 1 || total[0].Count != 2 {
		t.Errorf("in all %v", total)
	}
	w.s.Log = failingLog{Log: w.log, count: fmt.Errorf("count: %w", store.ErrTooManyGroups)}
	if p := problemOf(t, carol.do("GET", api.RouteCount+"?by=user", nil)); p.Kind != api.KindInvalid || !strings.Contains(p.Detail, "100000 groups") || !strings.Contains(p.Hint, "less time") {
		t.Errorf("got %+v", p)
	}
	w.s.Log = failingLog{Log: w.log, count: errDisk}
	if rec := carol.do("GET", api.RouteCount+"?by=user", nil); rec.Code < 500 {
		t.Errorf("a count that failed: %d %s", rec.Code, rec.Body)
	}
}

// failingLog fails in Count, and in Search at an index.
type failingLog struct {
	store.Log
	count  error
	search int64
}

func (l failingLog) Count(context.Context, query.Query, []query.Dimension) ([]query.Group, error) {
	return nil, l.count
}

func (l failingLog) Search(ctx context.Context, q query.Query) iter.Seq2[audit.Row, error] {
	return func(yield func(audit.Row, error) bool) {
		for row, err := range l.Log.Search(ctx, q) {
			if row.Index == l.search {
				row, err = audit.Row{}, errDisk
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

func TestParameters(t *testing.T) {
	w := readWorld(t)
	carol := w.as("carol", "reviewers")
	for path, want := range map[string]string{
		api.RouteEvents + "?user=alice":                 `no parameter \"user\"`,
		api.RouteEvents + "?q=usr:x":                    "query, at character 1: there is no field",
		api.RouteEvents + "?q=a&q=b":                    "q is given 2 times",
		api.RouteEvents + "?after=-2":                   "after is a number",
		api.RouteEvents + "?after=x":                    "after is a number",
		api.RouteEvents + "?before=0":                   "before is a number of 1 or more",
		api.RouteEvents + "?limit=-1":                   "limit is a number",
		api.RouteEvents + "?limit=99999999999999999999": "limit is a number",
		api.RouteEvents + "?newest=yes":                 "newest is 1",
		api.RouteEvents + "?follow=1&newest=1":          "goes on with what comes",
		api.RouteEvents + "?follow=1&limit=5":           "goes on with what comes",
		api.RouteEvents + "?by=user":                    `no parameter \"by\"`,
		api.RouteCount + "?by=shoe":                     `not counted by \"shoe\", but by user, kind, outcome, role, host, day`,
		api.RouteCount + "?by=user,":                    `not counted by \"\"`,
		api.RouteCount + "?by=user,user":                "twice",
		api.RouteCount + "?by=user&limit=1":             `no parameter \"limit\"`,
		api.RouteCount + "?by=user&follow=1":            `no parameter \"follow\"`,
	} {
		rec := carol.do("GET", path, nil)
		if p := problemOf(t, rec); p.Kind != api.KindInvalid || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
}

// FuzzParameters: nothing that is asked for panics, and what is taken is within bounds.
func FuzzParameters(f *testing.F) {
	for _, seed := range []string{"q=user:alice&after=5&limit=2", "newest=1&before=9", "follow=1&after=-1", "by=user,day&q=a", "q=a&q=b", "%zz", "limit=-1", "by=,"} {
		f.Add(seed)
	}
	now := (&clock{}).now()
	f.Fuzz(func(t *testing.T, raw string) {
		v, _ := url.ParseQuery(raw)
		q, follow, err := parseEvents(v, now.AddDate(2029, 0, 0))
		if err == nil && (q.After < -1 || q.Before < 0 || q.Limit < 0 || q.Where == nil || follow && (q.Limit > 0 || q.Newest)) || err != nil && !api.IsKind(err, api.KindInvalid) {
			t.Errorf("%q: %+v, %v", raw, q, err)
		}
		if _, by, err := parseCount(v, now.AddDate(2029, 0, 0)); err == nil && len(by) > len(query.Dimensions()) {
			t.Errorf("%q: by %v", raw, by)
		}
	})
}

// TestWhatWasLookedFor: a search may name the secret that it looks for, so it is content as what it finds is.
func TestWhatWasLookedFor(t *testing.T) {
	w := readWorld(t)
	carol, sam := w.as("carol", "reviewers"), w.as("sam", "security")
	carol.read(`"customer-secret-xyz"`)
	carol.do("GET", api.RouteCount+"?by=user&q=customer-secret-xyz", nil)
	if p := problemOf(t, w.as("dan").do("GET", eventsPath("customer-secret-xyz user:bob"), nil)); p.Kind != api.KindDenied {
		t.Errorf("got %+v", p)
	}
	for want, who := range map[int]caller{3: carol, 0: sam} {
		body := who.do("GET", eventsPath("kind:audit.read"), nil).Body.String()
		if got := strings.Count(body, "customer-secret-xyz"); got != want {
			t.Errorf("%s sees it %d times, want %d: %s", who.session.Subject, got, want, body)
		}
		if want == 0 && strings.Count(body, `"withheld":true`) < 3 {
			t.Errorf("nothing says that it is withheld: %s", body)
		}
	}
	last := fmt.Sprint(len(w.events()) - 3)
	if proof := sam.do("GET", strings.Replace(api.RouteProof, "{id}", last, 1), nil); proof.Code != 200 || strings.Contains(proof.Body.String(), "customer-secret") {
		t.Errorf("proof: %d %s", proof.Code, proof.Body)
	}
}
