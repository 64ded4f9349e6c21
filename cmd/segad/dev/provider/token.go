package provider

import (
	"crypto/sha256"
	"encoding/base64"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const grantDevice = "urn:ietf:params:oauth:grant-type:device_code"

// tokenError is an error answer of the token endpoint (RFC 6749 §5.2).
type tokenError struct {
	status      int
	code        string
	description string
}

func (e *tokenError) Error() string { return e.code + ": " + e.description }

func invalidGrant(description string) *tokenError {
	return &tokenError{http.StatusBadRequest, "invalid_grant", description}
}

func invalidRequest(description string) *tokenError {
	return &tokenError{http.StatusBadRequest, "invalid_request", description}
}

func (p *Provider) fail(w http.ResponseWriter, e *tokenError) {
	p.cfg.Log.Info("request refused", "error", e.code, "description", e.description)
	writeJSON(w, e.status, map[string]any{"error": e.code, "error_description": e.description})
}

func (p *Provider) broken(w http.ResponseWriter, err error) {
	p.cfg.Log.Error("answer a request", "error", err)
	writeJSON(w, http.StatusInternalServerError, map[string]any{"error": "server_error", "error_description": "the provider is out of order"})
}

// clientForm reads a form of the public client, strictly: its media type, each parameter once, no
// others than allowed, no client authentication.
func (p *Provider) clientForm(r *http.Request, required, optional []string) (url.Values, *tokenError) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" || r.ParseForm() != nil {
		return nil, invalidRequest("the body must be a form")
	}
	if r.URL.RawQuery != "" {
		return nil, invalidRequest("parameters belong into the body")
	}
	form := r.PostForm
	if r.Header.Get("Authorization") != "" || form.Get("client_id") != p.cfg.ClientID {
		return nil, &tokenError{http.StatusUnauthorized, "invalid_client", "the client is unknown, or a public client authenticated itself"}
	}
	for name, values := range form {
		if name != "client_id" && !slices.Contains(required, name) && !slices.Contains(optional, name) {
			return nil, invalidRequest("unknown parameter " + name)
		}
		if len(values) > 1 {
			return nil, invalidRequest("repeated parameter " + name)
		}
	}
	for _, name := range required {
		if form.Get(name) == "" {
			return nil, invalidRequest("missing parameter " + name)
		}
	}
	return form, nil
}

// token serves the token endpoint.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		p.tokenByCode(w, r)
	case "refresh_token":
		p.tokenByRefresh(w, r)
	case grantDevice:
		p.tokenByDevice(w, r)
	default:
		p.fail(w, &tokenError{http.StatusBadRequest, "unsupported_grant_type", "the grant type is not supported"})
	}
}

func (p *Provider) tokenByCode(w http.ResponseWriter, r *http.Request) {
	form, failure := p.clientForm(r, []string{"grant_type", "code", "redirect_uri", "code_verifier"}, nil)
	if failure != nil {
		p.fail(w, failure)
		return
	}
	g, c, failure := p.grants.redeem(form.Get("code"), form.Get("redirect_uri"), form.Get("code_verifier"))
	if failure != nil {
		if err := p.grants.save(); err != nil {
			p.broken(w, err)
			return
		}
		p.fail(w, failure)
		return
	}
	p.grantTokens(w, g, c.request.nonce)
}

func (p *Provider) tokenByRefresh(w http.ResponseWriter, r *http.Request) {
	form, failure := p.clientForm(r, []string{"grant_type", "refresh_token"}, []string{"scope"})
	if failure != nil {
		p.fail(w, failure)
		return
	}
	g, failure := p.grants.byRefresh(form.Get("refresh_token"))
	if failure == nil {
		g.Scopes, failure = narrow(g.Scopes, strings.Fields(form.Get("scope")))
	}
	if failure != nil {
		if err := p.grants.save(); err != nil { // a reuse has killed the grant
			p.broken(w, err)
			return
		}
		p.fail(w, failure)
		return
	}
	p.grantTokens(w, g, "")
}

// narrow returns the wanted scopes of those granted; none wanted means all.
func narrow(granted, wanted []string) ([]string, *tokenError) {
	if len(wanted) == 0 {
		return granted, nil
	}
	for _, s := range wanted {
		if !slices.Contains(granted, s) {
			return nil, &tokenError{http.StatusBadRequest, "invalid_scope", "scope was not granted"}
		}
	}
	return wanted, nil
}

// grantTokens answers with new tokens of a grant. A user who was disabled since gets none.
func (p *Provider) grantTokens(w http.ResponseWriter, g grant, nonce string) {
	user, ok := p.people.bySubject(g.Subject)
	if !ok {
		if err := p.grants.end(g.ID); err != nil {
			p.broken(w, err)
			return
		}
		p.fail(w, invalidGrant("the user is not active"))
		return
	}
	answer := map[string]any{"token_type": "Bearer", "expires_in": int(accessTTL / time.Second), "scope": strings.Join(g.Scopes, " ")}
	access := p.grants.newAccess(g.ID)
	answer["access_token"] = access
	if slices.Contains(g.Scopes, "offline_access") {
		refresh, err := p.grants.newRefresh(g.ID)
		if err != nil {
			p.broken(w, err)
			return
		}
		answer["refresh_token"] = refresh
	}
	claims := p.idClaims(g, user, nonce)
	sum := sha256.Sum256([]byte(access))
	claims["at_hash"] = base64.RawURLEncoding.EncodeToString(sum[:16])
	key := p.keys.active()
	idToken, err := compact(map[string]any{"alg": "RS256", "kid": key.id}, claims, key.sign)
	if err != nil {
		p.broken(w, err)
		return
	}
	answer["id_token"] = idToken
	writeJSON(w, http.StatusOK, answer)
}

// idClaims returns the claims of an ID token (OpenID Connect Core §2), as Okta fills them.
func (p *Provider) idClaims(g grant, u User, nonce string) map[string]any {
	now := p.cfg.Now()
	c := map[string]any{
		"ver": 1, "iss": p.cfg.Issuer, "aud": p.cfg.ClientID, "sub": u.Subject, "jti": "ID." + randomText(18),
		"iat": now.Unix(), "exp": now.Add(p.cfg.IDTokenTTL).Unix(), "auth_time": g.AuthTime.Unix(), "amr": g.AMR,
	}
	if g.ACR != "" {
		c["acr"] = g.ACR
	}
	if nonce != "" {
		c["nonce"] = nonce
	}
	about := personClaims(g.Scopes, u)
	if p.cfg.ThinIDToken {
		delete(about, "groups")
		delete(about, "name")
	}
	for name, value := range about {
		c[name] = value
	}
	return c
}

// personClaims returns what the scopes let a client know about a user.
func personClaims(scopes []string, u User) map[string]any {
	c := map[string]any{}
	if slices.Contains(scopes, "email") {
		c["email"], c["email_verified"] = u.Email, true
	}
	if slices.Contains(scopes, "profile") {
		c["name"], c["preferred_username"] = u.Name, u.Email
	}
	if slices.Contains(scopes, "groups") {
		c["groups"] = append([]string{}, u.Groups...)
	}
	return c
}

// issueCode ends an authorization request with a code, where its level is reached.
func (p *Provider) issueCode(w http.ResponseWriter, r *http.Request, req authRequest, a authentication) {
	acr, ok := reach(req.acrs, a.AMR)
	if !ok {
		p.redirectBack(w, r, req, url.Values{"error": {"unmet_authentication_requirements"}, "error_description": {"the user has no second factor"}})
		return
	}
	text := p.grants.addCode(code{request: req, auth: a, acr: acr})
	p.redirectBack(w, r, req, url.Values{"code": {text}})
}

// revoke serves the revocation endpoint: a token that is unknown is no error.
func (p *Provider) revoke(w http.ResponseWriter, r *http.Request) {
	form, failure := p.clientForm(r, []string{"token"}, []string{"token_type_hint"})
	if failure != nil {
		p.fail(w, failure)
		return
	}
	if err := p.grants.revoke(form.Get("token")); err != nil {
		p.broken(w, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
}

// userinfo serves the claims of the scopes (OpenID Connect Core §5.3).
func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	g, live := p.grants.byAccess(token)
	user, enabled := p.people.bySubject(g.Subject)
	if !ok || !live || !enabled {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token", "error_description": "the access token is unknown or has expired"})
		return
	}
	claims := personClaims(g.Scopes, user)
	claims["sub"] = user.Subject
	writeJSON(w, http.StatusOK, claims)
}
