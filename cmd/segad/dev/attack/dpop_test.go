//go:build linux

package attack

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sega/audit"
	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/keychain/secret"
)

// changed alters the claims of a proof and signs it rightly.
func changed(more map[string]any) func(shot, map[string]any, map[string]any) string {
	return func(s shot, header, claims map[string]any) string {
		return jws(header, with(claims, more), s.key.es256)
	}
}

// headed alters the header of a proof and signs it as the session's key does.
func headed(more map[string]any) func(shot, map[string]any, map[string]any) string {
	return func(s shot, header, claims map[string]any) string {
		return jws(with(header, more), claims, s.key.es256)
	}
}

// TestForgedProofs shows a good session token with proofs that are not good (RFC 9449 §4.3).
func TestForgedProofs(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.login("alice"), w.login("bob")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, forge := range map[string]func(s shot, header, claims map[string]any) string{
		"another method":    changed(map[string]any{"htm": "GET"}),
		"another route":     changed(map[string]any{"htu": w.web.URL + api.RouteCertificate}),
		"another host":      changed(map[string]any{"htu": "https://sega.evil.example" + api.RouteCredentials}),
		"another scheme":    changed(map[string]any{"htu": strings.Replace(w.web.URL, "https", "http", 1) + api.RouteCredentials}),
		"another token":     changed(map[string]any{"ath": dpop.ATH(secret.FromString(bob.token))}),
		"no ath":            changed(map[string]any{"ath": nil}),
		"no jti":            changed(map[string]any{"jti": nil}),
		"no htu":            changed(map[string]any{"htu": nil}),
		"endless jti":       changed(map[string]any{"jti": strings.Repeat("x", 200)}),
		"typ of a JWT":      headed(map[string]any{"typ": "JWT"}),
		"a kid":             headed(map[string]any{"kid": "1"}),
		"a jku":             headed(map[string]any{"jku": "https://evil.example/keys"}),
		"crit":              headed(map[string]any{"crit": []string{"exp"}}),
		"ES384 in the name": headed(map[string]any{"alg": "ES384"}),
		"no jwk":            headed(map[string]any{"jwk": nil}),
		"bob's jwk":         headed(map[string]any{"jwk": bob.key.jwk()}),
		"alg none": func(s shot, header, claims map[string]any) string {
			return jws(with(header, map[string]any{"alg": "none"}), claims, func(string) []byte { return nil })
		},
		"HS256 under the public key": func(s shot, header, claims map[string]any) string {
			return jws(with(header, map[string]any{"alg": "HS256"}), claims, func(input string) []byte {
				raw, _ := s.key.PublicKey.Bytes()
				mac := hmac.New(sha256.New, raw)
				mac.Write([]byte(input))
				return mac.Sum(nil)
			})
		},
		"RS256": func(s shot, header, claims map[string]any) string {
			key := map[string]any{"kty": "RSA", "n": b64(rsaKey.N.Bytes()), "e": b64(big.NewInt(int64(rsaKey.E)).Bytes())}
			return jws(with(header, map[string]any{"alg": "RS256", "jwk": key}), claims, func(input string) []byte {
				sum := sha256.Sum256([]byte(input))
				sig, _ := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, sum[:])
				return sig
			})
		},
		"a private key in the jwk": func(s shot, header, claims map[string]any) string {
			raw, _ := s.key.PrivateKey.Bytes()
			return jws(with(header, map[string]any{"jwk": with(s.key.jwk(), map[string]any{"d": b64(raw)})}), claims, s.key.es256)
		},
		"a signature of somebody else": func(s shot, header, claims map[string]any) string { return jws(header, claims, bob.key.es256) },
		"no signature": func(s shot, header, claims map[string]any) string {
			return jws(header, claims, func(string) []byte { return nil })
		},
		"a member that comes twice": func(s shot, header, claims map[string]any) string {
			h, _ := json.Marshal(header)
			c, _ := json.Marshal(claims)
			input := b64(h) + "." + b64(append([]byte(`{"htm":"GET",`), c[1:]...))
			return input + "." + b64(s.key.es256(input))
		},
		"not a JWS": func(shot, map[string]any, map[string]any) string { return "garbage" },
	} {
		t.Run(name, func(t *testing.T) {
			s := alice.credentials()
			s.forge = forge
			w.at(t).attack(s, api.KindUnauthenticated, "request.refuse", audit.Denied)
		})
	}
	alice.stillIn()
	if n := w.sts.AssumeRoleCalls(); n != 0 {
		t.Errorf("AWS was asked %d times", n)
	}
}

// TestNonces shows proofs whose nonce is none of this broker's, or too old: the protocol's answer is
// a fresh one, and nothing is done. That is how every client begins, so it is no event.
func TestNonces(t *testing.T) {
	w := newWorld(t)
	alice := w.login("alice")
	old := w.nonce()
	w.clock.add(2*time.Minute + time.Second)
	restarted := w.newBroker()
	rec := w.at(t)
	rec.server = restarted
	foreign := rec.sendFrom("127.0.0.1:1", get(api.RouteConfiguration, nil, "")).header.Get(api.HeaderNonce)
	forged := []byte(w.nonce())
	forged[0] ^= 1
	for name, forge := range map[string]func(shot, map[string]any, map[string]any) string{
		"none":                          changed(map[string]any{"nonce": nil}),
		"an old one":                    changed(map[string]any{"nonce": old}),
		"another broker process's":      changed(map[string]any{"nonce": foreign}),
		"one whose time was set anew":   changed(map[string]any{"nonce": string(forged)}),
		"one that nobody issued at all": changed(map[string]any{"nonce": "AAAA"}),
	} {
		t.Run(name, func(t *testing.T) {
			w := w.at(t)
			before := w.size()
			s := alice.credentials()
			s.forge = forge
			a := w.send(s)
			w.refused(a, api.KindNonce)
			if a.header.Get(api.HeaderNonce) == "" {
				t.Error("no fresh nonce came with the answer")
			}
			if got := w.since(before); len(got) != 0 {
				t.Errorf("events %s", kinds(got))
			}
		})
	}
}

// TestReplayedProof shows a proof twice, at once too, and again at the very end of its nonce's life.
func TestReplayedProof(t *testing.T) {
	w := newWorld(t)
	alice := w.login("alice")
	s := alice.credentials()
	s.proofs = []string{w.proof(s)}
	into[api.Credentials](t, w.send(s))
	w.attack(s, api.KindUnauthenticated, "request.refuse", audit.Denied)

	s.proofs = nil
	s.proofs = []string{w.proof(s)}
	before, calls := w.size(), w.sts.AssumeRoleCalls()
	var ok atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		r := w.request(s)
		wg.Go(func() {
			resp, err := w.web.Client().Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	refusals := 0
	for _, e := range w.since(before) {
		if e.Kind == "request.refuse" {
			refusals++
		}
	}
	if ok.Load() != 1 || w.sts.AssumeRoleCalls() != calls+1 || refusals != 31 {
		t.Errorf("%d answers with credentials, %d calls of AWS, %d refusals", ok.Load(), w.sts.AssumeRoleCalls()-calls, refusals)
	}

	w.clock.freeze()
	s.proofs = nil
	s.proofs = []string{w.proof(s)}
	into[api.Credentials](t, w.send(s))
	for _, d := range []time.Duration{time.Minute, time.Minute - time.Millisecond, time.Millisecond, 500 * time.Microsecond, time.Millisecond} {
		w.clock.add(d)
		if a := w.send(s); a.code == http.StatusOK {
			t.Fatalf("%s later a replay was taken", d)
		}
	}
}

// TestTokenWithoutItsProof shows a stolen session token with no proof, with two, with that of another key.
func TestTokenWithoutItsProof(t *testing.T) {
	w := newWorld(t)
	alice, thief := w.login("alice"), w.login("bob")
	theft := func(change func(*shot)) shot {
		s := alice.credentials()
		change(&s)
		return s
	}
	for name, s := range map[string]shot{
		"no proof":          theft(func(s *shot) { s.noProof = true }),
		"two proofs":        theft(func(s *shot) { s.proofs = []string{w.proof(*s), w.proof(*s)} }),
		"the thief's key":   theft(func(s *shot) { s.key = thief.key }),
		"as a bearer token": theft(func(s *shot) { s.noProof, s.header = true, map[string]string{"Authorization": "Bearer " + s.token} }),
		"as a bearer token with a proof": theft(func(s *shot) {
			s.key, s.header = thief.key, map[string]string{"Authorization": "Bearer " + s.token}
		}),
		"at the status": {method: "GET", path: api.RouteSession, key: thief.key, token: alice.token},
	} {
		t.Run(name, func(t *testing.T) {
			e := w.at(t).attack(s, api.KindUnauthenticated, "request.refuse", audit.Denied)
			if e.Actor.Kind != audit.ActorAnonymous {
				t.Errorf("the theft is laid at the door of %+v", e.Actor)
			}
			if strings.Contains(name, "thief") && e.LoginID != alice.LoginID {
				t.Errorf("the event names login %q: whose session was shown?", e.LoginID)
			}
		})
	}
	w.attack(get(api.RouteSession, thief.key, "sega_ses_"+b64(make([]byte, 32))), api.KindUnauthenticated, "request.refuse", audit.Denied)
	before := w.size()
	w.refused(w.send(shot{method: "GET", path: api.RouteSession}), api.KindUnauthenticated) // shows nothing: no attack, no event
	if got := w.since(before); len(got) != 0 {
		t.Errorf("events %s", kinds(got))
	}
	alice.stillIn()
}

// TestRefusalsNameAnyPath sends paths that are not text to where refusals are recorded.
func TestRefusalsNameAnyPath(t *testing.T) {
	w := newWorld(t)
	key := newHolder(t)
	for _, id := range []string{"%ff%fe", strings.Repeat("%C3%A4", 120), "a%00b", "..%2f..%2fetc", "%1b%5b2J"} {
		t.Run(id, func(t *testing.T) {
			s := get("/v1/recordings/"+id+"?purpose=play", key, "sega_ses_"+b64(make([]byte, 32)))
			e := w.at(t).attack(s, api.KindUnauthenticated, "request.refuse", audit.Denied)
			if strings.ContainsAny(e.Resource, "\x00\x1b") {
				t.Errorf("resource %q", e.Resource)
			}
		})
	}
}
