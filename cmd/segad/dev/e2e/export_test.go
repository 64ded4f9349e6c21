//go:build linux

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// testExport writes a recording in every form, and finds in the log who did, what for and why.
func testExport(t *testing.T, e *devtest.Env) {
	p, reviewer := e.LoggedIn(alice), e.LoggedIn(carol)
	const command = `printf 'gr\303\274n \377 \033]0;owned\007end\n'; echo err >&2`
	expect(t, p.Sega("ssh", e.Host.Name, "--", command), 0)
	id := ended(t, reviewer, command)
	export := func(args ...string) devtest.Result {
		return reviewer.Sega(append([]string{"audit", "export", id}, args...)...)
	}
	expect(t, export("--format", "raw"), 2, "--reason TEXT")
	raw := "gr\xc3\xbcn \xff \x1b]0;owned\x07end\n"
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"out": {[]string{"--format", "raw"}, raw}, "err": {[]string{"--format", "raw", "--stream", "err"}, "err\n"}, "in": {[]string{"--format", "raw", "--stream", "in"}, ""},
	} {
		if r := export(append(c.args, "--reason", "INC-7")...); r.Code != 0 || r.Out != c.want {
			t.Errorf("raw %s: exit %d, %q\n%s", name, r.Code, r.Out, r.Err)
		}
	}
	if r := export("--format", "text", "--reason", "INC-7"); r.Code != 0 || !strings.Contains(r.Out, "grün \ufffd ]0;ownedend\n") || strings.ContainsAny(r.Out, "\x1b\x07") {
		t.Errorf("text: exit %d, %q\n%s", r.Code, r.Out, r.Err)
	}
	file := filepath.Join(t.TempDir(), "a.cast")
	expect(t, export("--format", "asciicast-v3", "--reason", "INC-7", "--output", file), 0, "wrote "+file)
	cast, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(cast), `{"version":3,`) || !strings.Contains(string(cast), `"grün `) || !strings.HasSuffix(string(cast), "\"x\",\"0\"]\n") {
		t.Errorf("%v\n%s", err, cast)
	}
	expect(t, export("--reason", "INC-7", "--output", file), 1, "replaces no file")
	expect(t, p.Sega("audit", "export", id, "--reason", "mine"), 3)
	purposes := map[string]int{}
	for _, v := range reviewer.Events("--kind", "recording.read", "--session", id) {
		if field(v, "outcome") == "success" && field(v, "reason") == "INC-7" {
			purposes[field(v, "details.purpose")]++
		}
	}
	if purposes["export"] != 6 {
		t.Errorf("exports in the log: %v", purposes)
	}
}

// testPlayer replays with keys, and looks at what the terminal is afterwards.
func testPlayer(t *testing.T, e *devtest.Env) {
	p, reviewer := e.LoggedIn(alice), e.LoggedIn(carol)
	w := openTerminal(t, p, 80, 24, "sega ssh "+e.Host.Name)
	w.await("#")
	w.line("PS1='at> '; clear")
	w.await("at>")
	w.line("echo need''le; printf '\\033]0;owned\\007'")
	w.await("needle")
	w.line("sleep 4; echo all'' over") // time enough to press a key in
	w.await("all over")
	w.line("exit")
	w.await("[exit 0]")
	sessions := reviewer.Events("--kind", "session.start", "--user", alice)
	id := field(sessions[len(sessions)-1], "session_id")
	const after = "; echo code $?; stty -a | grep -o '[-]*icanon'"

	play := openTerminal(t, reviewer, 110, 30, "sega audit play --find needle "+id+after)
	play.await("Why do you look")
	play.line("INC-8")
	play.await("needle")
	play.keys("Space")
	play.await("paused")
	play.line("/NEEDLE")
	play.await("hit 1 of")
	play.keys("M")
	play.await("shell")
	play.keys("q")
	if screen := play.await("code 0", "icanon"); strings.Contains(screen, "-icanon") {
		t.Errorf("the terminal stays raw:\n%s", screen)
	}
	if title := play.tmux("display-message", "-p", "#{pane_title}"); strings.Contains(title, "owned") {
		t.Errorf("title %q", title)
	}

	small := openTerminal(t, reviewer, 60, 15, "sega audit play --reason INC-8 "+id+after)
	small.await("recorded on 80×24", "press a key")
	small.keys("x")
	small.keys("Space")
	small.await("paused")
	if err := syscall.Kill(pidOf(t, "sega audit play --reason INC-8 "+id), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if screen := small.await("code 5", "icanon"); strings.Contains(screen, "-icanon") {
		t.Errorf("the terminal stays raw after a signal:\n%s", screen)
	}
	if n := len(reviewer.Events("--kind", "recording.read", "--session", id)); n == 0 {
		t.Error("a replay that the log does not know")
	}
}

// pidOf finds the one process of this environment's that was started so, apart from the shell around it.
func pidOf(t *testing.T, command string) (pid int) {
	t.Helper()
	devtest.Eventually(t, patience, "no such process", func() error {
		out, err := exec.Command("pgrep", "-fx", ".*"+command).Output()
		if err != nil || len(strings.Fields(string(out))) != 1 {
			return errors.New(string(out))
		}
		for _, c := range strings.TrimSpace(string(out)) {
			pid = pid*10 + int(c-'0')
		}
		return nil
	})
	return pid
}

// testSessionTail watches a live session from another terminal.
func testSessionTail(t *testing.T, e *devtest.Env) {
	p, reviewer := e.LoggedIn(alice), e.LoggedIn(carol)
	w := shellOf(t, p, "sega ssh "+e.Host.Name)
	w.line("echo be''fore")
	w.await("before")
	live := sessionIDs(t, p, "ssh", alice)
	if len(live) != 1 {
		t.Fatalf("alice has the SSH sessions %q", live)
	}
	expect(t, reviewer.Sega("audit", "tail", live[0]), 2, "--reason TEXT")
	watch := openTerminal(t, reviewer, 100, 30, "sega audit tail --reason INC-9 "+live[0])
	watch.await("before") // what was said first is cleared away with the rest, as it was for alice
	w.line("echo mean''while; printf '\\033]0;owned\\007'")
	watch.await("meanwhile")
	title := watch.tmux("display-message", "-p", "#{pane_title}")
	if !strings.Contains(title, "live "+live[0]) || strings.Contains(title, "owned") {
		t.Errorf("title %q", title)
	}
	second := openTerminal(t, reviewer, 100, 30, "sega audit tail --reason INC-9 "+live[0])
	second.await("meanwhile")
	second.keys("q")
	second.await("[exit 0]")
	w.line("exit")
	watch.await("the session has ended", "[exit 0]")
	expect(t, reviewer.Sega("audit", "tail", live[0], "--reason", "INC-9"), 1, "has ended")
}
