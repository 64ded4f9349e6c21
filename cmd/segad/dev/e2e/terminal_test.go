//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// terminal is a window of a tmux server of its own: a real terminal that a test types at.
type terminal struct {
	t      testing.TB
	socket string
}

// openTerminal runs a shell command as a person in a window, which then shows "[exit CODE]" and stays.
func openTerminal(t testing.TB, p *devtest.Person, width, height int, command string) *terminal {
	t.Helper()
	dir, err := os.MkdirTemp("", "sega-tmux-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	w := &terminal{t: t, socket: filepath.Join(dir, "s")}
	c := exec.Command("tmux", "-S", w.socket, "-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height),
		command+`; echo "[exit $?]"; exec sleep 3600`)
	c.Env = append(p.Environ(), "SHELL=/bin/sh", "LC_ALL=C.UTF-8")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("terminal:\n%s", w.screen())
		}
		_ = exec.Command("tmux", "-S", w.socket, "kill-server").Run()
		_ = os.RemoveAll(dir)
	})
	return w
}

func (w *terminal) tmux(args ...string) string {
	w.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", w.socket}, args...)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("tmux %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// keys presses keys by tmux's names.
func (w *terminal) keys(keys ...string) { w.tmux(append([]string{"send-keys"}, keys...)...) }

// line types a line and Enter.
func (w *terminal) line(text string) {
	w.tmux("send-keys", "-l", text)
	w.keys("Enter")
}

func (w *terminal) resize(width, height int) {
	w.tmux("resize-window", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height))
}

// screen is what stands on the terminal, without blank space at the ends.
func (w *terminal) screen() string {
	lines := strings.Split(w.tmux("capture-pane", "-p"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// await waits until every text stands on the screen, and returns it.
func (w *terminal) await(texts ...string) string {
	w.t.Helper()
	var screen string
	devtest.Eventually(w.t, patience, "the terminal does not show it", func() error {
		screen = w.screen()
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return fmt.Errorf("no %q in:\n%s", text, screen)
			}
		}
		return nil
	})
	return screen
}

// quiet waits until the screen shows the same twice, some milliseconds apart.
func (w *terminal) quiet() string {
	w.t.Helper()
	last := ""
	devtest.Eventually(w.t, patience, "the terminal does not rest", func() error {
		before := last
		if last = w.screen(); last != before || last == "" {
			return errors.New("it changes")
		}
		return nil
	})
	return last
}
