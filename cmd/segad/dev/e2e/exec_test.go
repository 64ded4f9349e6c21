//go:build linux

package e2e

import (
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

func TestExec(t *testing.T) {
	devtest.Need(t, "/usr/bin/aws")
	e := devtest.Up(t)
	alice := e.LoggedIn("alice@example.com")
	r := alice.Sega("exec", "dev-admin", "--", "/usr/bin/aws", "sts", "get-caller-identity")
	if r.Code != 0 || !strings.Contains(r.Out, "assumed-role/dev-admin/alice@example.com") {
		t.Errorf("exit %d\n%s%s", r.Code, r.Out, r.Err)
	}
	if r := alice.Sega("exec", "dev-admin", "--", "sh", "-c", "exit 7"); r.Code != 7 {
		t.Errorf("exit %d, want the child's 7", r.Code)
	}
	r = alice.Sega("exec", "prod-readonly", "--", "true")
	if r.Code != 3 || !strings.Contains(r.Err, "oncall") || !strings.Contains(r.Err, "oncall-prod-readonly") {
		t.Errorf("exit %d, want 3 and the group and policy named\n%s", r.Code, r.Err)
	}
}
