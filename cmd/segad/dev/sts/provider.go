package sts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Provider is an IAM OIDC provider of an account.
type Provider struct {
	Account   string   // 12 digits
	URL       string   // https://HOST[/PATH]; unlike IAM's, with a port where it is on loopback
	Audiences []string // 1 to 100
}

// ARN returns the provider's, which trust policies name.
func (p Provider) ARN() string {
	return "arn:aws:iam::" + p.Account + ":oidc-provider/" + strings.TrimPrefix(p.URL, "https://")
}

func (p Provider) check() error {
	u, err := url.Parse(p.URL)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsAny(p.URL, "?#") || strings.HasSuffix(p.URL, "/"):
		return fmt.Errorf("sts: %q is not the URL of an OIDC provider", p.URL)
	case !accountNumber.MatchString(p.Account):
		return fmt.Errorf("sts: provider %s: %q is not an account", p.URL, p.Account)
	case len(p.Audiences) < 1 || len(p.Audiences) > 100 || slices.Contains(p.Audiences, ""):
		return fmt.Errorf("sts: provider %s: 1 to 100 audiences", p.URL)
	}
	return nil
}

// Bounds of what a provider may publish and of how long it is believed.
const (
	maxDocument  = 64 << 10
	maxKeySetAge = time.Hour
	fetchTime    = 5 * time.Second
)

// keySets fetches providers' keys and keeps them for as long as their answer's max-age says. A key that
// is not in a kept set is not asked for anew: AWS tells nothing of when it would, so whoever rotates must
// not need it.
type keySets struct {
	http *http.Client
	now  func() time.Time

	mu   sync.Mutex
	kept map[string]keptKeys // by URL of the provider
}

type keptKeys struct {
	keys []jwk
	due  time.Time
}

// unreachableError says that a provider did not answer, or failed.
type unreachableError struct{ error }

// of returns the keys that a provider publishes.
func (k *keySets) of(ctx context.Context, issuer string) ([]jwk, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if kept, ok := k.kept[issuer]; ok && k.now().Before(kept.due) {
		return kept.keys, nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	keys, age, err := k.fetch(ctx, issuer)
	if err != nil {
		return nil, err
	}
	k.kept[issuer] = keptKeys{keys, k.now().Add(age)}
	return keys, nil
}

// fetch reads the discovery document and the key set that it names.
func (k *keySets) fetch(ctx context.Context, issuer string) ([]jwk, time.Duration, error) {
	var about struct {
		Issuer     string   `json:"issuer"`
		KeySet     string   `json:"jwks_uri"`
		Responses  []string `json:"response_types_supported"`
		Subjects   []string `json:"subject_types_supported"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
		Claims     []string `json:"claims_supported"`
	}
	if _, err := k.get(ctx, issuer+"/.well-known/openid-configuration", &about); err != nil {
		return nil, 0, err
	}
	u, err := url.Parse(about.KeySet)
	if err != nil || u.Scheme != "https" || about.Issuer != issuer || len(about.Responses)*len(about.Subjects)*len(about.Algorithms)*len(about.Claims) == 0 {
		return nil, 0, errors.New("the discovery document is of another issuer, or not complete")
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	age, err := k.get(ctx, about.KeySet, &set)
	if err == nil && (len(set.Keys) == 0 || len(set.Keys) > 100) {
		err = errors.New("the key set holds no key, or more than 100")
	}
	return set.Keys, age, err
}

// newKeySets takes the client's trust, and follows no redirect.
func newKeySets(client *http.Client, now func() time.Time) *keySets {
	own := http.Client{}
	if client != nil {
		own = *client
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &keySets{http: &own, now: now, kept: map[string]keptKeys{}}
}

// get fetches JSON and returns how long it may be kept.
func (k *keySets) get(ctx context.Context, from string, v any) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return 0, err
	}
	resp, err := k.http.Do(req)
	if err != nil {
		return 0, unreachableError{err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil || resp.StatusCode >= http.StatusInternalServerError {
		return 0, unreachableError{fmt.Errorf("%s: %s", from, resp.Status)}
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return 0, fmt.Errorf("%s: %s, %s", from, resp.Status, resp.Header.Get("Content-Type"))
	}
	return maxAge(resp.Header.Get("Cache-Control")), json.Unmarshal(body, v)
}

func maxAge(header string) time.Duration {
	for d := range strings.SplitSeq(header, ",") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(d), "max-age="); ok {
			if n, err := strconv.ParseUint(v, 10, 31); err == nil {
				return min(time.Duration(n)*time.Second, maxKeySetAge)
			}
		}
	}
	return 0
}
