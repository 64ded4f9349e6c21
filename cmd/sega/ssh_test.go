package main

import (
	"strings"
	"testing"
)

// TestOptionsOfSSHAreNoCommand: what stands behind HOST runs there. An option of ssh is not sent to the host's shell.
func TestOptionsOfSSHAreNoCommand(t *testing.T) {
	for name, args := range map[string][]string{"behind HOST": {"ssh", "web-1", "-L", "1:a:1"}, "behind --": {"ssh", "web-1", "--", "-A"}, "before HOST": {"ssh", "-L", "1:a:1", "web-1"}} {
		t.Run(name, func(t *testing.T) {
			a, _, talk := testApp(t)
			if code := run(t.Context(), args, a); code != 2 {
				t.Errorf("exit code %d", code)
			}
			if !strings.Contains(talk.String(), "sega configure --ssh") {
				t.Errorf("it says %q", talk)
			}
		})
	}
}
