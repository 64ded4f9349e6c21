//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// TestPicker picks a role on the terminal while stdout is a pipe, is asked for what the role needs, and
// finds the screen as it was.
func TestPicker(t *testing.T) {
	devtest.Need(t, "tmux", "bash")
	e := devtest.Up(t)
	p := e.LoggedIn(bob)
	file := filepath.Join(e.Data, "policy", "access.cedar")
	write(t, file, strings.Replace(read(t, file), `@id("oncall-prod-readonly")`, "@id(\"oncall-prod-readonly\")\n@require_reason(\"yes\")\n@require_ticket(\"yes\")", 1))
	devtest.Eventually(t, patience, "the policy is not loaded", func() error {
		if r := p.Sega("roles"); !strings.Contains(r.Out, "reason,ticket") {
			return fmt.Errorf("roles are\n%s", r.Out)
		}
		return nil
	})

	w := openTerminal(t, p, 80, 24, "env PS1='at> ' bash --norc --noprofile -i")
	w.await("at>")
	w.line(`echo what stood here; eval "$(sega env)"; echo "exit $? of $SEGA_ROLE ${AWS_ACCESS_KEY_ID:0:4}"`)
	w.await("role>", "> dev-admin", "  prod-readonly", "reason,ticket", "Enter pick")
	w.tmux("send-keys", "-l", "read call")
	w.await("role> read call", " 1/", "> prod-readonly")
	for _, size := range [][2]int{{40, 10}, {200, 60}, {80, 24}} {
		w.resize(size[0], size[1])
		devtest.Eventually(t, patience, "it is not drawn anew", func() error {
			lines := strings.Split(w.screen(), "\n")
			if len(lines) != size[1] || !strings.Contains(lines[0], " 1/") || len(lines[0]) != size[0] || !strings.HasPrefix(lines[2], "> prod-readonly") || !strings.HasPrefix(lines[len(lines)-1], "Enter pick") {
				return fmt.Errorf("at %v:\n%s", size, strings.Join(lines, "\n"))
			}
			return nil
		})
	}
	w.keys("Enter")
	w.await("why do you need prod-readonly?", "reason>")
	w.line("INC-7 looked into")
	w.await("which ticket", "ticket>")
	w.line("OPS-1")
	screen := w.await("exit 0 of prod-readonly ASIA")
	if !strings.Contains(screen, "what stood here") || strings.Contains(screen, "role>") {
		t.Errorf("the screen is not as it was:\n%s", screen)
	}
	got := p.Events("--kind", "aws.assume", "--role", "prod-readonly")
	if len(got) != 1 || field(got[0], "reason") != "INC-7 looked into" || field(got[0], "ticket") != "OPS-1" {
		t.Errorf("the log has %v", got)
	}

	// What was used stands above.
	w.line("clear; sega exec -- printenv SEGA_ROLE; echo exit $?")
	w.await("role>", "> prod-readonly", "  dev-admin")
	w.tmux("send-keys", "-l", "dev-admin")
	w.await("role> dev-admin", "> dev-admin")
	w.keys("Enter")
	w.await("dev-admin", "exit 0")
	var uses map[string]struct{ Count float64 }
	if err := json.Unmarshal([]byte(read(t, filepath.Join(p.Home, "uses.json"))), &uses); err != nil || len(uses) != 2 || uses["dev-admin"].Count != 1 {
		t.Errorf("uses are %v, %v", uses, err)
	}

	for _, key := range []string{"Escape", "C-c"} {
		w.line("clear; sega exec; echo exit $?")
		w.await("role>")
		w.keys(key)
		w.await("sega: cancelled", "exit 5")
	}
	w.line("clear; TERM=dumb sega exec; echo exit $?")
	w.await("ROLE is missing", "exit 2")
	w.line("clear; sega credential-process; echo exit $?")
	w.await("ROLE is missing", "exit 2")

	expect(t, p.Sega("exec"), 2, "ROLE is missing")
	expect(t, p.Sega("exec", "prod-readonly", "--reason", "x", "--ticket", "y", "--", "true"), 0)
	if again := read(t, filepath.Join(p.Home, "uses.json")); !strings.Contains(again, `"dev-admin":{"count":1,`) || strings.Contains(again, `"prod-readonly":{"count":2`) {
		t.Errorf("a script's use was counted: %s", again)
	}
	expect(t, p.Sega("logout"), 0)
	if _, err := os.Stat(filepath.Join(p.Home, "lists")); !os.IsNotExist(err) {
		t.Errorf("lists are left after a logout: %v", err)
	}
}
