package provider

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// signingKey is an RSA key with its ID.
type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

func newSigningKey() (signingKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return signingKey{}, fmt.Errorf("provider: make a signing key: %w", err)
	}
	return signingKey{id: randomText(12), key: key}, nil
}

// sign returns the RS256 signature of input.
func (k signingKey) sign(input string) ([]byte, error) {
	sum := sha256.Sum256([]byte(input))
	return rsa.SignPKCS1v15(rand.Reader, k.key, crypto.SHA256, sum[:])
}

// keyring holds the key that signs, the one announced, and those that signed before.
type keyring struct {
	mu   sync.Mutex
	keys []signingKey // active, next, retired…
}

// storedKey is a key in the state file.
type storedKey struct {
	ID    string `json:"kid"`
	PKCS8 []byte `json:"pkcs8"`
}

func newKeyring(stored []storedKey) (*keyring, error) {
	r := &keyring{}
	for _, s := range stored {
		parsed, err := x509.ParsePKCS8PrivateKey(s.PKCS8)
		key, ok := parsed.(*rsa.PrivateKey)
		if err != nil || !ok {
			return nil, errors.New("provider: the state file holds an unreadable key, remove the file")
		}
		r.keys = append(r.keys, signingKey{s.ID, key})
	}
	for len(r.keys) < 2 {
		k, err := newSigningKey()
		if err != nil {
			return nil, err
		}
		r.keys = append(r.keys, k)
	}
	return r, nil
}

func (r *keyring) stored() ([]storedKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []storedKey
	for _, k := range r.keys {
		der, err := x509.MarshalPKCS8PrivateKey(k.key)
		if err != nil {
			return nil, fmt.Errorf("provider: store a signing key: %w", err)
		}
		all = append(all, storedKey{k.id, der})
	}
	return all, nil
}

func (r *keyring) rotate() error {
	fresh, err := newSigningKey()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = append([]signingKey{r.keys[1], fresh, r.keys[0]}, r.keys[2:]...)
	return nil
}

func (r *keyring) dropRetired() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = r.keys[:2:2]
}

func (r *keyring) active() signingKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[0]
}

func (r *keyring) next() signingKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[1]
}

func (r *keyring) public() jose.JSONWebKeySet {
	r.mu.Lock()
	defer r.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, k := range r.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.key.Public(), KeyID: k.id, Algorithm: "RS256", Use: "sig"})
	}
	return set
}

// jwks serves the published keys.
func (p *Provider) jwks(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", p.cfg.KeysMaxAge/time.Second))
	writeJSON(w, http.StatusOK, p.keys.public())
}

// compact encodes and signs a JWS; sign gets the signing input.
func compact(header, claims map[string]any, sign func(input string) ([]byte, error)) (string, error) {
	h, err := json.Marshal(header)
	if err != nil {
		return "", fmt.Errorf("provider: token header: %w", err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("provider: token claims: %w", err)
	}
	input := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
	signature, err := sign(input)
	if err != nil {
		return "", fmt.Errorf("provider: sign a token: %w", err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// randomText returns n random bytes, base64url.
func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
