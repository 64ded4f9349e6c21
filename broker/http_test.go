package broker

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/policy"
	"sega/broker/state"
)

var requestID = regexp.MustCompile(`^req_[a-z0-9]{20}$`)

// TestEveryAnswer: what every answer carries, granted or not, known endpoint or not.
func TestEveryAnswer(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	for name, c := range map[string]struct {
		request *http.Request
		status  int
	}{
		"granted":             {alice.request("GET", api.RouteSession, nil), 200},
		"open to all":         {httptest.NewRequest("GET", api.RouteConfiguration, nil), 200},
		"a stream":            {httptest.NewRequest("GET", api.RouteCheckpoint, nil), 200},
		"no proof":            {httptest.NewRequest("GET", api.RouteSession, nil), 401},
		"denied":              {alice.request("POST", api.RouteCredentials, api.CredentialsRequest{Role: "other"}), 403},
		"malformed":           {alice.request("POST", api.RouteCredentials, "{"), 400},
		"no such endpoint":    {alice.request("GET", "/v1/nothing", nil), 404},
		"other method":        {alice.request("GET", api.RouteCredentials, nil), 405},
		"above the root":      {alice.request("GET", "/../v1/session", nil), 404},
		"two slashes":         {alice.request("GET", "/v1//session", nil), 404},
		"for a machine alone": {alice.request("GET", api.RouteFeed+"?after=-1", nil), 403},
		"no such parameter":   {alice.request("GET", api.RouteEvents+"?since=yesterday", nil), 400},
	} {
		t.Run(name, func(t *testing.T) {
			rec := w.serve(c.request)
			h := rec.Header()
			if rec.Code != c.status {
				t.Errorf("%d: %s", rec.Code, rec.Body)
			}
			if h.Get("Cache-Control") != "no-store" || !requestID.MatchString(h.Get(api.HeaderRequestID)) || !w.s.nonces.Valid(h.Get(api.HeaderNonce)) {
				t.Errorf("headers %v", h)
			}
			note, err := base64.StdEncoding.DecodeString(h.Get(api.HeaderCheckpoint))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := audit.OpenCheckpoint(note, w.logKey.Verifier()); err != nil {
				t.Errorf("checkpoint: %v", err)
			}
			if rec.Code >= 400 {
				checkProblem(t, rec)
			}
		})
	}
}

// checkProblem holds an answer against RFC 9457 and the closed set of kinds.
func checkProblem(t *testing.T, rec *httptest.ResponseRecorder) {
	t.Helper()
	p := problemOf(t, rec)
	if got := rec.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q", got)
	}
	if p.Type != "urn:sega:error:"+string(p.Kind) || p.Title == "" || p.Status != rec.Code || p.Kind.Status() != rec.Code || p.Detail == "" || p.RequestID != rec.Header().Get(api.HeaderRequestID) {
		t.Errorf("problem %+v", p)
	}
	if challenge := rec.Header().Get("WWW-Authenticate"); (challenge != "") != (rec.Code == 401) {
		t.Errorf("%d with WWW-Authenticate %q", rec.Code, challenge)
	}
}

func TestNonceChallenge(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	r := alice.request("GET", api.RouteSession, nil)
	proof, err := alice.key.Proof("GET", origin+api.RouteSession, alice.token, "")
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(api.HeaderProof, proof)
	rec := w.serve(r)
	if p := problemOf(t, rec); p.Kind != api.KindNonce || rec.Header().Get("WWW-Authenticate") != `DPoP error="use_dpop_nonce", algs="ES256"` {
		t.Errorf("%s, %v", p.Kind, rec.Header())
	}
	if len(w.events()) != 0 {
		t.Error("asking for a nonce is no event")
	}
	proof, _ = alice.key.Proof("GET", origin+api.RouteSession, alice.token, rec.Header().Get(api.HeaderNonce))
	r.Header.Set(api.HeaderProof, proof)
	if rec := w.serve(r); rec.Code != 200 {
		t.Errorf("%d: %s", rec.Code, rec.Body)
	}
	if p := problemOf(t, w.serve(r)); p.Kind != api.KindUnauthenticated {
		t.Errorf("the proof was taken twice: %s", p.Kind)
	}
}

// TestDecodeIsStrict: a body that is not exactly what the endpoint takes makes nothing happen.
func TestDecodeIsStrict(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	for name, body := range map[string]string{
		"empty": "", "not JSON": "role=dev-admin", "cut off": `{"role":"dev-admin"`, "another type": `{"role":7}`, "an array": `[]`,
		"unknown field": `{"role":"dev-admin","admin":true}`, "trailing data": `{"role":"dev-admin"} {"role":"other"}`, "trailing junk": `{"role":"dev-admin"}]`,
		"oversized": `{"role":"dev-admin","reason":"` + strings.Repeat("x", bodyLimit) + `"}`, "oversized tail": `{"role":"dev-admin"}` + strings.Repeat(" ", bodyLimit),
	} {
		t.Run(name, func(t *testing.T) {
			rec := alice.do("POST", api.RouteCredentials, body)
			if p := problemOf(t, rec); p.Kind != api.KindInvalid || len(p.Detail) > 100 {
				t.Errorf("%d: %.200s", rec.Code, rec.Body)
			}
		})
	}
	if w.minter.calls() != 0 || len(w.events()) != 0 {
		t.Errorf("%d calls, events %v", w.minter.calls(), w.trail())
	}
	if rec := alice.do("POST", api.RouteCredentials, " {\"role\":\"dev-admin\"}\n"); rec.Code != 200 {
		t.Errorf("white space: %d", rec.Code)
	}
}

// TestCauseStaysInside: what failed goes to the broker's log under the request ID, never to the client.
func TestCauseStaysInside(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	rec := alice.do("POST", api.RouteCertificate, api.CertificateRequest{PublicKey: "canary-key"})
	if rec.Code != 400 || strings.Contains(rec.Body.String(), "canary") {
		t.Errorf("%d: %s", rec.Code, rec.Body)
	}
	var line map[string]any
	if err := json.Unmarshal(w.logs.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, w.logs)
	}
	if line["request"] != rec.Header().Get(api.HeaderRequestID) || line["cause"] == "<nil>" || line["kind"] != "invalid" {
		t.Errorf("logged %v", line)
	}
	if strings.Contains(w.logs.String(), string(alice.token.Reveal())) {
		t.Error("the token is in the log")
	}
}

func TestJudgeSession(t *testing.T) {
	w := newWorld(t)
	now := w.clock.now()
	with := func(f func(*state.Session)) state.Session {
		s := state.Session{Kind: state.KindLogin, Expires: now.Add(time.Hour), NotAfter: now.Add(2 * time.Hour)}
		f(&s)
		return s
	}
	ended := func(why string) state.Session {
		return with(func(s *state.Session) { s.Ended, s.EndedWhy = now, why })
	}
	asMachine := func(s *state.Session) { s.Kind = state.KindMachine }
	for name, c := range map[string]struct {
		session state.Session
		auth    authKind
		want    api.Kind
	}{
		"live":                     {with(func(*state.Session) {}), authSession, ""},
		"at its last moment":       {with(func(s *state.Session) { s.Expires, s.NotAfter = now, now }), authSession, ""},
		"expired":                  {with(func(s *state.Session) { s.Expires = now.Add(-1) }), authSession, api.KindUnauthenticated},
		"expired, to renew":        {with(func(s *state.Session) { s.Expires = now.Add(-1) }), authRenew, ""},
		"over":                     {with(func(s *state.Session) { s.NotAfter = now.Add(-1) }), authSession, api.KindUnauthenticated},
		"over, to renew":           {with(func(s *state.Session) { s.NotAfter = now.Add(-1) }), authRenew, api.KindUnauthenticated},
		"revoked":                  {ended(state.EndedRevoked), authSession, api.KindRevoked},
		"revoked, to renew":        {ended(state.EndedRevoked), authRenew, api.KindRevoked},
		"revoked and expired":      {with(func(s *state.Session) { s.Ended, s.EndedWhy, s.Expires = now, state.EndedRevoked, now.Add(-1) }), authSession, api.KindRevoked},
		"logged out":               {ended(state.EndedLogout), authSession, api.KindUnauthenticated},
		"logged out, to renew":     {ended(state.EndedLogout), authRenew, api.KindUnauthenticated},
		"replaced":                 {with(func(s *state.Session) { asMachine(s); s.Ended, s.EndedWhy = now, state.EndedReplaced }), authBastion, api.KindUnauthenticated},
		"recovered":                {ended(state.EndedRecovery), authSession, api.KindUnauthenticated},
		"a machine for itself":     {with(asMachine), authBastion, ""},
		"a machine for a person":   {with(asMachine), authSession, api.KindDenied},
		"a machine to renew":       {with(asMachine), authRenew, api.KindDenied},
		"a person for a machine":   {with(func(*state.Session) {}), authBastion, api.KindDenied},
		"an expired machine":       {with(func(s *state.Session) { asMachine(s); s.Expires = now.Add(-1) }), authBastion, api.KindUnauthenticated},
		"another kind for persons": {with(func(s *state.Session) { s.Kind = "" }), authSession, api.KindDenied},
	} {
		t.Run(name, func(t *testing.T) {
			var got api.Kind
			if p := w.s.judgeSession(c.session, c.auth); p != nil {
				got = p.Kind
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestRequestIsOfTheSession: what policy is asked comes from the session, whatever else is given.
func TestRequestIsOfTheSession(t *testing.T) {
	w := newWorld(t)
	now := w.clock.now()
	s := state.Session{Kind: state.KindLogin, Issuer: issuer, Subject: "alice", Email: "a@example.com", Groups: []string{"g"}, Method: "paste", AuthTime: now.Add(-time.Minute)}
	got := w.s.request(s, policy.ActionAssume, policy.Resource{Type: policy.TypeRole, ID: "r"},
		policy.Context{MFA: true, Method: "browser", AuthAge: 1, Reason: "x", Now: now.Add(time.Hour)})
	want := &policy.Request{Principal: policy.Principal{Issuer: issuer, Subject: "alice", Email: "a@example.com", Groups: []string{"g"}, Kind: policy.KindUser},
		Action: policy.ActionAssume, Resource: policy.Resource{Type: policy.TypeRole, ID: "r"},
		Context: policy.Context{MFA: false, Method: "paste", AuthAge: time.Minute, Reason: "x", Now: now}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestMetrics(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	alice.assume("dev-admin")
	alice.assume("other")
	w.s.hub.join("mch_1", "bastion-1", -1)
	rec := w.serve(httptest.NewRequest("GET", api.RouteMetrics, nil))
	body, _ := io.ReadAll(rec.Body)
	lines := strings.Split(string(body), "\n")
	for _, want := range []string{
		`sega_requests_total{route="/v1/aws/credentials",status="200"} 1`, `sega_requests_total{route="/v1/aws/credentials",status="403"} 1`,
		`sega_request_seconds_count{route="/v1/aws/credentials"} 2`, "sega_log_size 3", "sega_feeds 1", "sega_ready 1",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %s", want)
		}
	}
	if strings.Contains(string(body), "alice") {
		t.Error("a person's name is a label")
	}
}

// TestUnknownRoutesMakeNoLabels: strangers cannot fill the metrics, nor the log, with paths of their own.
func TestUnknownRoutesMakeNoLabels(t *testing.T) {
	w := newWorld(t)
	w.serve(httptest.NewRequest("GET", "/canary-path", nil))
	if rec := w.serve(httptest.NewRequest("GET", api.RouteMetrics, nil)); strings.Contains(rec.Body.String(), "canary") {
		t.Error("a stranger's path is a label")
	}
	if len(w.events()) != 0 {
		t.Errorf("events %v", w.trail())
	}
}

// TestReadiness (R8): a bad reload keeps the last good set, fails /readyz and is an event.
func TestReadiness(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	ready := func() (int, string) {
		rec := w.serve(httptest.NewRequest("GET", api.RouteReady, nil))
		return rec.Code, rec.Body.String()
	}
	reload := func(text string) error {
		w.mu.Lock()
		w.policy["p.cedar"].Data = []byte(text)
		w.mu.Unlock()
		return w.s.Reload(t.Context())
	}
	if code, body := ready(); code != 200 {
		t.Fatal(body)
	}
	good := w.s.Policy.Set().Digest()
	if err := reload("permit (principal, action"); err == nil {
		t.Error("a broken policy was loaded")
	}
	if code, body := ready(); code != 503 || !strings.Contains(body, "p.cedar") {
		t.Errorf("%d: %s", code, body)
	}
	if rec := alice.assume("dev-admin"); rec.Code != 200 {
		t.Errorf("the last good set is gone: %s", rec.Body)
	}
	if err := reload(`@id("none") forbid (principal, action, resource);`); err != nil {
		t.Error(err)
	}
	if code, _ := ready(); code != 200 {
		t.Errorf("ready answers %d", code)
	}
	if rec := alice.assume("dev-admin"); rec.Code != 403 {
		t.Errorf("the new set is not in force: %d", rec.Code)
	}
	want := []string{"policy.reload failure", "aws.assume intent", "aws.assume success", "policy.reload success", "aws.assume denied"}
	if diff := cmp.Diff(want, w.trail()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	failed, done := w.events()[0], w.events()[3]
	if failed.PolicyDigest != good || !strings.Contains(string(failed.Details), "p.cedar") || done.PolicyDigest == good || done.Actor.Kind != "system" {
		t.Errorf("events %+v, %+v", failed, done)
	}
	w.s.Drain()
	w.s.Drain()
	if code, body := ready(); code != 503 || !strings.Contains(body, "shutting down") {
		t.Errorf("%d: %s", code, body)
	}
}

// TestNoPolicyAtStart (I5): a broker whose policy never loaded denies everything and says so.
func TestNoPolicyAtStart(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Policy = policy.NewEngine(func() (*policy.Set, error) { return nil, io.ErrUnexpectedEOF })
	})
	rec := w.login().assume("dev-admin")
	if p := problemOf(t, rec); p.Kind != api.KindUnavailable || w.minter.calls() != 0 {
		t.Errorf("%d: %s", rec.Code, rec.Body)
	}
	if diff := cmp.Diff([]string{"aws.assume failure"}, w.trail()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestTokenUnderAnotherKey: a stolen token alone is useless, and its theft is in the log.
func TestTokenUnderAnotherKey(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	thief := alice
	thief.key, _ = dpop.GenerateKey()
	if p := problemOf(t, thief.do("GET", api.RouteSession, nil)); p.Kind != api.KindUnauthenticated {
		t.Errorf("got %s", p.Kind)
	}
	if diff := cmp.Diff([]string{"request.refuse denied"}, w.trail()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if e := w.events()[0]; e.Actor.Kind != "anonymous" || e.LoginID != alice.session.ID || !strings.Contains(string(e.Details), thief.key.Thumbprint()) {
		t.Errorf("event %+v, %s", e, e.Details)
	}
}

// TestMethods: an endpoint says which methods it has, and a head is asked for only of what is for everybody.
func TestMethods(t *testing.T) {
	w, shelf, carol := reviewed(t)
	shelf.add(watched, "ciphertext")
	before := len(w.events())
	for _, c := range []struct {
		method, path string
		code         int
		allow        string
	}{
		{"POST", api.RouteCheckpoint, 405, "GET"}, {"DELETE", api.RouteCredentials, 405, "POST"}, {"PUT", recordingPath("purpose=verify"), 405, "GET"},
		{"HEAD", recordingPath("purpose=play&reason=x"), 405, "GET"}, {"HEAD", api.RouteEvents, 405, "GET"}, {"HEAD", api.RouteFeed + "?after=-1", 405, "GET"},
		{"HEAD", api.RouteCredentials, 405, "POST"}, {"HEAD", api.RouteCheckpoint, 200, ""}, {"HEAD", api.RouteConfiguration, 200, ""},
	} {
		rec := carol.do(c.method, c.path, nil)
		if rec.Code != c.code || rec.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q", c.method, c.path, rec.Code, rec.Header().Get("Allow"))
		}
	}
	if n := len(w.events()) - before; n != 0 {
		t.Errorf("%d events of requests that were not taken", n)
	}
}

// TestNowhereIsLimited: what no endpoint answers is counted with the rest of an address.
func TestNowhereIsLimited(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits = DefaultLimits(); c.Limits.AddressBurst = 3 })
	for i, path := range []string{"/nothing", "/v1//session", "/../x", "/nothing", "/v1//session", "/../x"} {
		want := 404
		if i >= 3 {
			want = 429
		}
		if rec := w.serve(httptest.NewRequest("GET", path, nil)); rec.Code != want || rec.Header().Get("Location") != "" {
			t.Errorf("%d %s: %d", i, path, rec.Code)
		}
	}
	if rec := w.serve(httptest.NewRequest("GET", api.RouteMetrics, nil)); !strings.Contains(rec.Body.String(), `sega_requests_total{route="/",status="404"} 3`) {
		t.Error("they are not measured")
	}
}
