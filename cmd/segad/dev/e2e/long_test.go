//go:build linux

package e2e

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// testLong uses the role in the mode web-identity: for longer than the hour of role chaining, which holds
// the others.
func testLong(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	r := p.Sega("exec", "dev-long", "-d", "4h", "--", "/usr/bin/aws", "sts", "get-caller-identity")
	expect(t, r, 0, `"arn:aws:sts::111111111111:assumed-role/dev-long/alice@example.com"`)
	if r.Err != "" {
		t.Errorf("it says %q", r.Err)
	}
	expect(t, p.Sega("exec", "dev-admin", "-d", "4h", "--", "true"), 0, "session shortened from 4h to 1h")
	for _, tt := range []struct {
		role, want string
		lives      time.Duration
	}{{"dev-long", "12h", 12 * time.Hour}, {"dev-long", "90m", 90 * time.Minute}, {"dev-admin", "4h", time.Hour}} {
		r := p.Sega("credential-process", tt.role, "-d", tt.want)
		expect(t, r, 0)
		var out struct{ Expiration time.Time }
		if err := json.Unmarshal([]byte(r.Out), &out); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(out.Expiration); left > tt.lives+time.Minute || left < tt.lives-2*time.Minute {
			t.Errorf("%s for %s lives for another %v", tt.role, tt.want, left)
		}
	}
	expect(t, p.Sega("exec", "dev-long", "--chain", "dev-audit", "--", "/usr/bin/aws", "sts", "get-caller-identity"), 0, `"`+auditorARN+`"`)
	expect(t, p.Sega("roles", "--json"), 0, `"mode":"web-identity"`, `"mode":"assume-role"`)
	modes := map[string]bool{}
	for _, event := range p.Events("--kind", "aws.assume", "--user", alice, "--role", "dev-long") {
		modes[field(event, "details.mode")] = true
	}
	if len(modes) != 1 || !modes["web-identity"] {
		t.Errorf("the log says %v", modes)
	}
	expect(t, e.Person(bob).Run("segad", "issuer", "check", "--config", filepath.Join(e.Data, "broker.yaml"), "--ca-file", filepath.Join(e.Data, "ca.pem")), 0,
		"ok\t"+e.Broker+"/.well-known/openid-configuration", "ok\t"+e.Broker+"/.well-known/jwks.json")
}
