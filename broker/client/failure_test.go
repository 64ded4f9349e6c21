package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
	"sega/keychain/secret"
)

func TestProblems(t *testing.T) {
	body := func(status int, contentType, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	const problem = "application/problem+json"
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   api.Problem
	}{
		"denied": {body(403, problem, `{"kind":"denied","detail":"no","hint":"ask","policy_ids":["p1"],"request_id":"r9"}`),
			api.Problem{Kind: api.KindDenied, Status: 403, Detail: "no", Hint: "ask", PolicyIDs: []string{"p1"}, RequestID: "r9"}},
		"request ID of the header": {body(404, problem, `{"kind":"not_found","detail":"x"}`), api.Problem{Kind: api.KindNotFound, Status: 404, Detail: "x", RequestID: "req-1"}},
		"internal":                 {body(500, problem, `{"kind":"internal","detail":"x"}`), api.Problem{Kind: api.KindInternal, Status: 500, Detail: "x", RequestID: "req-1"}},
		"unknown kind":             {body(418, problem, `{"kind":"teapot","detail":"short and stout"}`), api.Problem{Kind: api.KindInternal, Status: 418, Detail: "short and stout", RequestID: "req-1"}},
		"no detail":                {body(403, problem, `{"kind":"mfa_required"}`), api.Problem{Kind: api.KindMFA, Status: 403, Detail: "the broker says: mfa required", RequestID: "req-1"}},
		"terminal escapes":         {body(403, problem, `{"kind":"denied","detail":"a\u001b[2Jb\r\n\u202ec"}`), api.Problem{Kind: api.KindDenied, Status: 403, Detail: "a [2Jb   c", RequestID: "req-1"}},
		"endless detail":           {body(403, problem, `{"kind":"denied","detail":"`+strings.Repeat("a", 3*maxText)+`"}`), api.Problem{Kind: api.KindDenied, Status: 403, Detail: strings.Repeat("a", maxText), RequestID: "req-1"}},
		"odd retry":                {body(429, problem, `{"kind":"rate_limited","detail":"x","retry_after":-5}`), api.Problem{Kind: api.KindRateLimited, Status: 429, Detail: "x", RequestID: "req-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newBroker(t, tc.answer).client(t, nil).Roles(context.Background())
			var got *api.Problem
			if !errors.As(err, &got) {
				t.Fatalf("got %v", err)
			}
			tc.want.Type, tc.want.Title = "urn:sega:error:"+string(tc.want.Kind), strings.ReplaceAll(string(tc.want.Kind), "_", " ")
			if d := cmp.Diff(tc.want, *got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAnswersThatBreakTheContract(t *testing.T) {
	const problem = "application/problem+json"
	for name, tc := range map[string]struct {
		status      int
		contentType string
		body        string
		want        api.Kind
	}{
		"a page":               {200, "text/html", "<html>", api.KindInternal},
		"no type":              {200, "", "{}", api.KindInternal},
		"not JSON":             {200, typeJSON, "{", api.KindInternal},
		"another shape":        {200, typeJSON, `{"roles":{}}`, api.KindInternal},
		"more than one value":  {200, typeJSON, `{}{}`, api.KindInternal},
		"created":              {201, typeJSON, "{}", api.KindInternal},
		"a proxy's page":       {502, "text/html", "<html>", api.KindUnreachable},
		"a proxy's 403":        {403, "text/html", "<html>", api.KindInternal},
		"a problem of nothing": {403, problem, "{}", api.KindInternal},
		"a problem not JSON":   {403, problem, "<", api.KindInternal},
		"an oversized answer":  {200, typeJSON, `{"roles":[{"name":"` + strings.Repeat("a", maxAnswer) + `"}]}`, api.KindInternal},
		"an oversized problem": {403, problem, `{"kind":"denied","detail":"` + strings.Repeat("a", maxProblem) + `"}`, api.KindInternal},
	} {
		t.Run(name, func(t *testing.T) {
			c := newBroker(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{tc.contentType}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}).client(t, nil)
			got, err := c.Roles(context.Background())
			if !api.IsKind(err, tc.want) || got.Roles != nil {
				t.Fatalf("got %v, %v", got, err)
			}
			if p := api.AsProblem(err); !strings.Contains(p.Detail, c.Origin()) || p.Hint == "" {
				t.Errorf("detail %q, hint %q", p.Detail, p.Hint)
			}
		})
	}
}

func TestRedirectIsRefused(t *testing.T) {
	var reached atomic.Bool
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		c := newBroker(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL+"/v1/roles", status) }).client(t, nil)
		if _, err := c.Roles(context.Background()); !api.IsKind(err, api.KindInternal) || !strings.Contains(err.Error(), "redirect") {
			t.Errorf("%d: got %v", status, err)
		}
	}
	if reached.Load() {
		t.Error("the redirect was followed")
	}
}

func TestNetworkFailures(t *testing.T) {
	b := newBroker(t, answers(api.Roles{}))
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "https://" + dead.Addr().String()
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	plain := httptest.NewServer(answers(api.Roles{}))
	defer plain.Close()
	for name, tc := range map[string]struct {
		change       func(*Config)
		detail, hint string
	}{
		"wrong CA":      {func(c *Config) { c.RootCAs = x509.NewCertPool() }, "not trusted", "SEGA_CA_FILE"},
		"wrong name":    {func(c *Config) { c.Origin = strings.Replace(b.URL, "127.0.0.1", "localhost", 1) }, "not trusted", "SEGA_BROKER"},
		"refused":       {func(c *Config) { c.Origin = gone }, "connection refused", gone},
		"not TLS":       {func(c *Config) { c.Origin = strings.Replace(plain.URL, "http", "https", 1) }, "cannot be reached", plain.URL[7:]},
		"unknown name":  {func(c *Config) { c.Origin = "https://sega.invalid" }, "cannot be reached", "sega.invalid"},
		"silent broker": {func(c *Config) { c.Origin, c.Timeout = silent(t), 50*time.Millisecond }, "no answer in time", "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.client(t, tc.change).Roles(context.Background())
			var p *api.Problem
			if !errors.As(err, &p) || p.Kind != api.KindUnreachable || !strings.Contains(p.Detail, tc.detail) || !strings.Contains(p.Hint, tc.hint) {
				t.Fatalf("got %+v", p)
			}
			noLeak(t, err)
		})
	}
}

// silent accepts connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _, _ = io.Copy(io.Discard, conn); _ = conn.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return "https://" + l.Addr().String()
}

func noLeak(t *testing.T, err error) {
	t.Helper()
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, out := range []string{e.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e)} {
			if strings.Contains(out, "CANARY") {
				t.Errorf("leaks: %s", out)
			}
		}
	}
}

func TestErrorsNeverLeak(t *testing.T) {
	sec := secret.FromString(bodyCanary)
	creds := `{"access_key_id":"A","secret_access_key":"` + bodyCanary + `","session_token":"` + bodyCanary
	ctx := context.Background()
	for name, answer := range map[string]string{"cut": creds, "type": creds + `","expiration":7}`, "number": `{"access_key_id":"A","secret_access_key":["` + bodyCanary + `"]}`} {
		t.Run(name, func(t *testing.T) {
			c := newBroker(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", typeJSON)
				_, _ = io.WriteString(w, answer)
			}).client(t, nil)
			_, err := c.Credentials(ctx, api.CredentialsRequest{})
			if err == nil {
				t.Fatal("no error")
			}
			noLeak(t, err)
			_, err = c.Login(ctx, api.LoginRequest{IDToken: sec})
			if err == nil {
				t.Fatal("no error")
			}
			noLeak(t, err)
		})
	}
}

func TestCancelIsNotUnreachable(t *testing.T) {
	c := newBroker(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }).client(t, nil)
	enough := errors.New("the person has had enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	timer := time.AfterFunc(50*time.Millisecond, func() { cancel(enough) })
	defer timer.Stop()
	if _, err := c.Roles(ctx); !errors.Is(err, enough) || api.IsKind(err, api.KindUnreachable) {
		t.Errorf("got %v", err)
	}
}

// breaker drops the connection of the first n proven requests without a byte of an answer, over
// HTTP/1.1, where a connection is one request's.
func breaker(t *testing.T, n int64, answer any) (*broker, *atomic.Int64) {
	t.Helper()
	var asked atomic.Int64
	b := startBroker(t, false, func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) > n {
			writeJSON(w, answer)
			return
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	})
	return b, &asked
}

func TestRepeatAfterBrokenConnection(t *testing.T) {
	ctx := context.Background()
	creds := api.Credentials{AccessKeyID: "A", SecretAccessKey: secret.FromString("s"), SessionToken: secret.FromString("t")}
	ses := api.Session{Token: secret.FromString("s")}
	for name, tc := range map[string]struct {
		breaks int64
		answer any
		call   func(*Client) error
		asked  int64
		ok     bool
	}{
		"revoke":         {1, api.Receipt{}, func(c *Client) error { _, err := c.Revoke(ctx, api.RevokeRequest{}); return err }, 2, true},
		"report":         {1, api.Empty{}, func(c *Client) error { return c.Report(ctx, nil) }, 2, true},
		"ack, twice":     {2, api.Empty{}, func(c *Client) error { return c.Ack(ctx, api.Ack{}) }, 2, false},
		"credentials":    {1, creds, func(c *Client) error { _, err := c.Credentials(ctx, api.CredentialsRequest{}); return err }, 1, false},
		"a key":          {1, api.Key{}, func(c *Client) error { _, err := c.RegisterKey(ctx, api.RegisterKeyRequest{}); return err }, 1, false},
		"certificate":    {1, api.Certificate{}, func(c *Client) error { _, err := c.Certificate(ctx, api.CertificateRequest{}); return err }, 1, false},
		"hop":            {1, api.Hop{}, func(c *Client) error { _, err := c.Hop(ctx, api.HopRequest{}); return err }, 1, false},
		"front":          {1, api.Certificate{}, func(c *Client) error { _, err := c.Front(ctx, api.FrontRequest{}); return err }, 1, false},
		"login":          {1, ses, func(c *Client) error { _, err := c.Login(ctx, api.LoginRequest{}); return err }, 1, false},
		"renew":          {1, ses, func(c *Client) error { _, err := c.Renew(ctx, api.RenewRequest{}); return err }, 1, false},
		"device poll":    {1, ses, func(c *Client) error { _, err := c.DevicePoll(ctx, api.DevicePoll{}); return err }, 1, false},
		"enroll":         {1, api.Machine{}, func(c *Client) error { _, err := c.Enroll(ctx, api.EnrollRequest{}); return err }, 1, false},
		"machine":        {1, api.MachineSession{Token: ses.Token}, func(c *Client) error { _, err := c.MachineSession(ctx); return err }, 1, false},
		"unblock":        {1, api.Empty{}, func(c *Client) error { return c.Unblock(ctx, api.UnblockRequest{}) }, 1, false},
		"without breaks": {0, creds, func(c *Client) error { _, err := c.Credentials(ctx, api.CredentialsRequest{}); return err }, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			b, asked := breaker(t, tc.breaks, tc.answer)
			err := tc.call(b.client(t, nil))
			if (err == nil) != tc.ok || err != nil && !api.IsKind(err, api.KindUnreachable) {
				t.Errorf("got %v", err)
			}
			if asked.Load() != tc.asked {
				t.Errorf("asked %d times, want %d", asked.Load(), tc.asked)
			}
		})
	}
}

// TestCaptivePortal: a page in the place of an answer is told as somebody else's, whether or not checkpoints are looked at.
func TestCaptivePortal(t *testing.T) {
	b := newBroker(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>")
	})
	for name, on := range map[string]func([]byte) error{"before a login": nil, "after it": func([]byte) error { return nil }} {
		t.Run(name, func(t *testing.T) {
			_, err := b.client(t, func(c *Config) { c.OnCheckpoint = on }).Roles(t.Context())
			if !errors.Is(err, ErrForeign) && !errors.Is(api.AsProblem(err).Cause, ErrForeign) {
				t.Errorf("got %v", err)
			}
		})
	}
}
