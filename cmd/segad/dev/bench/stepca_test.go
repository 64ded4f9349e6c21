//go:build linux

package main

import (
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// TestStepServer holds what step-ca is given: a configuration that holds no private key of the provisioner, a
// chain that its root verifies, and tokens of which no two are alike.
func TestStepServer(t *testing.T) {
	dir := t.TempDir()
	s := &stepServer{roots: x509.NewCertPool()}
	if err := s.configure(dir); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "ca.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Authority struct {
			Provisioners []struct{ Key jose.JSONWebKey }
		}
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	key := config.Authority.Provisioners[0].Key
	if !key.IsPublic() || strings.Contains(string(raw), `"d":`) {
		t.Error("the configuration holds the provisioner's private key")
	}
	c, err := s.client("crowd-000")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 3 {
		token, err := c.token()
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		var claims jwt.Claims
		if err := parsed.Claims(key, &claims); err != nil {
			t.Fatal(err)
		}
		if err := claims.Validate(jwt.Expected{Issuer: "bench", Subject: "crowd-000", AnyAudience: jwt.Audience{s.origin + stepRoute}, Time: time.Now()}); err != nil {
			t.Error(err)
		}
		seen[claims.ID] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d different tokens of 3", len(seen))
	}
}
