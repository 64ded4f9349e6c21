//go:build linux

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// testForward: a refused forwarding is a denial, and denials are events.
func testForward(t *testing.T, e *devtest.Env) {
	bob, carol := e.LoggedIn("bob@example.com"), e.LoggedIn("carol@example.com")
	conf := filepath.Join(t.TempDir(), "ssh_config")
	r := bob.Sega("configure", "--ssh", "--print")
	if err := os.WriteFile(conf, []byte(r.Out), 0o600); err != nil || r.Code != 0 {
		t.Fatalf("%v, exit %d\n%s", err, r.Code, r.Err)
	}
	if r := bob.Run("ssh", "-F", conf, "-R", "0:127.0.0.1:1", "dev-host", "echo works"); r.Code != 0 || r.Out != "works\n" {
		t.Errorf("exit %d, %q\n%s", r.Code, r.Out, r.Err)
	}
	devtest.Eventually(t, 10*time.Second, "the refused forward is no event", func() error {
		for _, v := range carol.Events("--user", bob.Email, "--kind", "forward.open", "--outcome", "denied") {
			if d, ok := v["details"].(map[string]any); ok && d["type"] == "tcpip-forward" {
				return nil
			}
		}
		return errors.New("none found")
	})
}
