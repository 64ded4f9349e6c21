package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sega/broker/api"
	"sega/broker/api/dpop"
	"sega/broker/client"
	"sega/keychain/secret"
)

// fakeBroker answers one thing to everything; the real one has tests of its own.
func fakeBroker(t testing.TB, answer any) *session {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set(api.HeaderNonce, "nonce")
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	key, err := dpop.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	a, _, _ := testApp(t, "USER=alice")
	s := &session{app: a, kept: saved{Origin: srv.URL, Key: key}}
	s.Client, err = client.New(client.Config{Origin: srv.URL, RootCAs: pool, Key: key, Token: func() secret.Secret { return secret.FromString("t") }, UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *session) pin(t testing.TB, c api.Configuration) {
	t.Helper()
	data, err := json.Marshal(pinned{Configuration: c})
	if err == nil {
		err = s.app.writeFile("broker.json", data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestSSHConfigNamesHosts: those that are allowed and plainly named, each with its only login.
func TestSSHConfigNamesHosts(t *testing.T) {
	s := fakeBroker(t, api.Hosts{Hosts: []api.Host{
		{Name: "web-1", Logins: []string{"deploy"}, Allowed: true}, {Name: "web-2", Logins: []string{"deploy", "root"}, Allowed: true},
		{Name: "secret-1", Logins: []string{}, Why: "no"}, {Name: "evil\nProxyCommand canary", Logins: []string{"x"}, Allowed: true},
		{Name: "web-3", Logins: []string{"x\n    ProxyCommand canary"}, Allowed: true},
	}})
	s.pin(t, api.Configuration{Bastion: "bastion.example:2222", BastionName: "bastion-1", FrontCAs: []string{"ssh-ed25519 AAAA"}})
	text, err := s.sshConfig(t.Context(), ownKeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Match originalhost sega-bastion exec ", "    HostName bastion.example\n    Port 2222\n    HostKeyAlias bastion-1\n", "HostKeyAlias web-1\n    User deploy\n", "HostKeyAlias web-2\n    IdentityAgent", "HostKeyAlias web-3\n    IdentityAgent"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "canary") || strings.Contains(text, "secret-1") || !strings.HasSuffix(text, "Match all\n") {
		t.Errorf("got\n%s", text)
	}
}

// TestSSHConfigOfAHostileBroker: what a broker says of itself does not become options of ssh.
func TestSSHConfigOfAHostileBroker(t *testing.T) {
	good := api.Configuration{Bastion: "bastion.example:2222", BastionName: "bastion-1", FrontCAs: []string{"ssh-ed25519 AAAA"}}
	for name, change := range map[string]func(*api.Configuration){
		"address":    func(c *api.Configuration) { c.Bastion = "x\n    ProxyCommand canary\n#:22" },
		"port":       func(c *api.Configuration) { c.Bastion = "x:22\n    ProxyCommand canary" },
		"name":       func(c *api.Configuration) { c.BastionName = "x\n    ProxyCommand canary" },
		"CA":         func(c *api.Configuration) { c.FrontCAs = []string{"ssh-ed25519 AAAA\n* ssh-ed25519 canary"} },
		"no bastion": func(c *api.Configuration) { c.Bastion = "" },
	} {
		t.Run(name, func(t *testing.T) {
			s := fakeBroker(t, api.Hosts{})
			c := good
			change(&c)
			s.pin(t, c)
			if text, err := s.sshConfig(t.Context(), ownKeyOptions{}); err == nil || text != "" {
				t.Errorf("got %v\n%s", err, text)
			}
		})
	}
}

func TestLoginAt(t *testing.T) {
	s := fakeBroker(t, api.Hosts{Hosts: []api.Host{
		{Name: "one", Logins: []string{"deploy"}, Allowed: true}, {Name: "mine", Logins: []string{"root", "alice"}, Allowed: true},
		{Name: "many", Logins: []string{"root", "deploy"}, Allowed: true}, {Name: "none", Why: "you are not in group x"},
	}})
	for host, c := range map[string]struct {
		want string
		code int
		text string
	}{
		"one": {want: "deploy"}, "mine": {want: "alice"}, "many": {code: exitUsage, text: "root, deploy"}, "none": {code: exitDenied, text: "group x"}, "ghost": {code: exitDenied, text: "ghost"},
	} {
		got, err := s.loginAt(t.Context(), host)
		if got != c.want || exitCode(err) != c.code || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
}

// TestCertifyWantsACertificate: a broker that answers with something else is not believed.
func TestCertifyWantsACertificate(t *testing.T) {
	_, public := testKey(t)
	for name, line := range map[string]string{"nothing": "", "junk": "ssh-ed25519 !!!", "a plain key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"} {
		s := fakeBroker(t, api.Certificate{Certificate: line})
		if cert, err := s.certify(t.Context(), public, sshOptions{}, nil); cert != nil || err == nil {
			t.Errorf("%s: %v, %v", name, cert, err)
		}
	}
}

// TestSealed: what lies in the store is whole, and nothing but the sealed form holds its secrets.
func TestSealed(t *testing.T) {
	key, err := dpop.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	was := saved{Origin: "https://sega.test", LogKey: "log+key", Issuer: "https://idp.test", ClientID: "sega", Key: key, Refresh: secret.FromString("canary-refresh"),
		Session: api.Session{Token: secret.FromString("canary-token"), LoginID: "ses_1", Groups: []string{"g"}, MFA: true, Expires: noon, NotAfter: noon}}
	sealed, err := was.seal()
	if err != nil {
		t.Fatal(err)
	}
	is, err := unseal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if string(is.Session.Token.Reveal()) != "canary-token" || string(is.Refresh.Reveal()) != "canary-refresh" || is.Key.Thumbprint() != key.Thumbprint() {
		t.Error("a secret is lost")
	}
	for what, v := range map[string]any{"saved": was, "unsealed": is, "sealed": sealed} {
		raw, err := json.Marshal(v)
		if err != nil || strings.Contains(string(raw), "canary") || strings.Contains(string(raw), string(key.Marshal().Reveal())) {
			t.Errorf("%s: %v: %s", what, err, raw)
		}
	}
	again, err := is.seal()
	if err != nil || !again.Equal(sealed) {
		t.Errorf("it changes on the way: %v", err)
	}
	for _, junk := range []string{"", "{", "null junk", `{"key":"canary-key"}`, `{"token":"canary"`} {
		got, err := unseal(secret.FromString(junk))
		if err == nil || strings.Contains(explained(err), "canary") {
			t.Errorf("%q: %+v, %v", junk, got, err)
		}
	}
	if _, err := unseal(secret.FromString("{")); !strings.Contains(explained(err), "run: sega login") || errors.Is(err, errNotLoggedIn) {
		t.Errorf("damaged: %v", err)
	}
}
