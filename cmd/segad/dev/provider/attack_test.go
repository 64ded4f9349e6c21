package provider_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sega/cmd/segad/dev/provider"
	"sega/idp"
	"sega/keychain/secret"
)

// TestMintedTokens holds the double's forged tokens against the verifier: each must fail for its
// own reason, else a test that uses it proves nothing.
func TestMintedTokens(t *testing.T) {
	w := newWorld(t, nil)
	ago := func(d time.Duration) int64 { return w.clock.now().Add(-d).Unix() }
	for _, c := range []struct {
		name   string
		claims map[string]any // replace; nil removes
		header map[string]any
		how    provider.MintOptions
		want   error
	}{
		{name: "untouched"},
		{name: "announced key", how: provider.MintOptions{Key: provider.KeyNext}},
		{name: "none", how: provider.MintOptions{Algorithm: "none"}, want: idp.ErrAlgorithm},
		{name: "HS256 keyed with the public key", how: provider.MintOptions{Algorithm: "HS256"}, want: idp.ErrAlgorithm},
		{name: "HS256 called RS256", how: provider.MintOptions{Algorithm: "HS256"}, header: map[string]any{"alg": "RS256"}, want: idp.ErrSignature},
		{name: "foreign key", how: provider.MintOptions{Key: provider.KeyForeign}, want: idp.ErrSignature},
		{name: "unknown kid", header: map[string]any{"kid": "nobody"}, want: idp.ErrKeyUnknown},
		{name: "no kid", header: map[string]any{"kid": nil}, want: idp.ErrKeyUnknown},
		{name: "other audience", claims: map[string]any{"aud": "other"}, want: idp.ErrAudience},
		{name: "other issuer", claims: map[string]any{"iss": w.Issuer() + "/"}, want: idp.ErrIssuer},
		{name: "azp of another client", claims: map[string]any{"azp": "other"}, want: idp.ErrAuthorizedParty},
		{name: "expired", claims: map[string]any{"exp": ago(time.Minute)}, want: idp.ErrTokenExpired},
		{name: "not yet", claims: map[string]any{"nbf": ago(-2 * time.Minute)}, want: idp.ErrNotYetValid},
		{name: "old", claims: map[string]any{"iat": ago(121 * time.Second)}, want: idp.ErrTokenOld},
		{name: "another login's nonce", claims: map[string]any{"nonce": "n-2"}, want: idp.ErrNonce},
		{name: "no nonce", claims: map[string]any{"nonce": nil}, want: idp.ErrNonce},
	} {
		t.Run(c.name, func(t *testing.T) {
			claims := w.Claims("ann@corp.example", "n-1")
			for name, value := range c.claims {
				claims[name] = value
				if value == nil {
					delete(claims, name)
				}
			}
			_, err := w.verifier.Verify(t.Context(), secret.FromString(w.Mint(claims, c.header, c.how)), "n-1")
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	if w.Claims("nobody@corp.example", "") != nil {
		t.Error("an unknown user has claims")
	}
}

func TestRotationAndWithdrawal(t *testing.T) {
	w := newWorld(t, func(c *provider.Config) { c.KeysMaxAge = 5 * time.Minute })
	old := w.Mint(w.Claims("ann@corp.example", "n"), nil, provider.MintOptions{})
	verify := func(token string) error {
		_, err := w.verifier.Verify(t.Context(), secret.FromString(token), "n")
		return err
	}
	if err := verify(old); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second key to sign is one that the verifier has never seen
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	if err := verify(w.Mint(w.Claims("ann@corp.example", "n"), nil, provider.MintOptions{})); err != nil {
		t.Errorf("signed with a new key: %v", err)
	}
	if err := verify(old); err != nil {
		t.Errorf("a retired key that is still published: %v", err)
	}
	if err := w.DropRetired(); err != nil {
		t.Fatal(err)
	}
	w.clock.add(5 * time.Minute)
	stale := w.Claims("ann@corp.example", "n")
	if err := verify(w.Mint(stale, nil, provider.MintOptions{})); err != nil {
		t.Errorf("after the withdrawal of others: %v", err)
	}
	if err := verify(old); !errors.Is(err, idp.ErrKeyUnknown) {
		t.Errorf("signed with a withdrawn key: %v", err)
	}
}

func TestOnlyLoopbackIsServed(t *testing.T) {
	ln := listen(t)
	defer ln.Close()
	for name, cfg := range map[string]provider.Config{
		"no listener":      {ClientID: clientID},
		"every address":    {ClientID: clientID, Listener: everywhere{ln}},
		"issuer elsewhere": {ClientID: clientID, Listener: ln, Issuer: "http://login.corp.example"},
		"issuer with path": {ClientID: clientID, Listener: ln, Issuer: "http://127.0.0.1:1/x"},
		"no client":        {Listener: ln},
	} {
		if _, err := provider.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestForeignHostIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.Issuer()+"/keys", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "rebound.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// journal is a log that requests write at once.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func TestLogHoldsNoSecret(t *testing.T) {
	var log journal
	w := newWorld(t, func(c *provider.Config) {
		c.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	tokens := w.mustLogin(t)
	d := w.device(t)
	if _, err := w.poll(t, d, 0); !errors.Is(err, idp.ErrPending) {
		t.Fatal(err)
	}
	mistyped := credentials(ann())
	mistyped.Email, mistyped.Password = ann().Password, "x"
	if _, err := w.browserLogin(t.Context(), w.login("n"), mistyped); err == nil {
		t.Fatal("logged in with the password as the e-mail address")
	}
	if _, err := w.idp.Refresh(t.Context(), clientID, tokens.RefreshToken); err != nil {
		t.Fatal(err)
	}
	if _, err := w.idp.Refresh(t.Context(), clientID, tokens.RefreshToken); err == nil {
		t.Fatal("a refresh token worked twice")
	}
	text := log.String()
	if !strings.Contains(text, "authenticated") || !strings.Contains(text, "invalid_grant") {
		t.Errorf("log is silent: %s", text)
	}
	for name, s := range map[string]secret.Secret{
		"ID token": tokens.IDToken, "access token": tokens.AccessToken, "refresh token": tokens.RefreshToken,
		"device code": d.Code, "password": secret.FromString(ann().Password), "TOTP secret": secret.FromString(ann().TOTPSecret),
	} {
		if strings.Contains(text, string(s.Reveal())) {
			t.Errorf("the log holds the %s", name)
		}
	}
}
