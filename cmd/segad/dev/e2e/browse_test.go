//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"

	"sega/cmd/segad/dev/devtest"
)

// TestBrowse is a reviewer's way through `sega audit`: type, look, replay, come back, leave.
func TestBrowse(t *testing.T) {
	devtest.Need(t, "ssh", "tmux")
	e := devtest.Up(t)
	p, reviewer := e.LoggedIn(alice), e.LoggedIn(carol)
	expect(t, p.Sega("ssh", e.Host.Name, "--", "echo first'' words"), 0)
	expect(t, p.Sega("ssh", e.Host.Name, "--", "printf '\\033]0;evil\\007'; echo second'' words"), 0)
	ended(t, reviewer, "printf '\\033]0;evil\\007'; echo second'' words")

	w := openTerminal(t, reviewer, 80, 24, "sega audit")
	w.await("audit>", "session.end", "as of")
	w.tmux("send-keys", "-l", "kind:session.command user:al")
	w.await("Tab: user:" + alice)
	w.keys("Tab")
	w.await("user:"+alice, "1 of 2;")
	if screen := w.screen(); strings.Contains(screen, "session.end") || strings.Contains(screen, "user.login") {
		t.Errorf("the list did not follow:\n%s", screen)
	}
	w.keys("Down", "Enter")
	w.await("event ", "echo first'' words", "Esc back")

	w.keys("p")
	w.await("why do you replay ssh_")
	w.line("")
	w.await("a reason is needed")
	w.keys("p")
	w.await("why do you replay ssh_")
	w.line("INC-7 looked into")
	w.await("first words", "space play")
	w.keys("q")
	w.await("event ", "echo first'' words", "Esc back")
	reads := reviewer.Events("--kind", "recording.read", "--user", carol)
	if len(reads) != 1 || field(reads[0], "reason") != "INC-7 looked into" {
		t.Errorf("the log says of replays: %v", reads)
	}

	for _, size := range [][2]int{{60, 15}, {200, 50}, {80, 24}} {
		w.resize(size[0], size[1])
		devtest.Eventually(t, patience, "it is not drawn anew", func() error {
			lines := strings.Split(w.screen(), "\n")
			if last := lines[len(lines)-1]; len(lines) != size[1] || !strings.HasPrefix(lines[0], "audit> kind:") || !strings.Contains(last, "Esc back") || strings.Contains(last, "? help") != (size[0] > 60) {
				return fmt.Errorf("at %v:\n%s", size, strings.Join(lines, "\n"))
			}
			return nil
		})
	}
	w.keys("s")
	w.await("session:ssh_", "recording.read", "session.start", "INC-7")
	w.keys("BSpace")
	w.await("echo first'' words")
	w.keys("Escape")
	w.await("2 of 2;", "q leave")
	w.keys("q")
	w.await("[exit 0]")

	// What was typed at once was asked at once; nothing was asked twice running.
	before := ""
	for _, v := range reviewer.Events("--kind", "audit.read", "--user", carol) {
		filter := field(v, "details.filter")
		if strings.Contains(filter, "newest=1") && filter == before {
			t.Errorf("asked again: %s", filter)
		}
		before = filter
	}
}

// TestBrowseWithoutLogin: without a login there is nothing to browse, and the shell learns it.
func TestBrowseWithoutLogin(t *testing.T) {
	devtest.Need(t, "tmux")
	w := openTerminal(t, somebody(t), 80, 24, "sega audit")
	w.await("sega login", "[exit 4]")
}

// TestNothingAsked: no command asks the terminal anything when it starts. What a browser's library
// would ask, the person's next line would be taken for the answer to.
func TestNothingAsked(t *testing.T) {
	c := exec.Command(filepath.Join(devtest.Bin(t), "sega"), "--version")
	c.Env = []string{"TERM=xterm-256color", "HOME=" + t.TempDir()}
	terminal, err := pty.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	shown, _ := io.ReadAll(terminal) // ends with EIO, when the program has
	if err := c.Wait(); err != nil || !bytes.HasPrefix(shown, []byte("sega version")) || bytes.ContainsRune(shown, 0x1b) {
		t.Errorf("%v: %q", err, shown)
	}
	_ = terminal.Close()
}
