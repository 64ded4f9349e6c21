package provider

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	codeTTL   = 300 * time.Second
	accessTTL = time.Hour
)

// grant is what one login has given the client. Those with a refresh token survive a restart.
type grant struct {
	ID       string    `json:"id"`
	Subject  string    `json:"sub"`
	Scopes   []string  `json:"scopes"`
	AMR      []string  `json:"amr"`
	ACR      string    `json:"acr"`
	AuthTime time.Time `json:"auth_time"`
	Expires  time.Time `json:"expires"`
	Refresh  string    `json:"refresh"`  // hash of the live refresh token, "" for none
	Previous string    `json:"previous"` // hash of the one before
	Rotated  time.Time `json:"rotated"`
}

// code is an authorization code. A used one is kept, so that its second use ends its grant.
type code struct {
	request authRequest
	auth    authentication
	acr     string
	expires time.Time
	grant   string // ID, once used
}

// accessToken is an opaque token for userinfo.
type accessToken struct {
	grant   string
	expires time.Time
}

// grants holds codes, grants, tokens and devices.
type grants struct {
	cfg    Config
	save   func() error
	saving sync.Mutex // one writer of the state file

	mu      sync.Mutex // guards what follows, and the fields of devices
	codes   map[string]*code
	grants  map[string]*grant
	access  map[string]accessToken // by hash
	devices map[string]*device     // by hash of the device code
}

func newGrants(cfg Config, stored []grant, save func() error) *grants {
	g := &grants{cfg: cfg, save: save, codes: map[string]*code{}, grants: map[string]*grant{},
		access: map[string]accessToken{}, devices: map[string]*device{}}
	for _, s := range stored {
		g.grants[s.ID] = &s
	}
	return g
}

// stored returns what belongs in the state file.
func (g *grants) stored() []grant {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := []grant{}
	for _, one := range g.grants {
		if one.Refresh != "" && g.cfg.Now().Before(one.Expires) {
			all = append(all, *one)
		}
	}
	slices.SortFunc(all, func(a, b grant) int { return strings.Compare(a.ID, b.ID) })
	return all
}

func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// addCode stores an authorization code.
func (g *grants) addCode(c code) string {
	text := randomText(32)
	c.expires = g.cfg.Now().Add(codeTTL)
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, old := range g.codes {
		if g.cfg.Now().Sub(old.expires) > time.Hour {
			delete(g.codes, key)
		}
	}
	g.codes[hash(text)] = &c
	return text
}

// redeem spends a code (RFC 6749 §4.1.3, RFC 7636 §4.6).
func (g *grants) redeem(text, redirect, verifier string) (grant, code, *tokenError) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c, ok := g.codes[hash(text)]
	switch {
	case !ok || !g.cfg.Now().Before(c.expires):
		return grant{}, code{}, invalidGrant("the code is unknown or has expired")
	case c.grant != "":
		g.kill(c.grant)
		return grant{}, code{}, invalidGrant("the code was used before; what came of it is revoked")
	}
	one := g.open(c.auth, c.request.scopes, c.acr)
	c.grant = one.ID // spent by a failed attempt too
	sum := sha256.Sum256([]byte(verifier))
	if c.request.redirect != redirect || !validVerifier(verifier) ||
		subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(c.request.challenge)) != 1 {
		g.kill(one.ID)
		return grant{}, code{}, invalidGrant("redirect_uri or code_verifier does not match the authorization request")
	}
	return *one, *c, nil
}

func validVerifier(v string) bool {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	return len(v) >= 43 && len(v) <= 128 && strings.Trim(v, allowed) == ""
}

// open begins a grant. Called with the lock held.
func (g *grants) open(a authentication, scopes []string, acr string) *grant {
	now := g.cfg.Now()
	for id, old := range g.grants {
		if !now.Before(old.Expires) {
			g.kill(id)
		}
	}
	life := accessTTL
	if slices.Contains(scopes, "offline_access") {
		life = g.cfg.RefreshTTL
	}
	one := &grant{
		ID: randomText(12), Subject: a.Subject, Scopes: scopes, AMR: a.AMR, ACR: acr,
		AuthTime: a.Time, Expires: now.Add(life),
	}
	g.grants[one.ID] = one
	return one
}

// kill ends a grant and its tokens. Called with the lock held.
func (g *grants) kill(id string) {
	delete(g.grants, id)
	for key, t := range g.access {
		if t.grant == id {
			delete(g.access, key)
		}
	}
}

// end is kill, and makes it durable.
func (g *grants) end(id string) error {
	g.mu.Lock()
	g.kill(id)
	g.mu.Unlock()
	return g.save()
}

// newRefresh gives a grant its first refresh token, or the next one.
func (g *grants) newRefresh(id string) (string, error) {
	text := id + "." + randomText(32)
	g.mu.Lock()
	if one, ok := g.grants[id]; ok {
		one.Previous, one.Refresh, one.Rotated = one.Refresh, hash(text), g.cfg.Now()
	}
	g.mu.Unlock()
	return text, g.save()
}

// byRefresh returns the grant of a refresh token. One that was rotated away kills the grant, once
// the leeway is over: whoever shows it may have stolen it.
func (g *grants) byRefresh(text string) (grant, *tokenError) {
	id, _, _ := strings.Cut(text, ".")
	g.mu.Lock()
	defer g.mu.Unlock()
	one, ok := g.grants[id]
	if !ok || one.Refresh == "" || !g.cfg.Now().Before(one.Expires) {
		return grant{}, invalidGrant("the refresh token is unknown, revoked or has expired")
	}
	shown := hash(text)
	leeway := shown == one.Previous && g.cfg.Now().Sub(one.Rotated) < g.cfg.RefreshLeeway
	if shown != one.Refresh && !leeway {
		g.kill(id)
		return grant{}, invalidGrant("the refresh token was used before; the login is revoked")
	}
	return *one, nil
}

// newAccess makes an access token for a grant.
func (g *grants) newAccess(id string) string {
	text := randomText(32)
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, t := range g.access {
		if !g.cfg.Now().Before(t.expires) {
			delete(g.access, key)
		}
	}
	g.access[hash(text)] = accessToken{grant: id, expires: g.cfg.Now().Add(accessTTL)}
	return text
}

// byAccess returns the grant of a live access token.
func (g *grants) byAccess(text string) (grant, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, ok := g.access[hash(text)]
	if !ok || !g.cfg.Now().Before(t.expires) {
		return grant{}, false
	}
	one, ok := g.grants[t.grant]
	if !ok {
		return grant{}, false
	}
	return *one, true
}

// revoke revokes a token (RFC 7009): a refresh token with all that came of it, an access token alone.
func (g *grants) revoke(text string) error {
	id, _, _ := strings.Cut(text, ".")
	g.mu.Lock()
	delete(g.access, hash(text))
	if one, ok := g.grants[id]; ok && (one.Refresh == hash(text) || one.Previous == hash(text)) {
		g.kill(id)
	}
	g.mu.Unlock()
	return g.save()
}
