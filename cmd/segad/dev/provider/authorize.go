package provider

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// authRequest is a valid authorization request.
type authRequest struct {
	redirect  string
	state     string
	nonce     string
	challenge string // S256
	scopes    []string
	acrs      []string
	prompt    string
	maxAge    time.Duration // negative: none
	hint      string
}

// redirectError is a failure that the client hears of by redirect (RFC 6749 §4.1.2.1).
type redirectError struct{ code, description string }

func (e *redirectError) Error() string { return e.code + ": " + e.description }

func knownScopes() []string {
	return []string{"openid", "profile", "email", "groups", "offline_access"}
}

func knownParams() []string {
	return []string{"client_id", "response_type", "response_mode", "scope", "redirect_uri", "state", "nonce",
		"code_challenge", "code_challenge_method", "prompt", "max_age", "acr_values", "login_hint", "display"}
}

// authorize starts a login, or finishes it at once in a live IdP session.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		p.page(w, http.StatusBadRequest, messagePage, view{Message: "The request is malformed."})
		return
	}
	// Before the redirect URI is known to be the client's, nothing may be redirected.
	if len(q["client_id"]) != 1 || q.Get("client_id") != p.cfg.ClientID {
		p.page(w, http.StatusBadRequest, messagePage, view{Message: "The client_id is unknown."})
		return
	}
	if len(q["redirect_uri"]) != 1 || !slices.Contains(p.cfg.RedirectURIs, q.Get("redirect_uri")) {
		p.page(w, http.StatusBadRequest, messagePage, view{Message: "The redirect_uri is not registered for this client; it is compared exactly, port included."})
		return
	}
	req, failure := parseAuthorize(q)
	if failure != nil {
		p.redirectBack(w, r, req, url.Values{"error": {failure.code}, "error_description": {failure.description}})
		return
	}
	p.begin(w, r, req)
}

// parseAuthorize checks all but client and redirect URI.
func parseAuthorize(q url.Values) (authRequest, *redirectError) {
	req := authRequest{
		redirect: q.Get("redirect_uri"), nonce: q.Get("nonce"), challenge: q.Get("code_challenge"),
		scopes: strings.Fields(q.Get("scope")), acrs: strings.Fields(q.Get("acr_values")),
		prompt: q.Get("prompt"), maxAge: -1, hint: q.Get("login_hint"),
	}
	if regexp.MustCompile(`^[A-Za-z0-9,._-]+$`).MatchString(q.Get("state")) {
		req.state = q.Get("state")
	}
	for name, values := range q {
		if !slices.Contains(knownParams(), name) {
			return req, &redirectError{"invalid_request", "unknown parameter " + name}
		}
		if len(values) > 1 {
			return req, &redirectError{"invalid_request", "repeated parameter " + name}
		}
	}
	if failure := req.checkProtocol(q); failure != nil {
		return req, failure
	}
	return req, req.checkWishes(q)
}

// checkProtocol checks what makes the flow safe.
func (req *authRequest) checkProtocol(q url.Values) *redirectError {
	switch {
	case req.state == "":
		return &redirectError{"invalid_request", "state is missing or has characters other than letters, digits, comma, dot, underscore, hyphen"}
	case q.Get("response_type") != "code":
		return &redirectError{"unsupported_response_type", "response_type must be code"}
	case q.Has("response_mode") && q.Get("response_mode") != "query":
		return &redirectError{"unsupported_response_mode", "response_mode must be query"}
	case q.Get("code_challenge_method") != "S256" || !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(req.challenge):
		return &redirectError{"invalid_request", "PKCE with code_challenge_method S256 is required"}
	}
	if err := checkScopes(req.scopes); err != nil {
		return &redirectError{"invalid_scope", err.Error()}
	}
	return nil
}

// checkWishes checks what the client asks of the login.
func (req *authRequest) checkWishes(q url.Values) *redirectError {
	if !slices.Contains([]string{"", "login", "none"}, req.prompt) {
		return &redirectError{"invalid_request", "prompt must be login or none"}
	}
	if q.Has("max_age") {
		seconds, err := strconv.ParseUint(q.Get("max_age"), 10, 31)
		if err != nil {
			return &redirectError{"invalid_request", "max_age must be a number of seconds"}
		}
		req.maxAge = time.Duration(seconds) * time.Second
	}
	return nil
}

func checkScopes(scopes []string) error {
	for _, s := range scopes {
		if !slices.Contains(knownScopes(), s) {
			return fmt.Errorf("unknown scope %q", s)
		}
	}
	if !slices.Contains(scopes, "openid") {
		return fmt.Errorf("scope must contain openid")
	}
	return nil
}

// redirectBack sends the browser to the client, with state and issuer (RFC 9207).
func (p *Provider) redirectBack(w http.ResponseWriter, r *http.Request, req authRequest, answer url.Values) {
	if req.state != "" {
		answer.Set("state", req.state)
	}
	answer.Set("iss", p.cfg.Issuer)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	sep := "?"
	if strings.Contains(req.redirect, "?") {
		sep = "&"
	}
	http.Redirect(w, r, req.redirect+sep+answer.Encode(), http.StatusSeeOther)
}

// Levels of authentication, as Okta names them.
const (
	acrPassword = "urn:okta:loa:1fa:pwd"
	acrOne      = "urn:okta:loa:1fa:any"
	acrTwo      = "urn:okta:loa:2fa:any"
	acrMaybeTwo = "urn:okta:loa:2fa:any:ifpossible"
)

func knownACRs() []string { return []string{acrOne, acrPassword, acrTwo, acrMaybeTwo} }

// reach returns the first wished level that an authentication has reached. Unknown levels are
// ignored; ok is false where known ones were asked for and none is reached.
func reach(wishes, amr []string) (acr string, ok bool) {
	ok = true
	for _, wish := range wishes {
		if !slices.Contains(knownACRs(), wish) {
			continue
		}
		if wish != acrTwo || slices.Contains(amr, "mfa") {
			return wish, true
		}
		ok = false
	}
	return "", ok
}
