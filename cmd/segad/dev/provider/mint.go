package provider

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"
)

// MintKey chooses the key of a minted token.
type MintKey int

// The keys. KeyForeign is one that nobody publishes.
const (
	KeyActive MintKey = iota
	KeyNext
	KeyForeign
)

// MintOptions says how Mint signs.
type MintOptions struct {
	Algorithm string // "" or "RS256"; "none"; "HS256" with the published key's PEM as the secret
	Key       MintKey
}

// Mint makes a token with exactly these claims, for tests that attack a verifier. header adds to
// and replaces {"alg", "kid"}, a nil value removes; kid is the active key's unless Key is KeyNext, so
// that a foreign signature comes under a published kid. It panics on claims that are no JSON.
func (p *Provider) Mint(claims map[string]any, header map[string]any, how MintOptions) string {
	key := p.keys.active()
	if how.Key == KeyNext {
		key = p.keys.next()
	}
	head := map[string]any{"alg": "RS256", "kid": key.id}
	if how.Algorithm != "" {
		head["alg"] = how.Algorithm
	}
	for name, value := range header {
		head[name] = value
		if value == nil {
			delete(head, name)
		}
	}
	token, err := compact(head, claims, signer(key, how))
	if err != nil {
		panic(fmt.Sprintf("provider: mint: %v", err))
	}
	return token
}

// signer returns how to sign.
func signer(key signingKey, how MintOptions) func(string) ([]byte, error) {
	switch how.Algorithm {
	case "none":
		return func(string) ([]byte, error) { return nil, nil }
	case "HS256":
		return func(input string) ([]byte, error) {
			der, err := x509.MarshalPKIXPublicKey(key.key.Public())
			if err != nil {
				return nil, err
			}
			mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
			mac.Write([]byte(input))
			return mac.Sum(nil), nil
		}
	}
	if how.Key != KeyForeign {
		return key.sign
	}
	return func(input string) ([]byte, error) {
		foreign, err := newSigningKey()
		if err != nil {
			return nil, err
		}
		return foreign.sign(input)
	}
}

// Claims returns the claims that the ID token of a full login (password and TOTP, just now) of that
// user has, for Mint to start from. An unknown user has no claims.
func (p *Provider) Claims(email, nonce string) map[string]any {
	user, ok := p.people.byEmail(email)
	if !ok {
		return nil
	}
	return p.idClaims(grant{
		Scopes: knownScopes(), AMR: []string{"pwd", "mfa", "otp"}, AuthTime: p.cfg.Now().Add(-time.Second),
	}, user, nonce)
}
