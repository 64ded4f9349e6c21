package client

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/keychain/secret"
)

const (
	tokenCanary = "sega_ses_CANARY-token-7d21"
	bodyCanary  = "CANARY-body-93fa"
)

var testNote = []byte("sega.example/log\n3\nabc\n\n— sig\n")

// seen is a request as the broker saw it.
type seen struct {
	Method, Path, Query string
	Proof, Token        bool
	Body                string
}

// broker is a TLS server that checks proofs as the real one does and answers what a test says.
type broker struct {
	*httptest.Server
	nonces *dpop.Nonces
	replay *dpop.Replay

	mu   sync.Mutex
	seen []seen
	jtis map[string]bool

	// answer writes the answer to a request whose proof is good.
	answer http.HandlerFunc
}

func newBroker(t *testing.T, answer http.HandlerFunc) *broker {
	t.Helper()
	return startBroker(t, true, answer)
}

func startBroker(t *testing.T, http2 bool, answer http.HandlerFunc) *broker {
	t.Helper()
	b := &broker{answer: answer, jtis: map[string]bool{}}
	var err error
	if b.nonces, err = dpop.NewNonces(nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	if b.replay, err = dpop.NewReplay(0, b.nonces.Lifetime(), nil); err != nil {
		t.Fatal(err)
	}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(b.serve))
	b.EnableHTTP2 = http2
	b.Config.ErrorLog = log.New(io.Discard, "", 0)
	b.StartTLS()
	t.Cleanup(b.Server.Close)
	return b
}

func (b *broker) serve(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s := seen{Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Proof: r.Header.Get("DPoP") != "", Token: r.Header.Get("Authorization") != "", Body: string(data)}
	w.Header().Set(api.HeaderNonce, b.nonces.Issue())
	w.Header().Set(api.HeaderCheckpoint, base64.StdEncoding.EncodeToString(testNote))
	w.Header().Set(api.HeaderRequestID, "req-1")
	if s.Proof {
		if err := b.check(r, s); err != nil {
			kind := api.KindUnauthenticated
			if errors.Is(err, dpop.ErrNonce) {
				kind = api.KindNonce
			}
			writeProblem(w, api.Errorf(kind, "%v", err))
			return
		}
	}
	b.mu.Lock()
	b.seen = append(b.seen, s)
	b.mu.Unlock()
	b.answer(w, r)
}

func (b *broker) check(r *http.Request, s seen) error {
	p, err := dpop.Parse(r.Header.Get("DPoP"))
	if err != nil {
		return err
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "DPoP ")
	b.mu.Lock()
	again := b.jtis[p.JTI]
	b.jtis[p.JTI] = true
	b.mu.Unlock()
	if again {
		return errors.New("a jti came twice")
	}
	return dpop.Check(p, dpop.Want{Method: r.Method, HTU: b.URL + s.Path, ATH: dpop.ATH(secret.FromString(token))}, b.nonces, b.replay)
}

func (b *broker) requests() []seen {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]seen(nil), b.seen...)
}

func writeProblem(w http.ResponseWriter, p *api.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

func writeJSON(w http.ResponseWriter, v any) {
	if r, ok := v.(api.Revealer); ok {
		v = r.Wire()
	}
	w.Header().Set("Content-Type", typeJSON)
	_ = json.NewEncoder(w).Encode(v)
}

// answers makes a handler that gives v.
func answers(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, v) }
}

func (b *broker) config(t *testing.T) Config {
	t.Helper()
	k, err := dpop.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(b.Certificate())
	return Config{Origin: b.URL, RootCAs: pool, Key: k, UserAgent: "sega/test",
		Token: func() secret.Secret { return secret.FromString(tokenCanary) }, Timeout: 10 * time.Second}
}

func (b *broker) client(t *testing.T, change func(*Config)) *Client {
	t.Helper()
	cfg := b.config(t)
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestNewRefuses(t *testing.T) {
	for name, origin := range map[string]string{
		"empty": "", "http": "http://sega.example", "no scheme": "sega.example", "path": "https://sega.example/x",
		"query": "https://sega.example?a", "fragment": "https://sega.example#a", "user": "https://u:p@sega.example",
		"no host": "https://", "port alone": "https://:443", "opaque": "https:sega.example", "control": "https://a\x00b",
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := New(Config{Origin: origin}); err == nil {
				t.Errorf("took %q as %q", origin, c.Origin())
			}
		})
	}
	c, err := New(Config{Origin: "https://SEGA.example:8443/"})
	if err != nil || c.Origin() != "https://sega.example:8443" {
		t.Errorf("%v, %v", c, err)
	}
	if _, err := New(Config{Origin: "https://sega.example", Timeout: -1}); err == nil {
		t.Error("took a negative timeout")
	}
}

// collect reads a sequence to its end.
func collect[T any](seq func(func(T, error) bool)) (items []T, err error) {
	for item, e := range seq {
		if e != nil {
			return items, e
		}
		items = append(items, item)
	}
	return items, nil
}

func TestEveryRoute(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	sec := secret.FromString(bodyCanary)
	ses := api.Session{Token: sec, LoginID: "ses_1", Expires: now}
	creds := api.Credentials{AccessKeyID: "ASIA1", SecretAccessKey: sec, SessionToken: sec, Role: "admin"}
	machine := api.MachineSession{Token: sec, SessionID: "ses_2"}
	ctx := context.Background()
	text := func(v any) any { // a Secret compares by what it holds
		if r, ok := v.(api.Revealer); ok {
			v = r.Wire()
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(j)
	}
	for name, tc := range map[string]struct {
		answer any
		call   func(*Client) (any, error)
		want   seen
	}{
		"configuration": {api.Configuration{Issuer: "i"}, func(c *Client) (any, error) { return c.Configuration(ctx) }, seen{Method: "GET", Path: "/.well-known/sega-configuration"}},
		"login": {ses, func(c *Client) (any, error) {
			return c.Login(ctx, api.LoginRequest{IDToken: sec, Random: "r", Method: "browser", Client: "x"})
		}, seen{Method: "POST", Path: "/v1/login", Proof: true, Body: `{"access_token":"","client":"x","id_token":"` + bodyCanary + `","method":"browser","random":"r"}`}},
		"device":      {api.DeviceStart{Handle: "h"}, func(c *Client) (any, error) { return c.DeviceStart(ctx) }, seen{Method: "POST", Path: "/v1/login/device", Proof: true, Body: "{}"}},
		"device poll": {ses, func(c *Client) (any, error) { return c.DevicePoll(ctx, api.DevicePoll{Handle: "h"}) }, seen{Method: "POST", Path: "/v1/login/device/poll", Proof: true, Body: `{"handle":"h","client":""}`}},
		"renew": {ses, func(c *Client) (any, error) { return c.Renew(ctx, api.RenewRequest{IDToken: sec}) },
			seen{Method: "POST", Path: "/v1/session/renew", Proof: true, Token: true, Body: `{"access_token":"","id_token":"` + bodyCanary + `"}`}},
		"status": {api.Status{LoginID: "ses_1"}, func(c *Client) (any, error) { return c.Status(ctx) }, seen{Method: "GET", Path: "/v1/session", Proof: true, Token: true}},
		"logout": {api.Empty{}, func(c *Client) (any, error) { return api.Empty{}, c.Logout(ctx) }, seen{Method: "POST", Path: "/v1/logout", Proof: true, Token: true, Body: "{}"}},
		"roles":  {api.Roles{Roles: []api.Role{{Name: "a"}}}, func(c *Client) (any, error) { return c.Roles(ctx) }, seen{Method: "GET", Path: "/v1/roles", Proof: true, Token: true}},
		"credentials": {creds, func(c *Client) (any, error) { return c.Credentials(ctx, api.CredentialsRequest{Role: "admin"}) },
			seen{Method: "POST", Path: "/v1/aws/credentials", Proof: true, Token: true, Body: `{"role":"admin"}`}},
		"reuse": {api.Empty{}, func(c *Client) (any, error) { return api.Empty{}, c.Reuse(ctx, api.ReuseRequest{Role: "r"}) },
			seen{Method: "POST", Path: "/v1/aws/reuse", Proof: true, Token: true, Body: `{"role":"r","access_key_id":""}`}},
		"hosts": {api.Hosts{Hosts: []api.Host{{Name: "h"}}}, func(c *Client) (any, error) { return c.Hosts(ctx) }, seen{Method: "GET", Path: "/v1/hosts", Proof: true, Token: true}},
		"certificate": {api.Certificate{Serial: 1 << 63}, func(c *Client) (any, error) {
			return c.Certificate(ctx, api.CertificateRequest{PublicKey: "k"})
		}, seen{Method: "POST", Path: "/v1/ssh/certificate", Proof: true, Token: true, Body: `{"public_key":"k"}`}},
		"sessions": {api.Sessions{Sessions: []api.SessionInfo{{ID: "ssh_1"}}}, func(c *Client) (any, error) { return c.Sessions(ctx) }, seen{Method: "GET", Path: "/v1/sessions", Proof: true, Token: true}},
		"revoke": {api.Receipt{Index: 4}, func(c *Client) (any, error) { return c.Revoke(ctx, api.RevokeRequest{Subject: "user"}) },
			seen{Method: "POST", Path: "/v1/revoke", Proof: true, Token: true, Body: `{"subject":"user","id":"","reason":""}`}},
		"unblock": {api.Empty{}, func(c *Client) (any, error) { return api.Empty{}, c.Unblock(ctx, api.UnblockRequest{ID: "u"}) },
			seen{Method: "POST", Path: "/v1/unblock", Proof: true, Token: true, Body: `{"id":"u","reason":""}`}},
		"consistency": {api.Consistency{From: 3, To: 9, Proof: [][]byte{{1}}}, func(c *Client) (any, error) { return c.Consistency(ctx, 3, 9) },
			seen{Method: "GET", Path: "/v1/audit/consistency", Query: "from=3&to=9", Proof: true, Token: true}},
		"enroll": {api.Machine{ID: "mch_1"}, func(c *Client) (any, error) { return c.Enroll(ctx, api.EnrollRequest{Token: sec, Name: "b"}) },
			seen{Method: "POST", Path: "/v1/machines/enroll", Proof: true, Body: `{"kind":"","name":"b","token":"` + bodyCanary + `"}`}},
		"machine": {machine, func(c *Client) (any, error) { return c.MachineSession(ctx) }, seen{Method: "POST", Path: "/v1/machines/session", Proof: true, Body: "{}"}},
		"ack":     {api.Empty{}, func(c *Client) (any, error) { return api.Empty{}, c.Ack(ctx, api.Ack{Index: 4}) }, seen{Method: "POST", Path: "/v1/bastion/ack", Proof: true, Token: true, Body: `{"index":4,"closed":0}`}},
		"hop":     {api.Hop{SessionID: "ssh_1"}, func(c *Client) (any, error) { return c.Hop(ctx, api.HopRequest{AccessSerial: 7}) }, seen{Method: "POST", Path: "/v1/bastion/hop", Proof: true, Token: true, Body: `{"access_serial":"7","access_key":"","host":"","login":"","source":"","hop_key":"","route":""}`}},
		"front":   {api.Certificate{Serial: 2}, func(c *Client) (any, error) { return c.Front(ctx, api.FrontRequest{PublicKey: "k"}) }, seen{Method: "POST", Path: "/v1/bastion/front", Proof: true, Token: true, Body: `{"public_key":"k"}`}},
		"report": {api.Empty{}, func(c *Client) (any, error) { return api.Empty{}, c.Report(ctx, []api.Report{{ID: "1", Time: now}}) },
			seen{Method: "POST", Path: "/v1/bastion/events", Proof: true, Token: true, Body: `[{"id":"1","time":"2026-01-02T03:04:05Z","kind":"","outcome":"","session_id":""}]`}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t, answers(tc.answer))
			notes := 0
			c := b.client(t, func(cfg *Config) {
				cfg.OnCheckpoint = func(note []byte) error {
					if string(note) != string(testNote) {
						return fmt.Errorf("note %q", note)
					}
					notes++
					return nil
				}
			})
			got, err := tc.call(c)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(text(tc.answer), text(got)); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff([]seen{tc.want}, b.requests()); d != "" {
				t.Error(d)
			}
			if notes == 0 {
				t.Error("the checkpoint was not handed on")
			}
		})
	}
}

func TestNonceIsLearntAndKept(t *testing.T) {
	b := newBroker(t, answers(api.Roles{}))
	c := b.client(t, nil)
	for range 3 {
		if _, err := c.Roles(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.jtis) != 4 { // one refused, then three
		t.Errorf("%d proofs were sent, want 4", len(b.jtis))
	}
}

func TestNonceIsTriedOnce(t *testing.T) {
	calls := 0
	b := newBroker(t, func(w http.ResponseWriter, _ *http.Request) {
		calls++
		writeProblem(w, api.Errorf(api.KindNonce, "again"))
	})
	c := b.client(t, nil)
	// The first answer of serve is a refusal for want of a nonce, the second comes from answer.
	if _, err := c.Roles(context.Background()); !api.IsKind(err, api.KindNonce) {
		t.Errorf("got %v", err)
	}
	if calls != 1 {
		t.Errorf("asked %d times with a nonce, want 1", calls)
	}
}

func TestWithoutSession(t *testing.T) {
	b := newBroker(t, answers(api.Roles{}))
	for name, change := range map[string]func(*Config){
		"no source of tokens": func(c *Config) { c.Token = nil },
		"empty token":         func(c *Config) { c.Token = func() secret.Secret { return secret.Secret{} } },
		"no key":              func(c *Config) { c.Key = dpop.Key{} },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.client(t, change).Roles(context.Background())
			if p := api.AsProblem(err); p.Kind != api.KindUnauthenticated || !strings.Contains(p.Hint, "sega login") {
				t.Errorf("%+v", p)
			}
		})
	}
	if len(b.requests()) != 0 {
		t.Error("something was sent")
	}
}

func TestCheckpointFailsTheCall(t *testing.T) {
	forked := errors.New("the log has forked")
	creds := api.Credentials{AccessKeyID: "A", SecretAccessKey: secret.FromString("s"), SessionToken: secret.FromString("t")}
	for name, tc := range map[string]struct {
		header string // replaces the broker's; "-" removes it
		answer http.HandlerFunc
		is     error
	}{
		"refused":            {"", answers(creds), forked},
		"missing":            {"-", answers(creds), nil},
		"not base64":         {"%%%", answers(creds), nil},
		"refused at refusal": {"", func(w http.ResponseWriter, _ *http.Request) { writeProblem(w, api.Errorf(api.KindDenied, "no")) }, forked},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t, func(w http.ResponseWriter, r *http.Request) {
				switch tc.header {
				case "":
				case "-":
					w.Header().Del(api.HeaderCheckpoint)
				default:
					w.Header().Set(api.HeaderCheckpoint, tc.header)
				}
				tc.answer(w, r)
			})
			calls := 0
			c := b.client(t, func(cfg *Config) {
				cfg.OnCheckpoint = func([]byte) error {
					if calls++; calls == 1 { // that of the nonce's refusal
						return nil
					}
					return forked
				}
			})
			got, err := c.Credentials(context.Background(), api.CredentialsRequest{Role: "r"})
			if !api.IsKind(err, api.KindInternal) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Fatalf("got %v", err)
			}
			if got.AccessKeyID != "" || !got.SecretAccessKey.Empty() {
				t.Error("credentials came with the error")
			}
		})
	}
}

func TestSecretsThatWereNotRevealed(t *testing.T) {
	ctx := context.Background()
	plain := func(v any) http.HandlerFunc { // marshalled without Wire
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", typeJSON)
			_ = json.NewEncoder(w).Encode(v)
		}
	}
	for name, tc := range map[string]struct {
		answer any
		call   func(*Client) error
	}{
		"session":       {struct{ Token secret.Secret }{secret.FromString("x")}, func(c *Client) error { _, err := c.Login(ctx, api.LoginRequest{}); return err }},
		"empty session": {api.Empty{}, func(c *Client) error { _, err := c.Renew(ctx, api.RenewRequest{}); return err }},
		"machine":       {api.Empty{}, func(c *Client) error { _, err := c.MachineSession(ctx); return err }},
		"credentials":   {api.Empty{}, func(c *Client) error { _, err := c.Credentials(ctx, api.CredentialsRequest{}); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			c := newBroker(t, plain(tc.answer)).client(t, nil)
			if err := tc.call(c); !api.IsKind(err, api.KindInternal) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestQueriesOfReview(t *testing.T) {
	b := newBroker(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case api.RouteCheckpoint:
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = w.Write(testNote)
		case api.RouteEvents:
			w.Header().Set("Content-Type", typeNDJSON)
			_, _ = io.WriteString(w, `{"idx":1,"event":{"v":1}}`+"\n"+`{"idx":5,"event":{"v":1},"details":{}}`+"\n"+endLine+"\n")
		default:
			w.Header().Set("Content-Type", typeBytes)
			_, _ = io.WriteString(w, "bytes of "+r.PathValue("id")+r.URL.Path)
		}
	})
	c := b.client(t, nil)
	ctx := context.Background()
	if note, err := c.Checkpoint(ctx); err != nil || string(note) != string(testNote) {
		t.Errorf("%q, %v", note, err)
	}
	events, err := collect(c.Events(ctx, url.Values{api.ParamUser: {"a b*"}}))
	want := []api.Event{{Index: 1, Envelope: json.RawMessage(`{"v":1}`)}, {Index: 5, Envelope: json.RawMessage(`{"v":1}`), Details: json.RawMessage(`{}`)}}
	if d := cmp.Diff(want, events); err != nil || d != "" {
		t.Error(err, d)
	}
	for range c.Events(ctx, nil) { // leaving early is no error and leaks nothing
		break
	}
	rec, err := c.Recording(ctx, "ssh_a/../b", "play", "INC 1")
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(rec)
	if err := errors.Join(err, rec.Close()); err != nil || !strings.HasPrefix(string(data), "bytes of") {
		t.Errorf("%q, %v", data, err)
	}
	last := b.requests()[len(b.requests())-1]
	if d := cmp.Diff(seen{Method: "GET", Path: "/v1/recordings/ssh_a%2F..%2Fb", Query: "purpose=play&reason=INC+1", Proof: true, Token: true}, last); d != "" {
		t.Error(d)
	}
	if _, err := c.Recording(ctx, "..", "play", ""); !api.IsKind(err, api.KindInvalid) {
		t.Errorf("got %v", err)
	}
}
