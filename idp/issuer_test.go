package idp

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"sega/keychain/secret"
)

const testClient = "sega-test"

// testKeys are made once: RSA keys take long.
var testKeys = sync.OnceValue(func() (keys [3]*rsa.PrivateKey) {
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
	}
	return keys
})

// issuer is a provider of which every answer can be scripted.
type issuer struct {
	url string

	mu       sync.Mutex // guards what follows
	now      time.Time
	meta     map[string]any // over the defaults; nil removes
	keys     map[string]*rsa.PrivateKey
	maxAge   string
	down     bool // every answer but discovery is 503
	fetches  int  // of the key set
	answer   func(form url.Values) (int, string)
	forms    []url.Values // of token, device and revocation endpoint
	userinfo string
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	s := &issuer{now: time.Unix(1_800_000_000, 0).UTC(), keys: map[string]*rsa.PrivateKey{"k0": testKeys()[0]}, maxAge: "max-age=600"}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", s.serveMeta)
	mux.HandleFunc("/keys", s.serveKeys)
	mux.HandleFunc("/form", s.serveForm)
	mux.HandleFunc("/userinfo", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(s.userinfo)) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func (s *issuer) serveMeta(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	doc := map[string]any{
		"issuer": s.url, "authorization_endpoint": s.url + "/authorize", "token_endpoint": s.url + "/form",
		"jwks_uri": s.url + "/keys", "device_authorization_endpoint": s.url + "/form",
		"revocation_endpoint": s.url + "/form", "userinfo_endpoint": s.url + "/userinfo",
	}
	for name, value := range s.meta {
		doc[name] = value
		if value == nil {
			delete(doc, name)
		}
	}
	_ = json.NewEncoder(w).Encode(doc)
}

func (s *issuer) serveKeys(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetches++
	if s.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for id, key := range s.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: "RS256", Use: "sig"})
	}
	w.Header().Set("Cache-Control", s.maxAge)
	_ = json.NewEncoder(w).Encode(set)
}

func (s *issuer) serveForm(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	s.mu.Lock()
	s.forms = append(s.forms, r.PostForm)
	answer := s.answer
	s.mu.Unlock()
	status, body := answer(r.PostForm)
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

func (s *issuer) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// set changes the issuer under its lock.
func (s *issuer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *issuer) discover(t testing.TB) *Provider {
	t.Helper()
	p, err := Discover(t.Context(), s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.now = s.clock
	return p
}

func (s *issuer) verifier(t testing.TB, change func(*VerifierConfig)) *Verifier {
	t.Helper()
	cfg := VerifierConfig{ClientID: testClient, Now: s.clock}
	if change != nil {
		change(&cfg)
	}
	v, err := NewVerifier(s.discover(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// claims returns good claims with changes; nil removes.
func (s *issuer) claims(changes map[string]any) map[string]any {
	now := s.clock().Unix()
	c := map[string]any{
		"iss": s.url, "aud": testClient, "sub": "00uann", "iat": now, "exp": now + 3600, "auth_time": now - 5,
		"nonce": "n", "amr": []string{"pwd", "mfa"}, "email": "ann@corp.example", "groups": []string{"sre"},
	}
	for name, value := range changes {
		c[name] = value
		if value == nil {
			delete(c, name)
		}
	}
	return c
}

// sign signs anything as an ID token with key k0, or the given one.
func sign(header map[string]any, payload any, key *rsa.PrivateKey) secret.Secret {
	head := map[string]any{"alg": "RS256", "kid": "k0"}
	for name, value := range header {
		head[name] = value
		if value == nil {
			delete(head, name)
		}
	}
	h, _ := json.Marshal(head)
	c, isText := payload.(string)
	if !isText {
		b, _ := json.Marshal(payload)
		c = string(b)
	}
	input := b64(h) + "." + b64([]byte(c))
	sum := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return secret.FromString(input + "." + b64(signature))
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// tokenJSON is a good answer of the token endpoint.
func tokenJSON(id, refresh string) string {
	return fmt.Sprintf(`{"token_type":"Bearer","expires_in":3600,"access_token":"at","id_token":%q,"refresh_token":%q}`, id, refresh)
}
