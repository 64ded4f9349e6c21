package idp

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/go-jose/go-jose/v4"

	"sega/keychain/secret"
)

// VerifierConfig says what an ID token must be like. Zero values mean the defaults named here.
type VerifierConfig struct {
	ClientID    string           // the only accepted audience
	Algorithms  []string         // default RS256; asymmetric ones alone
	MFAValues   []string         // amr values of which any proves a second factor; default "mfa"
	ACRValues   []string         // acr values of which any proves a second factor; default none
	GroupsClaim string           // default "groups"
	MaxAge      time.Duration    // of iat; default 2 min
	Skew        time.Duration    // between the provider's clock and ours; default and at most 60 s
	Now         func() time.Time // default time.Now
}

// Verifier verifies the ID tokens of one provider for one client. It is safe for concurrent use;
// one Verifier serves all logins, since it holds the key cache.
type Verifier struct {
	provider *Provider
	cfg      VerifierConfig
	algs     []jose.SignatureAlgorithm
	keys     *keySet
}

// Identity is what a verified ID token says. (Issuer, Subject) is the identity; Email and Name are
// for people to read.
type Identity struct {
	Issuer        string
	Subject       string
	Email         string
	EmailVerified bool
	Name          string
	Groups        []string
	GroupsKnown   bool // false: the token is silent about groups, see UserInfoGroups
	AMR           []string
	ACR           string
	MFA           bool      // the provider vouches for a second factor; silence is false
	AuthTime      time.Time // zero where absent, which counts as stale
	IssuedAt      time.Time
	Expires       time.Time
	Nonce         string
	Digest        string // replay key: hex SHA-256 of the signed part of the token
}

// NewVerifier returns a Verifier; it makes no call. ErrConfig for a config that would accept what
// proves nothing.
func NewVerifier(p *Provider, cfg VerifierConfig) (*Verifier, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	v := &Verifier{provider: p, cfg: cfg, keys: newKeySet(p.meta.Keys, p.client, cfg.Now)}
	for _, alg := range cfg.Algorithms {
		v.algs = append(v.algs, jose.SignatureAlgorithm(alg))
	}
	return v, nil
}

func (c VerifierConfig) withDefaults() VerifierConfig {
	if c.Algorithms == nil {
		c.Algorithms = []string{"RS256"}
	}
	if c.MFAValues == nil {
		c.MFAValues = []string{"mfa"}
	}
	if c.GroupsClaim == "" {
		c.GroupsClaim = "groups"
	}
	if c.MaxAge == 0 {
		c.MaxAge = 2 * time.Minute
	}
	if c.Skew == 0 {
		c.Skew = time.Minute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// check refuses symmetric algorithms, and values that a password alone can yield.
func (c VerifierConfig) check() error {
	asymmetric := []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	for _, alg := range c.Algorithms {
		if !slices.Contains(asymmetric, alg) {
			return fmt.Errorf("%w: ID tokens signed with %q", ErrConfig, alg)
		}
	}
	for _, v := range c.MFAValues {
		if v == "" || v == "pwd" || v == "kba" || v == "geo" {
			return fmt.Errorf("%w: amr %q proves no second factor", ErrConfig, v)
		}
	}
	for _, v := range c.ACRValues {
		if v == "" || strings.Contains(v, ":1fa:") || strings.HasSuffix(v, ":ifpossible") {
			return fmt.Errorf("%w: acr %q proves no second factor", ErrConfig, v)
		}
	}
	switch {
	case c.ClientID == "":
		return fmt.Errorf("%w: verification needs a client ID", ErrConfig)
	case len(c.Algorithms) == 0:
		return fmt.Errorf("%w: no algorithm is accepted", ErrConfig)
	case c.MaxAge < 0 || c.MaxAge > time.Hour || c.Skew < 0 || c.Skew > time.Minute:
		return fmt.Errorf("%w: age of ID tokens at most 1 h, skew at most 60 s", ErrConfig)
	}
	return nil
}

// Verify verifies the ID token of a login, whose nonce must be the given one (see Nonce). The
// caller takes each Digest once until Expires. Each failed check is a sentinel of its own.
func (v *Verifier) Verify(ctx context.Context, raw secret.Secret, nonce string) (Identity, error) {
	id, err := v.check(ctx, raw)
	if err != nil {
		return Identity{}, err
	}
	if nonce == "" || subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) != 1 {
		return Identity{}, ErrNonce
	}
	return id, nil
}

// VerifyRefreshed verifies an ID token that a refresh of the login was yielded: same issuer,
// subject and time of authentication, and the same nonce or none (OpenID Connect Core §12.2). Of
// was, Issuer, Subject, AuthTime and Nonce are read. ErrRenewal where it is of another login.
func (v *Verifier) VerifyRefreshed(ctx context.Context, raw secret.Secret, was Identity) (Identity, error) {
	id, err := v.check(ctx, raw)
	if err != nil {
		return Identity{}, err
	}
	same := was.Subject != "" && id.Issuer == was.Issuer && id.Subject == was.Subject && id.AuthTime.Equal(was.AuthTime)
	if !same || id.Nonce != "" && subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(was.Nonce)) != 1 {
		return Identity{}, ErrRenewal
	}
	return id, nil
}

// VerifyDevice verifies an ID token that the caller itself fetched by the device grant; it has no
// nonce. A token that somebody hands in must never get here: nothing binds it.
func (v *Verifier) VerifyDevice(ctx context.Context, raw secret.Secret) (Identity, error) {
	id, err := v.check(ctx, raw)
	if err != nil {
		return Identity{}, err
	}
	if id.Nonce != "" {
		return Identity{}, ErrNonce
	}
	return id, nil
}

// check does everything but the nonce.
func (v *Verifier) check(ctx context.Context, raw secret.Secret) (Identity, error) {
	token := string(raw.Reveal())
	jws, err := parseToken(token, v.algs)
	if err != nil {
		return Identity{}, err
	}
	header := jws.Signatures[0].Header
	key, err := v.keys.find(ctx, header.KeyID, header.Algorithm)
	if err != nil {
		return Identity{}, err
	}
	payload, err := jws.Verify(key.Key)
	if err != nil {
		return Identity{}, ErrSignature
	}
	c, err := parseClaims(payload, v.cfg.GroupsClaim)
	if err != nil {
		return Identity{}, err
	}
	if err := v.checkParties(c); err != nil {
		return Identity{}, err
	}
	if err := v.checkTimes(c, v.cfg.Now()); err != nil {
		return Identity{}, err
	}
	id := v.identity(c)
	id.Digest = digest(token)
	return id, nil
}

// checkParties checks who issued the token, about whom, and for whom (OpenID Connect Core §3.1.3.7).
func (v *Verifier) checkParties(c claims) error {
	switch {
	case c.Issuer != v.provider.meta.Issuer:
		return ErrIssuer
	case !slices.Contains(c.Audience, v.cfg.ClientID):
		return ErrAudience
	case c.Party != nil && *c.Party != v.cfg.ClientID, c.Party == nil && len(c.Audience) > 1:
		return ErrAuthorizedParty
	case c.Subject == "" || len(c.Subject) > maxSubject || strings.ContainsFunc(c.Subject, unicode.IsControl):
		return ErrSubject
	case len(c.Events) > 0:
		return ErrTokenType
	}
	return nil
}

// checkTimes checks every time against now.
func (v *Verifier) checkTimes(c claims, now time.Time) error {
	if c.Expires == nil || c.IssuedAt == nil {
		return fmt.Errorf("%w: it does not say from when to when it is valid", ErrMalformed)
	}
	latest := now.Add(v.cfg.Skew)
	switch {
	case !c.Expires.time().Add(v.cfg.Skew).After(now):
		return ErrTokenExpired
	case c.IssuedAt.time().After(latest), c.NotBefore.time().After(latest):
		return ErrNotYetValid
	case now.Sub(c.IssuedAt.time()) > v.cfg.MaxAge:
		return ErrTokenOld
	case c.AuthTime.time().After(latest):
		return ErrAuthTime // it would count as fresh for as long as it likes
	}
	return nil
}

func (v *Verifier) identity(c claims) Identity {
	id := Identity{
		Issuer: c.Issuer, Subject: c.Subject, Email: c.Email, EmailVerified: bool(c.EmailVerified), Name: c.Name,
		Groups: c.groups, GroupsKnown: c.groups != nil, AMR: c.AMR, ACR: c.ACR,
		AuthTime: c.AuthTime.time(), IssuedAt: c.IssuedAt.time(), Expires: c.Expires.time(),
	}
	if c.Nonce != nil {
		id.Nonce = *c.Nonce
	}
	proves := func(amr string) bool { return slices.Contains(v.cfg.MFAValues, amr) }
	id.MFA = slices.ContainsFunc(c.AMR, proves) || slices.Contains(v.cfg.ACRValues, c.ACR)
	return id
}

// digest hashes header and payload. Not the signature: with ECDSA one token has several.
func digest(token string) string {
	sum := sha256.Sum256([]byte(token[:strings.LastIndexByte(token, '.')]))
	return hex.EncodeToString(sum[:])
}
