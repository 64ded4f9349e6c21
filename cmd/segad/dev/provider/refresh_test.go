package provider_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"sega/cmd/segad/dev/provider"
	"sega/idp"
	"sega/keychain/secret"
)

func TestRefreshKeepsTheLogin(t *testing.T) {
	w := newWorld(t, nil)
	tokens := w.mustLogin(t)
	was, err := w.verifier.Verify(t.Context(), tokens.IDToken, "n-1")
	if err != nil {
		t.Fatal(err)
	}
	w.clock.add(2 * time.Hour)
	renewed, err := w.idp.Refresh(t.Context(), clientID, tokens.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if renewed.RefreshToken.Equal(tokens.RefreshToken) {
		t.Error("the refresh token did not rotate")
	}
	id, err := w.verifier.VerifyRefreshed(t.Context(), renewed.IDToken, was)
	if err != nil || !id.AuthTime.Equal(was.AuthTime) || !id.MFA || id.Digest == was.Digest {
		t.Errorf("refreshed: %+v, %v", id, err)
	}
	if _, err := w.verifier.Verify(t.Context(), renewed.IDToken, "n-1"); !errors.Is(err, idp.ErrNonce) {
		t.Errorf("a refreshed token as a login: %v", err)
	}
	if _, err := w.verifier.Verify(t.Context(), tokens.IDToken, "n-1"); !errors.Is(err, idp.ErrTokenExpired) {
		t.Errorf("the first ID token an hour later: %v", err)
	}
}

func TestRefreshOfAnotherLoginIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	tokens := w.mustLogin(t)
	was, err := w.verifier.Verify(t.Context(), tokens.IDToken, "n-1")
	if err != nil {
		t.Fatal(err)
	}
	w.clock.add(time.Minute)
	later := w.mustLogin(t)
	renewed, err := w.idp.Refresh(t.Context(), clientID, later.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.verifier.VerifyRefreshed(t.Context(), renewed.IDToken, was); !errors.Is(err, idp.ErrRenewal) {
		t.Errorf("another time of authentication: %v", err)
	}
	other, err := w.browserLogin(t.Context(), w.login("n-2"), credentials(bob()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.verifier.VerifyRefreshed(t.Context(), other.IDToken, was); !errors.Is(err, idp.ErrRenewal) {
		t.Errorf("another person: %v", err)
	}
}

func TestReuseOfARefreshTokenKillsTheLogin(t *testing.T) {
	for _, c := range []struct {
		name   string
		leeway time.Duration
		wait   time.Duration
		dies   bool
	}{
		{"without leeway", 0, 0, true},
		{"inside the leeway", 30 * time.Second, 29 * time.Second, false},
		{"after the leeway", 30 * time.Second, 30 * time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(cfg *provider.Config) { cfg.RefreshLeeway = c.leeway })
			first := w.mustLogin(t)
			second, err := w.idp.Refresh(t.Context(), clientID, first.RefreshToken)
			if err != nil {
				t.Fatal(err)
			}
			w.clock.add(c.wait)
			_, err = w.idp.Refresh(t.Context(), clientID, first.RefreshToken)
			if errors.Is(err, idp.ErrInvalidGrant) != c.dies {
				t.Fatalf("reuse: %v", err)
			}
			if !c.dies {
				return
			}
			if _, err := w.idp.Refresh(t.Context(), clientID, second.RefreshToken); !errors.Is(err, idp.ErrInvalidGrant) {
				t.Errorf("the newest token survived a reuse: %v", err)
			}
			if _, err := w.verifier.UserInfoGroups(t.Context(), second.AccessToken, "00uann"); err == nil {
				t.Error("the access token survived a reuse")
			}
		})
	}
}

func TestRevoke(t *testing.T) {
	w := newWorld(t, nil)
	tokens := w.mustLogin(t)
	if err := w.idp.Revoke(t.Context(), clientID, tokens.AccessToken); err != nil {
		t.Fatal(err)
	}
	if _, err := w.verifier.UserInfoGroups(t.Context(), tokens.AccessToken, "00uann"); err == nil {
		t.Error("a revoked access token works")
	}
	tokens, err := w.idp.Refresh(t.Context(), clientID, tokens.RefreshToken)
	if err != nil {
		t.Fatalf("an access token's revocation took the refresh token along: %v", err)
	}
	if err := w.idp.Revoke(t.Context(), clientID, tokens.RefreshToken); err != nil {
		t.Fatal(err)
	}
	if _, err := w.idp.Refresh(t.Context(), clientID, tokens.RefreshToken); !errors.Is(err, idp.ErrInvalidGrant) {
		t.Errorf("a revoked refresh token: %v", err)
	}
	if _, err := w.verifier.UserInfoGroups(t.Context(), tokens.AccessToken, "00uann"); err == nil {
		t.Error("the access token survived its refresh token")
	}
	if err := w.idp.Revoke(t.Context(), clientID, secret.FromString("unknown")); err != nil {
		t.Errorf("an unknown token: %v", err)
	}
}

func TestStateSurvivesARestart(t *testing.T) {
	var cfg provider.Config
	w := newWorld(t, func(c *provider.Config) { cfg = *c; c.Listener = listen(t); c.Issuer = "" })
	tokens := w.mustLogin(t)
	w.clock.add(time.Minute)
	was, err := w.verifier.Verify(t.Context(), tokens.IDToken, "n-1")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(cfg.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []secret.Secret{tokens.RefreshToken, tokens.AccessToken, tokens.IDToken} {
		if strings.Contains(string(content), text(s)) {
			t.Error("the state file holds a token in the clear")
		}
	}
	if info, err := os.Stat(cfg.StateFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("state file: %v %v", info.Mode(), err)
	}

	cfg.Issuer = w.Issuer() // the same provider, moved to another listener
	moved := cfg
	moved.Issuer = ""
	second, err := provider.New(moved)
	if err != nil {
		t.Fatal(err)
	}
	run(t, second)
	after := &world{Provider: second, clock: w.clock, ports: w.ports}
	after.connect(t)
	renewed, err := after.idp.Refresh(t.Context(), clientID, tokens.RefreshToken)
	if err != nil {
		t.Fatalf("refresh after the restart: %v", err)
	}
	was.Issuer = second.Issuer()
	if _, err := after.verifier.VerifyRefreshed(t.Context(), renewed.IDToken, was); err != nil {
		t.Errorf("refreshed token: %v", err)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func TestDamagedStateIsRefused(t *testing.T) {
	path := t.TempDir() + "/state"
	if err := os.WriteFile(path, []byte(`{"keys":[{"kid":"x","pkcs8":"AAAA"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	defer ln.Close()
	if _, err := provider.New(provider.Config{Listener: ln, ClientID: clientID, StateFile: path}); err == nil {
		t.Error("a damaged key was accepted")
	}
}
