package idp

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"sega/keychain/secret"
)

func TestDiscoverRefusesUnsafeIssuers(t *testing.T) {
	for _, issuer := range []string{
		"", "login.corp.example", "http://login.corp.example", "ftp://127.0.0.1", "https://u:p@login.corp.example",
		"https://login.corp.example?x=1", "https://login.corp.example#x", "http://127.0.0.1.evil.example", "https://",
	} {
		if _, err := Discover(t.Context(), issuer, nil); !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v, want ErrConfig", issuer, err)
		}
	}
}

func TestDiscoverChecksTheDocument(t *testing.T) {
	for _, c := range []struct {
		name string
		meta map[string]any
		want error
	}{
		{"as it should be", nil, nil},
		{"S256 among others", map[string]any{"code_challenge_methods_supported": []string{"plain", "S256"}}, nil},
		{"no optional endpoints", map[string]any{"device_authorization_endpoint": nil, "revocation_endpoint": nil, "userinfo_endpoint": nil}, nil},
		{"other issuer", map[string]any{"issuer": "https://evil.example"}, ErrConfig},
		{"no token endpoint", map[string]any{"token_endpoint": nil}, ErrConfig},
		{"no keys", map[string]any{"jwks_uri": nil}, ErrConfig},
		{"token endpoint without TLS", map[string]any{"token_endpoint": "http://login.corp.example/token"}, ErrConfig},
		{"endpoint that is a script", map[string]any{"authorization_endpoint": "javascript:alert(1)"}, ErrConfig},
		{"device page without TLS", map[string]any{"device_authorization_endpoint": "http://10.0.0.1/device"}, ErrConfig},
		{"field of a wrong type", map[string]any{"revocation_endpoint": 7}, ErrConfig},
		{"plain PKCE only", map[string]any{"code_challenge_methods_supported": []string{"plain"}}, ErrUnsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newIssuer(t)
			s.meta = c.meta
			_, err := Discover(t.Context(), s.url, nil)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	s := newIssuer(t)
	if _, err := Discover(t.Context(), s.url+"/", nil); !errors.Is(err, ErrConfig) {
		t.Errorf("a slash more than the document has: %v", err)
	}
}

func TestDiscoverOfNothing(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	if _, err := Discover(t.Context(), srv.URL, nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("no document: %v", err)
	}
	srv.Close()
	if _, err := Discover(t.Context(), srv.URL, nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("no server: %v", err)
	}
}

// TestRedirectsAreNotFollowed holds what a redirect of the token endpoint would carry elsewhere.
func TestRedirectsAreNotFollowed(t *testing.T) {
	stolen := make(chan string, 1)
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen <- r.FormValue("refresh_token") }))
	defer thief.Close()
	s := newIssuer(t)
	p := s.discover(t)
	redirect := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	defer redirect.Close()
	p.meta.Token = redirect.URL
	_, err := p.Refresh(t.Context(), testClient, secret.FromString("canary-token"))
	var answer *OAuthError
	if !errors.As(err, &answer) || answer.Status != http.StatusTemporaryRedirect {
		t.Errorf("got %v", err)
	}
	select {
	case <-stolen:
		t.Error("the refresh token went to another server")
	default:
	}
}

func TestTokenAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   error
	}{
		{"good", 200, tokenJSON("id", "rt2"), nil},
		{"expires_in as text", 200, `{"token_type":"bearer","id_token":"id","expires_in":"3600"}`, nil},
		{"revoked", 400, `{"error":"invalid_grant","error_description":"gone"}`, ErrInvalidGrant},
		{"broken", 500, "oops", ErrUnreachable},
		{"rate limit", 429, "", ErrUnreachable},
		{"overloaded", 400, `{"error":"temporarily_unavailable"}`, ErrUnreachable},
		{"sender-constrained", 200, `{"token_type":"DPoP","id_token":"id"}`, ErrUnsupported},
		{"endless", 200, `{"x":"` + strings.Repeat("x", maxAnswer) + `"}`, ErrUnreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newIssuer(t)
			p := s.discover(t)
			s.answer = func(url.Values) (int, string) { return c.status, c.body }
			_, err := p.Refresh(t.Context(), testClient, secret.FromString("rt1"))
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestRefreshTokenThatDoesNotRotateIsKept(t *testing.T) {
	s := newIssuer(t)
	p := s.discover(t)
	s.answer = func(url.Values) (int, string) { return 200, `{"token_type":"Bearer"}` }
	got, err := p.Refresh(t.Context(), testClient, secret.FromString("rt1"))
	if err != nil || string(got.RefreshToken.Reveal()) != "rt1" || !got.IDToken.Empty() || !got.Expires.IsZero() {
		t.Errorf("%v, %+v", err, got)
	}
}

// TestErrorsHoldNoSecret lets the provider quote back whatever it was sent.
func TestErrorsHoldNoSecret(t *testing.T) {
	s := newIssuer(t)
	p := s.discover(t)
	canary := secret.FromString("canary-canary")
	for _, shape := range []string{
		`{"error":"invalid_grant","error_description":"the token 'canary-canary' is unknown"}`,
		`{"error":"canary-canary"}`,
		`canary-canary`,
		"{\"error\":\"x\",\"error_description\":\"\\u001b[31mred\\u0007\"}",
	} {
		for _, status := range []int{200, 400, 500} {
			s.answer = func(url.Values) (int, string) { return status, shape }
			_, refresh := p.Refresh(t.Context(), testClient, canary)
			revoke := p.Revoke(t.Context(), testClient, canary)
			_, poll := p.DevicePoll(t.Context(), testClient, Device{Code: canary, Expires: s.clock().Add(1)})
			for _, err := range []error{refresh, revoke, poll} {
				if err != nil && strings.ContainsAny(err.Error(), "\x1b\x07") || err != nil && strings.Contains(err.Error(), "canary") {
					t.Errorf("status %d, %s: %q", status, shape, err)
				}
			}
		}
	}
}

func TestRevokeAcceptsEverySuccess(t *testing.T) {
	s := newIssuer(t)
	p := s.discover(t)
	for _, status := range []int{http.StatusOK, http.StatusNoContent} {
		s.answer = func(url.Values) (int, string) { return status, "" }
		if err := p.Revoke(t.Context(), testClient, secret.FromString("rt")); err != nil {
			t.Errorf("status %d: %v", status, err)
		}
	}
	if got := s.forms[0]; got.Get("token") != "rt" || got.Get("client_id") != testClient {
		t.Errorf("sent %v", got)
	}
}

func TestWhatTheProviderDoesNotOffer(t *testing.T) {
	s := newIssuer(t)
	s.meta = map[string]any{"device_authorization_endpoint": nil, "revocation_endpoint": nil}
	p := s.discover(t)
	if _, err := p.DeviceStart(t.Context(), testClient, nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("device grant: %v", err)
	}
	if err := p.Revoke(t.Context(), testClient, secret.FromString("x")); !errors.Is(err, ErrUnsupported) {
		t.Errorf("revocation: %v", err)
	}
}
