//go:build linux

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// testShell works at an interactive shell, and replays it in a second window of the same size.
func testShell(t *testing.T, e *devtest.Env) {
	p, reviewer := e.LoggedIn(alice), e.LoggedIn(carol)
	file := filepath.Join(t.TempDir(), "edited")
	live := openTerminal(t, p, 80, 24, "sega ssh "+e.Host.Name)
	live.await("#")
	live.line("PS1='at> '; clear")
	live.await("at>")
	live.line("stty size")
	live.await("24 80")
	live.resize(100, 30)
	// The size arrives beside what is typed: ask until it is there.
	live.line("until [ \"$(stty size)\" = '30 100' ]; do :; done; echo 'it is '30 by 100")
	live.await("it is 30 by 100")

	live.line("sh -c 'echo fast asleep | tr a-z A-Z; exec sleep 1000'")
	live.await("FAST ASLEEP") // else the shell itself may get what is meant for its program
	live.keys("C-c")
	live.line("echo interrupted: $?")
	live.await("interrupted: 130")

	// vim takes the alternate screen and gives it back. When it ends it forgets what was typed ahead.
	live.line("vi -u NONE " + file + "; echo left vi: $?")
	live.await("[New File]")
	live.tmux("send-keys", "-l", "ihello from vi")
	live.keys("Escape")
	live.line(":wq")
	live.await("left vi: 0")
	live.line("cat " + file + "; echo 'it was '$?")
	live.await("hello from vi", "it was 0")
	if got, err := os.ReadFile(file); err != nil || string(got) != "hello from vi\n" {
		t.Errorf("vi wrote %q, %v", got, err)
	}
	// Once more, drawing on the screen itself and leaving it as it drew it.
	live.line("vi -u NONE --cmd 'set t_ti= t_te= nomore' " + file + "; echo left it again: $?")
	live.await("~")
	live.line(":q")
	live.await("left it again: 0")
	live.line("exit")
	live.await("[exit 0]")
	want, _, found := strings.Cut(live.quiet(), "\nConnection to ")
	if !found || !strings.Contains(want, "~") {
		t.Fatalf("the screen ends otherwise than ssh ends:\n%s", live.screen())
	}

	sessions := reviewer.Events("--kind", "session.start", "--user", alice)
	id := field(sessions[len(sessions)-1], "session_id")
	replay := openTerminal(t, reviewer, 100, 30, "sega audit play --instant --reason test "+id)
	replay.await("[exit 0]")
	got, _, _ := strings.Cut(replay.quiet(), "\n[exit 0]")
	if got = strings.TrimRight(got, "\n"); got != want {
		t.Errorf("the replay ends with\n%s\n----- but the person saw\n%s", got, want)
	}
}

// testHangup closes the window over a running shell: the session ends, and its recording is whole.
func testHangup(t *testing.T, e *devtest.Env) {
	p, reviewer := e.LoggedIn(alice), e.LoggedIn(carol)
	w := shellOf(t, p, "sega ssh "+e.Host.Name)
	w.line("echo last'' words; sleep 1000")
	w.await("last words")
	live := sessionIDs(t, p, "ssh", alice)
	if len(live) != 1 {
		t.Fatalf("alice has the SSH sessions %q", live)
	}
	w.tmux("kill-server")
	devtest.Eventually(t, patience, "the session lives on", func() error {
		if len(sessionIDs(t, p, "ssh", alice)) != 0 || len(reviewer.Events("--kind", "session.end", "--session", live[0])) != 1 {
			return errors.New("it is listed, or has no end")
		}
		return nil
	})
	if v := show(t, reviewer, live[0]); v.Recording != "complete" || v.Ended == nil {
		t.Errorf("shown: %+v", v)
	}
	expect(t, reviewer.Sega("audit", "play", live[0], "--reason", "test"), 0, "last words")
}
