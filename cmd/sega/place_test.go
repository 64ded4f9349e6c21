package main

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sega/broker/api"
	"sega/keychain/secret"
)

func secretsDir(a *app) string { return filepath.Join(a.getenv("SEGA_HOME"), "secrets") }

// fill stores a secret, and returns an app that knows nothing of it yet.
func fill(t *testing.T, a *app) {
	t.Helper()
	store, err := a.secrets()
	if err == nil {
		err = store.Put("old", secret.FromString("1"))
	}
	if err != nil {
		t.Fatal(err)
	}
	a.store = nil
}

// TestPlace: what cannot be read any more gives way to a login, what is only locked does not.
func TestPlace(t *testing.T) {
	only := func(t *testing.T, a *app, pattern string) string {
		t.Helper()
		paths, err := filepath.Glob(filepath.Join(secretsDir(a), pattern))
		if err != nil || len(paths) != 1 {
			t.Fatalf("%s: %v, %v", pattern, paths, err)
		}
		return paths[0]
	}
	for name, c := range map[string]struct {
		env   string
		harm  func(*testing.T, *app)
		code  int
		aside bool
		talk  string
	}{
		"nothing stored":  {},
		"all well":        {harm: fill},
		"the key is gone": {harm: func(t *testing.T, a *app) { fill(t, a); must(t, os.Remove(only(t, a, "key-*"))) }, aside: true, talk: "was not found"},
		"damaged": {harm: func(t *testing.T, a *app) {
			fill(t, a)
			must(t, os.WriteFile(only(t, a, "secrets.sealed"), []byte("x"), 0o600))
		}, aside: true, talk: "damaged"},
		"nobody types the new passphrase": {env: "SEGA_KEYRING_BACKEND=passphrase", code: exitFailed},
		"a keyring that is not there":     {env: "SEGA_KEYRING_BACKEND=pass", code: exitFailed},
		"open to others": {harm: func(t *testing.T, a *app) {
			fill(t, a)
			must(t, os.Chmod(secretsDir(a), 0o755))
		}, code: exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", t.TempDir())
			a, _, talk := testApp(t, strings.Fields(c.env)...)
			a.mute = true
			if c.harm != nil {
				c.harm(t, a)
			}
			err := a.place()
			if exitCode(err) != c.code {
				t.Errorf("got %v", err)
			}
			if !strings.Contains(talk.String(), c.talk) || c.talk == "" && talk.Len() != 0 {
				t.Errorf("said %q", talk)
			}
			aside, globErr := filepath.Glob(filepath.Join(secretsDir(a), "secrets.sealed.aside-*"))
			must(t, globErr)
			if (len(aside) == 1) != c.aside {
				t.Errorf("moved aside: %v", aside)
			}
			if c.aside && !strings.Contains(talk.String(), aside[0]) {
				t.Errorf("said %q", talk)
			}
			if c.code == exitDone {
				fill(t, a)
			}
		})
	}
}

// TestPlaceOfAnotherBackend: who asks for another backend gets it with the next login.
func TestPlaceOfAnotherBackend(t *testing.T) {
	home := "SEGA_HOME=" + t.TempDir()
	a, _, _ := testApp(t, home)
	fill(t, a)
	for _, again := range []bool{false, true} {
		b, _, talk := testApp(t, home, "SEGA_KEYRING_BACKEND=")
		if err := b.place(); err != nil || talk.Len() != 0 {
			t.Errorf("again %v: %v, %q", again, err, talk)
		}
	}
	c, _, talk := testApp(t, home, "SEGA_KEYRING_BACKEND=passphrase")
	c.mute = true // the new place is of no use either
	if err := c.place(); exitCode(err) != exitFailed || !strings.Contains(talk.String(), "another backend") {
		t.Errorf("%v, %q", err, talk)
	}
}

// TestPlaceSaysThatTheKeyIsBesideTheFile where a first login finds no keyring.
func TestPlaceSaysThatTheKeyIsBesideTheFile(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
	a, _, talk := testApp(t, "SEGA_KEYRING_BACKEND=")
	if err := a.place(); err != nil || !strings.Contains(talk.String(), "can read the secrets") {
		t.Errorf("%v, %q", err, talk)
	}
	talk.Reset()
	if err := a.place(); err != nil || talk.Len() != 0 {
		t.Errorf("the second time: %v, %q", err, talk)
	}
}

// TestLoginLooksForAPlaceFirst: with a keyring that cannot be used a person is sent nowhere.
func TestLoginLooksForAPlaceFirst(t *testing.T) {
	asked := false
	var srv *httptest.Server
	srv = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = asked || !strings.HasSuffix(r.URL.Path, "sega-configuration")
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(api.Configuration{Origin: srv.URL, Issuer: srv.URL})
	}))
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600))
	a, _, talk := testApp(t, "SEGA_KEYRING_BACKEND=passphrase", "SEGA_CA_FILE="+ca)
	a.mute = true
	err := a.login(t.Context(), loginOptions{broker: srv.URL})
	if kindOf(err) != kindLocked || asked || strings.Contains(talk.String(), "browser") {
		t.Errorf("%v, asked more %v, said %q", err, asked, talk)
	}
}
