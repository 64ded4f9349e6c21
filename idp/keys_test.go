package idp

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// keyWorld is an issuer with a verifier and a clock.
type keyWorld struct {
	*issuer
	v *Verifier
}

func newKeyWorld(t *testing.T) *keyWorld {
	s := newIssuer(t)
	return &keyWorld{s, s.verifier(t, nil)}
}

func (w *keyWorld) wait(d time.Duration) { w.set(func() { w.now = w.now.Add(d) }) }

func (w *keyWorld) publish(keys map[string]*rsa.PrivateKey) { w.set(func() { w.keys = keys }) }

func (w *keyWorld) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fetches
}

// verify verifies a fresh token signed with key n under an ID.
func (w *keyWorld) verify(t *testing.T, kid string, n int) error {
	t.Helper()
	_, err := w.v.Verify(t.Context(), sign(map[string]any{"kid": kid}, w.claims(nil), testKeys()[n]), "n")
	return err
}

func (w *keyWorld) want(t *testing.T, what, kid string, n int, want error) {
	t.Helper()
	if err := w.verify(t, kid, n); !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestKeysAreCachedForTheirAge(t *testing.T) {
	w := newKeyWorld(t)
	for range 5 {
		w.want(t, "cached", "k0", 0, nil)
	}
	w.wait(10*time.Minute - time.Second)
	w.want(t, "inside max-age", "k0", 0, nil)
	if w.count() != 1 {
		t.Errorf("%d fetches inside max-age, want 1", w.count())
	}
	w.wait(time.Second)
	w.want(t, "after max-age", "k0", 0, nil)
	if w.count() != 2 {
		t.Errorf("%d fetches after max-age, want 2", w.count())
	}
}

func TestNewKeyIsFoundAndOldOneGoes(t *testing.T) {
	w := newKeyWorld(t)
	w.want(t, "first", "k0", 0, nil)
	w.publish(map[string]*rsa.PrivateKey{"k1": testKeys()[1]})
	w.want(t, "old key before the next fetch", "k0", 0, nil)
	w.want(t, "new key", "k1", 1, nil)
	w.want(t, "old key after it", "k0", 0, ErrKeyUnknown)
	w.publish(map[string]*rsa.PrivateKey{})
	w.wait(10 * time.Minute)
	w.want(t, "all withdrawn", "k1", 1, ErrKeyUnknown)
}

func TestKeyUnderAnOldNameIsTheNewKey(t *testing.T) {
	w := newKeyWorld(t)
	w.want(t, "first", "k0", 0, nil)
	w.publish(map[string]*rsa.PrivateKey{"k0": testKeys()[1]})
	w.wait(10 * time.Minute)
	w.want(t, "replaced key", "k0", 0, ErrSignature)
	w.want(t, "its successor", "k0", 1, nil)
}

func TestForgedKeyIDsCannotHammer(t *testing.T) {
	w := newKeyWorld(t)
	w.want(t, "first", "k0", 0, nil)
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			if err := w.verify(t, fmt.Sprint("forged", i), 2); !errors.Is(err, ErrKeyUnknown) {
				t.Errorf("forged: %v", err)
			}
		})
	}
	group.Wait()
	if w.count() != 2 {
		t.Errorf("%d fetches, want 2: the first, and one for all forged IDs", w.count())
	}
	w.wait(59 * time.Second)
	w.want(t, "inside the minute", "forged", 2, ErrKeyUnknown)
	if w.count() != 2 {
		t.Errorf("%d fetches inside the minute, want 2", w.count())
	}
	w.wait(time.Second)
	w.publish(map[string]*rsa.PrivateKey{"k1": testKeys()[1]})
	w.want(t, "a new key a minute later", "k1", 1, nil)
	if w.count() != 3 {
		t.Errorf("%d fetches, want 3", w.count())
	}
}

func TestKeysServeThroughAnOutage(t *testing.T) {
	w := newKeyWorld(t)
	w.want(t, "first", "k0", 0, nil)
	w.set(func() { w.down = true })
	w.wait(time.Hour)
	for range 5 {
		w.want(t, "during the outage", "k0", 0, nil)
	}
	if w.count() != 2 {
		t.Errorf("%d fetches, want 2: a provider that is down is asked once a minute", w.count())
	}
	w.want(t, "an unknown key during the outage", "k1", 1, ErrKeysUnavailable)
	w.wait(24*time.Hour - time.Hour)
	w.want(t, "a day", "k0", 0, nil)
	w.wait(time.Second)
	w.want(t, "more than a day", "k0", 0, ErrKeysUnavailable)
	w.set(func() { w.down = false })
	w.wait(time.Minute)
	w.want(t, "the end of the outage", "k0", 0, nil)
}

func TestFirstFetchThatFailsIsRepeatedSoon(t *testing.T) {
	w := newKeyWorld(t)
	w.set(func() { w.down = true })
	w.want(t, "down from the start", "k0", 0, ErrKeysUnavailable)
	w.set(func() { w.down = false })
	w.wait(5 * time.Second)
	w.want(t, "five seconds later", "k0", 0, nil)
}

func TestConcurrentFirstVerificationsFetchOnce(t *testing.T) {
	w := newKeyWorld(t)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() { w.want(t, "concurrent", "k0", 0, nil) })
	}
	group.Wait()
	if w.count() != 1 {
		t.Errorf("%d fetches, want 1", w.count())
	}
}

func TestCallerThatLeavesDoesNotCostTheFetch(t *testing.T) {
	w := newKeyWorld(t)
	w.want(t, "first", "k0", 0, nil)
	w.publish(map[string]*rsa.PrivateKey{"k1": testKeys()[1]})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = w.v.Verify(gone, sign(map[string]any{"kid": "forged"}, w.claims(nil), testKeys()[2]), "n")
	w.want(t, "the new key, in the same minute", "k1", 1, nil)
}

func TestKeyAge(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                             defaultKeyAge,
		"no-store":                     defaultKeyAge,
		"max-age=600":                  10 * time.Minute,
		"public, Max-Age=600 , stale":  10 * time.Minute,
		`max-age="600"`:                10 * time.Minute,
		"max-age=0":                    minKeyAge,
		"max-age=5184000":              maxKeyAge,
		"max-age=99999999999999999999": minKeyAge,
		"max-age=-5":                   minKeyAge,
		"max-age":                      minKeyAge,
		"s-maxage=1":                   defaultKeyAge,
	} {
		if got := keyAge(header); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func TestOddKeysAreLeftOut(t *testing.T) {
	private := testKeys()[0]
	small := &rsa.PublicKey{N: new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 1023), big.NewInt(1)), E: 65537}
	entry := func(k jose.JSONWebKey) string {
		b, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	good := jose.JSONWebKey{Key: private.Public(), KeyID: "good"}
	set := `{"keys":[` + entry(good) + `,` +
		entry(jose.JSONWebKey{Key: private.Public(), KeyID: "enc", Use: "enc"}) + `,` +
		entry(jose.JSONWebKey{Key: private.Public()}) + `,` +
		entry(jose.JSONWebKey{Key: private, KeyID: "private"}) + `,` +
		entry(jose.JSONWebKey{Key: small, KeyID: "small"}) + `,` +
		entry(jose.JSONWebKey{Key: []byte("secret"), KeyID: "symmetric"}) + `,` +
		`{"kty":"OKP","crv":"X448","kid":"odd","x":"AA"}, 7, null]}`
	keys, err := parseKeys([]byte(set))
	if err != nil || len(keys) != 1 || keys[0].KeyID != "good" {
		t.Errorf("kept %d keys, %v", len(keys), err)
	}
	for name, body := range map[string]string{"empty": "", "no keys": "{}", "list": "[]", "null": `{"keys":null}`, "page": "<html>"} {
		if _, err := parseKeys([]byte(body)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if keys, err := parseKeys([]byte(`{"keys":[]}`)); err != nil || len(keys) != 0 {
		t.Errorf("empty set: %v %v", keys, err)
	}
}

func FuzzKeys(f *testing.F) {
	f.Add(`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}`)
	f.Add(`{"keys":[{"kty":"oct","k":"AA","kid":"a"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		keys, err := parseKeys([]byte(body))
		for _, k := range keys {
			if err != nil || !k.IsPublic() || k.KeyID == "" {
				t.Errorf("kept %q with %v", k.KeyID, err)
			}
		}
	})
}
