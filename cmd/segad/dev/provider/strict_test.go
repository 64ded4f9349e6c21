package provider_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// everywhere is a listener that claims to hear every address.
type everywhere struct{ net.Listener }

func (everywhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero, Port: 80} }

// call sends a request without following redirects, and returns status, Location and body.
func call(t *testing.T, hc *http.Client, method, address string, form url.Values) (int, string, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	c := *hc
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Location"), string(body)
}

// authorization returns a valid authorization request.
func (w *world) authorization(verifier string) url.Values {
	return url.Values{
		"client_id": {clientID}, "response_type": {"code"}, "scope": {"openid offline_access"}, "state": {"st"}, "nonce": {"n"},
		"redirect_uri":   {"http://127.0.0.1:" + portText(w.ports[0]) + "/callback"},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
	}
}

func TestAuthorizeIsStrict(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		name, param, value string // an empty value removes the parameter
		want               string // error code by redirect; "page" for an error page
	}{
		{"unknown client", "client_id", "other", "page"},
		{"no client", "client_id", "", "page"},
		{"other port", "redirect_uri", "http://127.0.0.1:1/callback", "page"},
		{"trailing slash", "redirect_uri", "http://127.0.0.1:" + portText(w.ports[0]) + "/callback/", "page"},
		{"localhost", "redirect_uri", "http://localhost:" + portText(w.ports[0]) + "/callback", "page"},
		{"no state", "state", "", "invalid_request"},
		{"odd state", "state", "a b", "invalid_request"},
		{"implicit flow", "response_type", "id_token", "unsupported_response_type"},
		{"fragment", "response_mode", "fragment", "unsupported_response_mode"},
		{"plain PKCE", "code_challenge_method", "plain", "invalid_request"},
		{"no PKCE", "code_challenge", "", "invalid_request"},
		{"no openid", "scope", "email", "invalid_scope"},
		{"unknown scope", "scope", "openid okta.users.manage", "invalid_scope"},
		{"unknown parameter", "noncee", "x", "invalid_request"},
		{"odd prompt", "prompt", "consent", "invalid_request"},
		{"odd max_age", "max_age", "-1", "invalid_request"},
		{"silent without a session", "prompt", "none", "login_required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := w.authorization(oauth2.GenerateVerifier())
			q.Set(c.param, c.value)
			if c.value == "" {
				q.Del(c.param)
			}
			status, location, _ := call(t, http.DefaultClient, http.MethodGet, w.Issuer()+"/authorize?"+q.Encode(), nil)
			if c.want == "page" {
				if status != http.StatusBadRequest || location != "" {
					t.Errorf("status %d, redirect %q, want a page", status, location)
				}
				return
			}
			to, err := url.Parse(location)
			if err != nil || to.Query().Get("error") != c.want || to.Query().Get("iss") != w.Issuer() {
				t.Errorf("redirect %q, want %s", location, c.want)
			}
		})
	}
	q := w.authorization(oauth2.GenerateVerifier())
	q.Add("nonce", "second")
	if _, location, _ := call(t, http.DefaultClient, http.MethodGet, w.Issuer()+"/authorize?"+q.Encode(), nil); !strings.Contains(location, "invalid_request") {
		t.Errorf("repeated parameter: %q", location)
	}
}

// code logs bob in by hand and returns an authorization code.
func (w *world) code(t *testing.T, verifier string) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	hc := &http.Client{Jar: jar}
	_, _, page := call(t, hc, http.MethodGet, w.Issuer()+"/authorize?"+w.authorization(verifier).Encode(), nil)
	form := url.Values{"login": {loginID(t, page)}, "email": {bob().Email}, "password": {bob().Password}}
	_, location, body := call(t, hc, http.MethodPost, w.Issuer()+"/login/password", form)
	to, err := url.Parse(location)
	if err != nil || to.Query().Get("code") == "" {
		t.Fatalf("no code: %q %q", location, body)
	}
	return to.Query().Get("code")
}

func loginID(t *testing.T, page string) string {
	t.Helper()
	m := regexp.MustCompile(`name="login" value="([^"]+)"`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no form in %q", page)
	}
	return m[1]
}

func (w *world) exchange(code, verifier string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "client_id": {clientID}, "code": {code},
		"redirect_uri": {"http://127.0.0.1:" + portText(w.ports[0]) + "/callback"}, "code_verifier": {verifier}}
}

func TestTokenEndpointIsStrict(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		name, param, value, want string
	}{
		{"wrong verifier", "code_verifier", oauth2.GenerateVerifier(), "invalid_grant"},
		{"short verifier", "code_verifier", "short", "invalid_grant"},
		{"no verifier", "code_verifier", "", "invalid_request"},
		{"other redirect", "redirect_uri", "http://127.0.0.1:1/callback", "invalid_grant"},
		{"other client", "client_id", "other", "invalid_client"},
		{"unknown code", "code", "nothing", "invalid_grant"},
		{"unknown parameter", "audience", "x", "invalid_request"},
		{"unknown grant", "grant_type", "password", "unsupported_grant_type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			verifier := oauth2.GenerateVerifier()
			form := w.exchange(w.code(t, verifier), verifier)
			form.Set(c.param, c.value)
			status, _, body := call(t, http.DefaultClient, http.MethodPost, w.Issuer()+"/token", form)
			if status == http.StatusOK || !strings.Contains(body, `"`+c.want+`"`) {
				t.Errorf("status %d, %s, want %s", status, body, c.want)
			}
		})
	}
}

func TestCodesAreSpentOnceAndInTime(t *testing.T) {
	w := newWorld(t, nil)
	verifier := oauth2.GenerateVerifier()
	form := w.exchange(w.code(t, verifier), verifier)
	status, _, body := call(t, http.DefaultClient, http.MethodPost, w.Issuer()+"/token", form)
	var tokens struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(body), &tokens); err != nil || status != http.StatusOK {
		t.Fatalf("first use: %d %s", status, body)
	}
	if status, _, body := call(t, http.DefaultClient, http.MethodPost, w.Issuer()+"/token", form); status != http.StatusBadRequest || !strings.Contains(body, "invalid_grant") {
		t.Errorf("second use: %d %s", status, body)
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "client_id": {clientID}, "refresh_token": {tokens.Refresh}}
	if status, _, _ := call(t, http.DefaultClient, http.MethodPost, w.Issuer()+"/token", refresh); status != http.StatusBadRequest {
		t.Error("what came of a code survived its second use")
	}
	late := w.exchange(w.code(t, verifier), verifier)
	w.clock.add(300 * time.Second)
	if status, _, body := call(t, http.DefaultClient, http.MethodPost, w.Issuer()+"/token", late); status != http.StatusBadRequest || !strings.Contains(body, "invalid_grant") {
		t.Errorf("after 300 s: %d %s", status, body)
	}
}

func TestFormsBelongToTheBrowserThatBegan(t *testing.T) {
	w := newWorld(t, nil)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	victim := &http.Client{Jar: jar}
	address := w.Issuer() + "/authorize?" + w.authorization(oauth2.GenerateVerifier()).Encode()
	_, _, page := call(t, victim, http.MethodGet, address, nil)
	form := url.Values{"login": {loginID(t, page)}, "email": {bob().Email}, "password": {bob().Password}}
	for name, hc := range map[string]*http.Client{"no cookie": {}, "another browser": otherBrowser(t, address)} {
		if status, location, _ := call(t, hc, http.MethodPost, w.Issuer()+"/login/password", form); status != http.StatusBadRequest || location != "" {
			t.Errorf("%s: status %d, redirect %q", name, status, location)
		}
	}
	if status, _, _ := call(t, victim, http.MethodPost, w.Issuer()+"/login/totp", form); status != http.StatusBadRequest {
		t.Errorf("the second page before the first: status %d", status)
	}
	w.clock.add(10 * time.Minute)
	if status, _, _ := call(t, victim, http.MethodPost, w.Issuer()+"/login/password", form); status != http.StatusBadRequest {
		t.Errorf("after ten minutes: status %d", status)
	}
}

func otherBrowser(t *testing.T, address string) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	hc := &http.Client{Jar: jar}
	call(t, hc, http.MethodGet, address, nil)
	return hc
}

func TestWrongEntriesShowTheFormAgain(t *testing.T) {
	w := newWorld(t, nil)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	hc := &http.Client{Jar: jar}
	_, _, page := call(t, hc, http.MethodGet, w.Issuer()+"/authorize?"+w.authorization(oauth2.GenerateVerifier()).Encode(), nil)
	form := url.Values{"login": {loginID(t, page)}, "email": {`"><script>`}, "password": {"x"}}
	_, _, page = call(t, hc, http.MethodPost, w.Issuer()+"/login/password", form)
	if strings.Contains(page, "<script>") || !strings.Contains(page, `role="alert"`) {
		t.Errorf("page after a wrong password: %s", page)
	}
	form = url.Values{"login": {loginID(t, page)}, "email": {ann().Email}, "password": {ann().Password}}
	_, _, page = call(t, hc, http.MethodPost, w.Issuer()+"/login/password", form)
	status, _, page := call(t, hc, http.MethodPost, w.Issuer()+"/login/totp", url.Values{"login": {loginID(t, page)}, "totp": {"000"}})
	if status != http.StatusUnauthorized || !strings.Contains(page, `name="totp"`) {
		t.Errorf("after a wrong code: %d %s", status, page)
	}
}
