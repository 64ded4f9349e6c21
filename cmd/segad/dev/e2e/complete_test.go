//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// bashCompletion is Debian's, without which cobra's script for bash has nothing to stand on.
const bashCompletion = "/usr/share/bash-completion/bash_completion"

// TestCompletion types at real shells, whose words end where they say: names, e-mails and user@host
// are completed, without a broker.
func TestCompletion(t *testing.T) {
	devtest.Need(t, "tmux", "bash", "zsh", "fish", "ssh-keygen")
	if _, err := os.Stat(bashCompletion); err != nil {
		t.Skip("bash-completion is missing: run scripts/deps")
	}
	e := devtest.Up(t)
	p, s := e.LoggedIn(alice), e.LoggedIn(sam)
	expect(t, s.Sega("sessions"), 0, alice)
	mine := filepath.Join(t.TempDir(), "work-laptop")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", mine).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	expect(t, p.Sega("keys", "add", mine+".pub"), 0)
	e.Stop() // what follows asks nobody
	for _, person := range []*devtest.Person{p, s} {
		for _, name := range []string{"roles", "hosts"} {
			if info, err := os.Stat(filepath.Join(person.Home, "lists", name+".json")); err != nil || info.Mode() != 0o600 {
				t.Errorf("after a login there are no %s: %v", name, err)
			}
		}
	}
	lines := []struct {
		who         *devtest.Person
		typed, want string
	}{
		{p, "sega exec dev-ad", "sega exec dev-admin "},
		{p, "sega env --format pow", "sega env --format powershell "},
		{p, "sega env --chain=dev-ad", "sega env --chain=dev-admin "},
		{p, "sega ssh dev-h", "sega ssh dev-host "},
		{p, "sega ssh root@d", "sega ssh root@dev-host "},
		{s, "sega revoke user ali", "sega revoke user alice@example.com "},
		{s, "sega revoke user alice@ex", "sega revoke user alice@example.com "},
		{s, "sega revoke host dev-h", "sega revoke host dev-host "}, // who may open none
		{p, "sega keys rm work-l", "sega keys rm work-laptop "},
		{p, "sega exec dev-admin -- mktem", "sega exec dev-admin -- mktemp "},
		{p, "sega exec dev-admin -- ls /etc/host", "sega exec dev-admin -- ls /etc/host"}, // several files
		{p, "sega configur", "sega configure "},
	}
	for shell, start := range map[string]string{
		"bash": "env PS1='at> ' HISTFILE= bash --norc --noprofile -i",
		"zsh":  "env PS1='at> ' zsh -f -i",
	} {
		for _, who := range []*devtest.Person{p, s} {
			t.Run(shell+" of "+who.Email, func(t *testing.T) {
				w := openTerminal(t, who, 100, 30, start)
				w.await("at>")
				script := filepath.Join(t.TempDir(), "_sega")
				if r := who.Sega("completion", shell); r.Code != 0 || os.WriteFile(script, []byte(r.Out), 0o600) != nil {
					t.Fatalf("exit %d", r.Code)
				}
				w.line(map[string]string{"bash": ". " + bashCompletion + "; . " + script, "zsh": "autoload -U compinit; compinit -u -D; . " + script}[shell] + "; clear; echo it is' 'ready")
				w.await("it is ready")
				for _, c := range lines {
					if c.who == who {
						w.tmux("send-keys", "-l", c.typed)
						w.keys("Tab")
						w.tmux("send-keys", "-l", "X")
						w.await("at> " + c.want + "X")
						w.keys("C-c")
						w.line("clear")
					}
				}
			})
		}
	}
	t.Run("fish", func(t *testing.T) {
		for _, c := range lines {
			r := c.who.Run("fish", "--no-config", "-c", `sega completion fish | source; complete -C "$argv[1]"`, c.typed)
			want := strings.TrimPrefix(strings.TrimSpace(c.want), c.typed[:strings.LastIndexByte(c.typed, ' ')+1])
			if first, _, _ := strings.Cut(r.Out, "\n"); r.Code != 0 || !strings.HasPrefix(first, want) {
				t.Errorf("%s: exit %d, %q, want %q\n%s", c.typed, r.Code, r.Out, want, r.Err)
			}
		}
	})
}

// TestCompletionOfPowerShell: the script is there. No PowerShell runs it here.
func TestCompletionOfPowerShell(t *testing.T) {
	expect(t, somebody(t).Sega("completion", "powershell"), 0, "Register-ArgumentCompleter", "sega")
}
