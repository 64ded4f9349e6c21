package idp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pending is a login that waits in its browser: what the authorization request asked for.
type pending struct {
	t     *testing.T
	asked url.Values
}

func newPending(t *testing.T, address string) pending {
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return pending{t, u.Query()}
}

// send sends a request to the redirect with changed parameters; nil removes.
func (p pending) send(method, path, host string, changes map[string][]string) (int, http.Header, string) {
	p.t.Helper()
	to, err := url.Parse(p.asked.Get("redirect_uri"))
	if err != nil {
		p.t.Fatal(err)
	}
	q := url.Values{"state": p.asked["state"], "code": {"the-code"}}
	for name, values := range changes {
		q[name] = values
		if values == nil {
			q.Del(name)
		}
	}
	to.RawQuery = q.Encode()
	if path != "" {
		to.Path = path
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, to.String(), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if host != "" {
		req.Host = host
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func testLogin() Login {
	return Login{ClientID: testClient, Scopes: []string{"email"}, Ports: []int{0}, Nonce: "n"}
}

// loginWith runs a browser login whose browser is act.
func loginWith(t *testing.T, s *issuer, l Login, act func(pending)) (Tokens, error) {
	t.Helper()
	s.answer = func(url.Values) (int, string) { return http.StatusOK, tokenJSON("id", "rt") }
	return s.discover(t).Browser(t.Context(), l, func(address string) error {
		act(newPending(t, address))
		return nil
	})
}

func TestAuthorizationRequest(t *testing.T) {
	s := newIssuer(t)
	l := testLogin()
	l.ACRValues, l.LoginHint, l.Fresh, l.Path = []string{"a", "b"}, "ann@corp.example", true, "/sega/done"
	var asked url.Values
	tokens, err := loginWith(t, s, l, func(p pending) {
		asked = p.asked
		p.send(http.MethodGet, "", "", nil)
	})
	if err != nil || string(tokens.IDToken.Reveal()) != "id" {
		t.Fatal(err)
	}
	form := s.forms[0]
	verifier := form.Get("code_verifier")
	want := url.Values{
		"response_type": {"code"}, "client_id": {testClient}, "scope": {"openid email"}, "nonce": {"n"}, "acr_values": {"a b"},
		"login_hint": {"ann@corp.example"}, "prompt": {"login"}, "code_challenge_method": {"S256"},
		"code_challenge": asked["code_challenge"], "state": asked["state"], "redirect_uri": asked["redirect_uri"],
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	if redirect := asked.Get("redirect_uri"); !strings.HasPrefix(redirect, "http://127.0.0.1:") || !strings.HasSuffix(redirect, "/sega/done") {
		t.Errorf("redirect URI %q", redirect)
	}
	if len(asked.Get("state")) < 43 || len(verifier) < 43 {
		t.Errorf("state %q, verifier of %d characters", asked.Get("state"), len(verifier))
	}
	exchange := url.Values{"grant_type": {"authorization_code"}, "client_id": {testClient}, "code": {"the-code"},
		"redirect_uri": asked["redirect_uri"], "code_verifier": {verifier}}
	if diff := cmp.Diff([]url.Values{exchange}, s.forms); diff != "" {
		t.Error(diff)
	}
}

func TestStrayRequestsDoNotEndTheLogin(t *testing.T) {
	s := newIssuer(t)
	strays := []struct {
		name, method, path, host string
		changes                  map[string][]string
		want                     int
	}{
		{"favicon", "GET", "/favicon.ico", "", nil, 404},
		{"root", "GET", "/", "", nil, 404},
		{"path below", "GET", "/callback/", "", nil, 404},
		{"posted", "POST", "", "", nil, 405},
		{"head", "HEAD", "", "", nil, 405},
		{"by another name", "GET", "", "rebound.example", nil, 404},
		{"by localhost", "GET", "", "localhost", nil, 404},
		{"no state", "GET", "", "", map[string][]string{"state": nil}, 400},
		{"other state", "GET", "", "", map[string][]string{"state": {"guess"}}, 400},
		{"state twice", "GET", "", "", map[string][]string{"state": {"guess", "guess"}}, 400},
		{"error without the state", "GET", "", "", map[string][]string{"state": {"x"}, "code": nil, "error": {"access_denied"}}, 400},
	}
	tokens, err := loginWith(t, s, testLogin(), func(p pending) {
		for _, c := range strays {
			if status, _, _ := p.send(c.method, c.path, c.host, c.changes); status != c.want {
				t.Errorf("%s: status %d, want %d", c.name, status, c.want)
			}
		}
		if status, _, _ := p.send(http.MethodGet, "", "", nil); status != http.StatusOK {
			t.Errorf("the answer after all strays: status %d", status)
		}
		if status, _, _ := p.send(http.MethodGet, "", "", map[string][]string{"code": {"other"}}); status != http.StatusGone {
			t.Errorf("a second answer: status %d", status)
		}
	})
	if err != nil || tokens.IDToken.Empty() {
		t.Fatal(err)
	}
	if len(s.forms) != 1 || s.forms[0].Get("code") != "the-code" {
		t.Errorf("exchanges: %v", s.forms)
	}
}

func TestAnswersThatEndTheLogin(t *testing.T) {
	for _, c := range []struct {
		name    string
		meta    map[string]any
		changes map[string][]string
		want    error
	}{
		{"right issuer", nil, map[string][]string{"iss": {"@"}}, nil},
		{"other issuer", nil, map[string][]string{"iss": {"https://evil.example"}}, ErrMixUp},
		{"empty issuer", nil, map[string][]string{"iss": {""}}, ErrMixUp},
		{"announced issuer missing", map[string]any{"authorization_response_iss_parameter_supported": true}, nil, ErrMixUp},
		{"issuer twice", nil, map[string][]string{"iss": {"@", "https://evil.example"}}, ErrCallback},
		{"no code", nil, map[string][]string{"code": nil}, ErrCallback},
		{"code twice", nil, map[string][]string{"code": {"a", "b"}}, ErrCallback},
		{"denied", nil, map[string][]string{"code": nil, "error": {"access_denied"}}, ErrDenied},
		{"cancelled", nil, map[string][]string{"error": {"user_canceled_request"}}, ErrDenied},
		{"level not reached", nil, map[string][]string{"code": nil, "error": {"unmet_authentication_requirements"}}, ErrACR},
		{"overloaded", nil, map[string][]string{"code": nil, "error": {"temporarily_unavailable"}}, ErrUnreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newIssuer(t)
			s.meta = c.meta
			for i, v := range c.changes["iss"] {
				c.changes["iss"][i] = strings.Replace(v, "@", s.url, 1)
			}
			_, err := loginWith(t, s, testLogin(), func(p pending) { p.send(http.MethodGet, "", "", c.changes) })
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if c.want != nil && len(s.forms) != 0 {
				t.Error("a code was exchanged")
			}
		})
	}
}

func TestErrorTextsAreMadePrintable(t *testing.T) {
	s := newIssuer(t)
	_, err := loginWith(t, s, testLogin(), func(p pending) {
		_, _, body := p.send(http.MethodGet, "", "", map[string][]string{"error": {"<b>x"}, "error_description": {"\x1b[2Jgone\r\n" + strings.Repeat("y", 500)}})
		if strings.Contains(body, "gone") || strings.Contains(body, "<b>") {
			t.Errorf("page shows what came with the request: %s", body)
		}
	})
	if err == nil || strings.ContainsAny(err.Error(), "\x1b\r\n") || len(err.Error()) > 400 || !strings.Contains(err.Error(), "gone") {
		t.Errorf("error %q", err)
	}
}

func TestAnswerPageIsStatic(t *testing.T) {
	s := newIssuer(t)
	var header http.Header
	var body, state string
	if _, err := loginWith(t, s, testLogin(), func(p pending) {
		state = p.asked.Get("state")
		_, header, body = p.send(http.MethodGet, "", "", nil)
	}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"} {
		if header.Get(name) != want {
			t.Errorf("%s: %q", name, header.Get(name))
		}
	}
	if strings.Contains(body, "the-code") || strings.Contains(body, state) || strings.Contains(body, "<script") {
		t.Errorf("page: %s", body)
	}
}

func TestListenerIsGoneAfterTheLogin(t *testing.T) {
	s := newIssuer(t)
	var redirect string
	if _, err := loginWith(t, s, testLogin(), func(p pending) {
		redirect = p.asked.Get("redirect_uri")
		p.send(http.MethodGet, "", "", nil)
	}); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(redirect)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", u.Host); err == nil {
		conn.Close()
		t.Error("the listener outlives the login")
	}
}

func TestIdleConnectionsDoNotHoldTheLogin(t *testing.T) {
	s := newIssuer(t)
	_, err := loginWith(t, s, testLogin(), func(p pending) {
		u, err := url.Parse(p.asked.Get("redirect_uri"))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", u.Host) // as browsers do ahead of time
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		p.send(http.MethodGet, "", "", nil)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestUnansweredLogins(t *testing.T) {
	s := newIssuer(t)
	p := s.discover(t)
	reason := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := p.Browser(ctx, testLogin(), func(string) error { cancel(reason); return nil })
	if !errors.Is(err, reason) || errors.Is(err, ErrNoAnswer) {
		t.Errorf("cancelled: %v", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	_, err = p.Browser(ctx, testLogin(), func(string) error { cancel(context.DeadlineExceeded); return nil })
	if !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "redirect_uri") {
		t.Errorf("deadline: %v", err)
	}
	broken := errors.New("no display")
	if _, err := p.Browser(t.Context(), testLogin(), func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("browser that does not start: %v", err)
	}
}

func TestLoginsThatCannotBegin(t *testing.T) {
	p := newIssuer(t).discover(t)
	for name, change := range map[string]func(*Login){
		"no client":         func(l *Login) { l.ClientID = "" },
		"no nonce":          func(l *Login) { l.Nonce = "" },
		"no ports":          func(l *Login) { l.Ports = nil },
		"odd port":          func(l *Login) { l.Ports = []int{8250, 70000} },
		"relative path":     func(l *Login) { l.Path = "callback" },
		"path with a query": func(l *Login) { l.Path = "/callback?x" },
		"path of a host":    func(l *Login) { l.Path = "//evil.example" },
	} {
		l := testLogin()
		change(&l)
		_, err := p.Browser(t.Context(), l, func(string) error { t.Errorf("%s: browser opened", name); return nil })
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	_, err := p.Paste(t.Context(), testLogin(), func(string) error { return nil }, nil)
	if !errors.Is(err, ErrConfig) {
		t.Errorf("pasting without a fixed port: %v", err)
	}
}

func TestParsePasted(t *testing.T) {
	const redirect = "http://127.0.0.1:8250/callback"
	good := url.Values{"code": {"c/+="}, "state": {"s"}}
	query := good.Encode()
	for _, c := range []struct {
		name, input string
		want        url.Values
	}{
		{"whole", redirect + "?" + query, good},
		{"without scheme", "127.0.0.1:8250/callback?" + query, good},
		{"query with mark", "?" + query, good},
		{"query", query, good},
		{"fragment", redirect + "?" + query + "#x", good},
		{"quoted", ` "` + redirect + "?" + query + "\"\r\n", good},
		{"in angle brackets", "<" + redirect + "?" + query + ">", good},
		{"wrapped by a terminal", redirect + "?" + query[:5] + "\n  " + query[5:], good},
		{"byte order mark", "\ufeff" + redirect + "?" + query, good},
		{"error", redirect + "?error=access_denied&state=s", url.Values{"error": {"access_denied"}, "state": {"s"}}},
		{"nothing", "", nil},
		{"other host", "http://evil.example/callback?" + query, nil},
		{"other port", "http://127.0.0.1:8251/callback?" + query, nil},
		{"other path", "http://127.0.0.1:8250/other?" + query, nil},
		{"https", "https://127.0.0.1:8250/callback?" + query, nil},
		{"the address that was shown", "https://corp.example/authorize?client_id=x&state=s", nil},
		{"code alone", "c", nil},
		{"no state", "code=c", nil},
		{"broken escape", "code=%zz&state=s", nil},
		{"too long", query + strings.Repeat("x", maxPaste), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parsePasted(c.input, redirect)
			if errors.Is(err, ErrPaste) != (c.want == nil) {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzParsePasted(f *testing.F) {
	const redirect = "http://127.0.0.1:8250/callback"
	f.Add("code", "state", " "+redirect+"?code=a&state=b\n")
	f.Add("c+/=&", "s.,_-", "?error=x&state=")
	f.Add("", "\x00", "<127.0.0.1:8250/callback?state=a&code=%20>")
	f.Fuzz(func(t *testing.T, code, state, garbage string) {
		want := url.Values{"code": {code}, "state": {state}}
		if address := redirect + "?" + want.Encode(); len(address) <= maxPaste {
			got, err := parsePasted(address, redirect)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("round trip: %v %s", err, diff)
			}
		}
		got, err := parsePasted(garbage, redirect)
		if (err == nil) != (got != nil) || err == nil && !got.Has("state") {
			t.Errorf("%q: %v, %v", garbage, got, err)
		}
	})
}

func TestOneAnswerOfMany(t *testing.T) {
	s := newIssuer(t)
	answers := make(chan int, 20)
	_, err := loginWith(t, s, testLogin(), func(p pending) {
		for i := range cap(answers) {
			go func() {
				status := 0
				defer func() { answers <- status }()
				status, _, _ = p.send(http.MethodGet, "", "", map[string][]string{"code": {fmt.Sprint("code", i)}})
			}()
		}
		counts := map[int]int{}
		for range cap(answers) {
			counts[<-answers]++
		}
		if counts[http.StatusOK] != 1 || counts[http.StatusGone] != cap(answers)-1 {
			t.Errorf("statuses %v", counts)
		}
	})
	if err != nil || len(s.forms) != 1 {
		t.Errorf("%v after %d exchanges", err, len(s.forms))
	}
}
