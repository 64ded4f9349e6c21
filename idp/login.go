package idp

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Login says what to ask the identity provider for.
type Login struct {
	ClientID  string
	Scopes    []string // "openid" is added where it is missing
	ACRValues []string
	Ports     []int  // registered loopback ports, tried in turn; 0 takes any free one, for providers that follow RFC 8252 §7.3
	Path      string // of the redirect URI; "" means /callback
	Nonce     string // required; see Nonce
	LoginHint string
	Fresh     bool // the person authenticates anew even in a live IdP session (prompt=login)
}

// normal validates l and fills in defaults.
func (l Login) normal() (Login, error) {
	if l.Path == "" {
		l.Path = "/callback"
	}
	if !slices.Contains(l.Scopes, oidc.ScopeOpenID) {
		l.Scopes = append([]string{oidc.ScopeOpenID}, l.Scopes...)
	}
	clean := &url.URL{Path: l.Path}
	switch {
	case l.ClientID == "":
		return l, fmt.Errorf("%w: a login needs a client ID", ErrConfig)
	case l.Nonce == "":
		return l, fmt.Errorf("%w: a login needs a nonce", ErrConfig)
	case len(l.Ports) == 0:
		return l, fmt.Errorf("%w: a login needs a loopback port", ErrConfig)
	case !strings.HasPrefix(l.Path, "/") || strings.HasPrefix(l.Path, "//") || clean.EscapedPath() != l.Path:
		return l, fmt.Errorf("%w: redirect path %q", ErrConfig, l.Path)
	}
	for _, port := range l.Ports {
		if port < 0 || port > 65535 {
			return l, fmt.Errorf("%w: redirect port %d", ErrConfig, port)
		}
	}
	return l, nil
}

// attempt is one authorization request that waits for its answer.
type attempt struct {
	login    Login
	port     int
	redirect string
	state    string
	verifier string
}

// newAttempt draws state and PKCE verifier (RFC 7636) for a redirect to port.
func newAttempt(l Login, port int) attempt {
	raw := make([]byte, 32)
	rand.Read(raw)
	return attempt{
		login: l, port: port,
		redirect: "http://127.0.0.1:" + strconv.Itoa(port) + l.Path,
		state:    base64.RawURLEncoding.EncodeToString(raw),
		verifier: oauth2.GenerateVerifier(),
	}
}

// address returns the URL that the browser opens.
func (p *Provider) address(a attempt) string {
	c := oauth2.Config{
		ClientID: a.login.ClientID, RedirectURL: a.redirect, Scopes: a.login.Scopes,
		Endpoint: oauth2.Endpoint{AuthURL: p.meta.Authorize},
	}
	opts := []oauth2.AuthCodeOption{oidc.Nonce(a.login.Nonce), oauth2.S256ChallengeOption(a.verifier)}
	for name, value := range map[string]string{
		"acr_values": strings.Join(a.login.ACRValues, " "), "login_hint": a.login.LoginHint,
	} {
		if value != "" {
			opts = append(opts, oauth2.SetAuthURLParam(name, value))
		}
	}
	if a.login.Fresh {
		opts = append(opts, oauth2.SetAuthURLParam("prompt", "login"))
	}
	return c.AuthCodeURL(a.state, opts...)
}

// answer reads the parameters of the redirect and returns the code. ErrState means that they
// are not of this attempt, and nothing else about them was looked at.
func (p *Provider) answer(a attempt, q url.Values) (code string, err error) {
	if len(q["state"]) != 1 || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(a.state)) != 1 {
		return "", ErrState
	}
	for _, name := range []string{"code", "error", "iss"} {
		if len(q[name]) > 1 {
			return "", ErrCallback
		}
	}
	// RFC 9207 §2.4: a provider that announces iss must send it, and it must be the one asked.
	if iss, sent := q["iss"]; sent && iss[0] != p.meta.Issuer || !sent && p.meta.SendsIss {
		return "", ErrMixUp
	}
	if q.Has("error") {
		return "", &OAuthError{Code: printable(q.Get("error"), 60), Description: printable(q.Get("error_description"), 200)}
	}
	if q.Get("code") == "" {
		return "", ErrCallback
	}
	return q.Get("code"), nil
}

// redeem exchanges the code for tokens.
func (p *Provider) redeem(ctx context.Context, a attempt, code string) (Tokens, error) {
	t, err := p.login(ctx, url.Values{
		"grant_type": {"authorization_code"}, "client_id": {a.login.ClientID}, "code": {code},
		"redirect_uri": {a.redirect}, "code_verifier": {a.verifier},
	})
	if err != nil {
		return Tokens{}, fmt.Errorf("exchange the login's code: %w", err)
	}
	return t, nil
}
