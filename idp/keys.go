package idp

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	defaultKeyAge   = 15 * time.Minute // where the provider sends no max-age
	minKeyAge       = time.Minute
	maxKeyAge       = time.Hour      // some send months; a key withdrawn in an emergency must go sooner
	maxKeyStale     = 24 * time.Hour // how long keys serve while they cannot be fetched
	unknownKeyPause = time.Minute    // between two fetches for unknown key IDs
	failurePause    = time.Minute    // after a failed fetch, while there are keys
	emptyPause      = 5 * time.Second
	fetchTimeout    = 10 * time.Second
	minRSABits      = 2048
)

// keySet is a provider's published keys. It fetches them when their max-age is over, and once
// more when a token names an unknown key, at most once a minute; it serves the last known keys
// while the provider is down; and a key that has gone from the set is gone with the next fetch.
// (go-oidc's RemoteKeySet keeps withdrawn keys and fetches for every forged key ID.)
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time
	gate   chan struct{} // capacity 1: who holds it fetches

	mu      sync.Mutex // guards what follows
	keys    []jose.JSONWebKey
	fetched time.Time // last success; zero: never
	due     time.Time // next scheduled fetch
	unknown time.Time // last fetch for an unknown key ID
	err     error     // of the last fetch
}

func newKeySet(url string, client *http.Client, now func() time.Time) *keySet {
	return &keySet{url: url, client: client, now: now, gate: make(chan struct{}, 1)}
}

// find returns the key with that ID for that algorithm. Errors: ErrKeyUnknown, ErrKeysUnavailable,
// and that of ctx.
func (k *keySet) find(ctx context.Context, kid, alg string) (jose.JSONWebKey, error) {
	fetched, err := k.refresh(ctx, k.isDue, false)
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	key, err := k.pick(kid, alg)
	if err == nil || fetched {
		return key, err
	}
	if _, err := k.refresh(ctx, k.mayAskForUnknown, true); err != nil {
		return jose.JSONWebKey{}, err
	}
	return k.pick(kid, alg)
}

// pick looks into the cache. While the last fetch has failed, nobody knows that a key is unknown.
func (k *keySet) pick(kid, alg string) (jose.JSONWebKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.fetched.IsZero() && k.now().Sub(k.fetched) <= maxKeyStale {
		for _, key := range k.keys {
			if key.KeyID == kid && (key.Algorithm == "" || key.Algorithm == alg) {
				return key, nil
			}
		}
		if k.err == nil {
			return jose.JSONWebKey{}, ErrKeyUnknown
		}
	}
	return jose.JSONWebKey{}, fmt.Errorf("%w: %w", ErrKeysUnavailable, k.err)
}

// isDue reports whether the keys' age asks for a fetch. Called with the lock held.
func (k *keySet) isDue() bool { return !k.now().Before(k.due) }

// mayAskForUnknown reports whether this minute's fetch for an unknown key ID is still to be had,
// so that forged ones cannot hammer the provider. Called with the lock held.
func (k *keySet) mayAskForUnknown() bool {
	return k.unknown.IsZero() || k.now().Sub(k.unknown) >= unknownKeyPause
}

// refresh fetches the keys if needed says so, one caller at a time; those who waited look again. A
// failure stays in k.err. A caller that goes away does not end the fetch: it would cost the
// others the minute's only one.
func (k *keySet) refresh(ctx context.Context, needed func() bool, forUnknown bool) (fetched bool, err error) {
	if !k.locked(needed) {
		return false, nil
	}
	select {
	case k.gate <- struct{}{}:
		defer func() { <-k.gate }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if !k.locked(needed) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	keys, age, err := k.fetch(ctx)
	k.store(keys, age, err, forUnknown)
	return true, nil
}

func (k *keySet) locked(needed func() bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return needed()
}

// store takes the result of a fetch. What the new set lacks is gone; a failure changes no key.
func (k *keySet) store(keys []jose.JSONWebKey, age time.Duration, err error, forUnknown bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if forUnknown {
		k.unknown = now
	}
	k.err = err
	switch {
	case err == nil:
		k.keys, k.fetched, k.due = keys, now, now.Add(age)
	case k.fetched.IsZero():
		k.due = now.Add(emptyPause)
	case !now.Before(k.due):
		k.due = now.Add(failurePause)
	}
}

// fetch gets the key set and how long it may serve.
func (k *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, 0, errors.New("jwks_uri is not a URL")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("the key set answered with HTTP status %d", resp.StatusCode)
	}
	keys, err := parseKeys(body)
	return keys, keyAge(resp.Header.Get("Cache-Control")), err
}

// parseKeys reads a JWK set (RFC 7517 §5): what is not a usable public signing key is left out, so
// that one odd entry does not lock everybody out. A body without "keys" is an error; an empty set is
// not, and withdraws all.
func parseKeys(body []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
		return nil, errors.New("the key set is malformed")
	}
	keys := []jose.JSONWebKey{}
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) == nil && usable(key) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// usable accepts valid public keys with an ID, for signatures, and RSA from 2048 bits.
func usable(key jose.JSONWebKey) bool {
	if key.KeyID == "" || !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
		return false
	}
	if pub, ok := key.Key.(*rsa.PublicKey); ok {
		return pub.N.BitLen() >= minRSABits
	}
	return true
}

// keyAge reads max-age (RFC 9111 §5.2.2.1), within bounds of ours.
func keyAge(cacheControl string) time.Duration {
	for directive := range strings.SplitSeq(cacheControl, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
		if err != nil {
			return minKeyAge
		}
		return min(max(time.Duration(seconds)*time.Second, minKeyAge), maxKeyAge)
	}
	return defaultKeyAge
}
