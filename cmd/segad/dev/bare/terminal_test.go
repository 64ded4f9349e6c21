//go:build linux

package bare

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"

	"sega/cmd/segad/dev/devtest"
)

// screen is an interactive bash on a terminal of its own.
type screen struct {
	t    *testing.T
	pid  int // of bash, and so the session
	file *os.File
	from int // where the unread text begins

	mu   sync.Mutex
	text strings.Builder
}

// openScreen starts bash with a prompt that can be waited for; run is how lines begin in this mode.
func openScreen(t *testing.T, w *world, prefix []string) *screen {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, "bash", "--norc", "--noediting", "-i")
	c.Env = append(w.Environ(), "PS1=at> ", "TERM=dumb", "RUN="+strings.Join(prefix, " "), "PROBE="+w.probe, "LC_ALL=C")
	c.Dir = w.dir
	file, err := pty.StartWithSize(c, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, pid: c.Process.Pid, file: file}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := file.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		s.end()
		cancel()
		_ = c.Wait()
		_ = file.Close()
		<-done
	})
	s.await("at> ")
	return s
}

// await waits for text behind what was awaited before, and returns all up to its end.
func (s *screen) await(text string) string {
	s.t.Helper()
	var got string
	devtest.Eventually(s.t, patience, "the terminal does not show it", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		unread := s.text.String()[s.from:]
		at := strings.Index(unread, text)
		if at < 0 {
			return fmt.Errorf("no %q in %q", text, unread)
		}
		got = unread[:at+len(text)]
		s.from += len(got)
		return nil
	})
	return got
}

func (s *screen) press(keys string) {
	s.t.Helper()
	if _, err := s.file.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// end kills what is left of the session: jobs that have stopped outlive their shell.
func (s *screen) end() {
	out, _ := exec.Command("ps", "-o", "pid=", "-s", fmt.Sprint(s.pid)).Output()
	for _, field := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// settled waits until a program of the session is in a state of ps(1) ("+" is the foreground), which no
// terminal shows.
func (s *screen) settled(program, state string) {
	s.t.Helper()
	devtest.Eventually(s.t, patience, program+" is not in state "+state, func() error {
		out, err := exec.Command("ps", "-o", "stat=,comm=", "-s", fmt.Sprint(s.pid)).Output()
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) == 2 && strings.HasPrefix(f[0], state) && f[1] == program {
				return nil
			}
		}
		return fmt.Errorf("%v: %s", err, out)
	})
}

// jobNumber is what bash says of a job in the background.
var jobNumber = regexp.MustCompile(`\[1\] \d+`)

// step is something typed, and what is awaited then.
type step struct{ keys, await string }

// prompt waits for bash.
var prompt = step{"", "at> "}

// terminals are dialogues; $RUN is what runs a command in a mode. "sleeps", "stops", "resize" and
// "over" are no keys (see dialogue).
var terminals = map[string][]step{
	"interrupted": {{"$RUN sleep 1000\n", "sleep 1000\r\n"}, {"sleeps", ""}, {"\x03", "at> "}, {"echo code $?\n", "code 130\r\n"}},
	"quit":        {{"ulimit -c 0\n", "at> "}, {"$RUN sleep 1000\n", "sleep 1000\r\n"}, {"sleeps", ""}, {"\x1c", "at> "}, {"echo code $?\n", "code 131\r\n"}},
	"stopped, continued": {{"$RUN sleep 1000\n", "sleep 1000\r\n"}, {"sleeps", ""}, {"\x1a", "Stopped"}, prompt, {"echo code $?\n", "code 148\r\n"}, prompt, {"jobs -p | wc -l\n", "1\r\n"}, prompt,
		{"bg\n", "at> "}, {"fg >/dev/null\n", "/dev/null\r\n"}, {"sleeps", ""}, {"\x03", "at> "}, {"echo code $?\n", "code 130\r\n"}},
	"in the background":   {{"set +m\n", "at> "}, {"$RUN sh -c 'echo from behind' & wait $!; echo code $?\n", "code 0\r\n"}},
	"reads what is typed": {{"$RUN sh -c 'echo wait; read x; echo got $x'\n", "wait\r\n"}, {"typed\n", "got typed\r\n"}},
	"end of file":         {{"$RUN sh -c 'echo wait; cat; echo over'\n", "wait\r\n"}, {"\x04", "over\r\n"}},
	"background reads":    {{"$RUN sh -c 'until [ -e over ]; do sleep 0.01; done; exec cat' &\n", "at> "}, {"over", ""}, {"stops", ""}, {"\n", "Stopped"}, prompt, {"kill %1; fg >/dev/null 2>&1; echo over''\n", "over\r\n"}},
	"state":               {{"$RUN $PROBE state | grep -E '^(fd|terminal|Sig|Shd|limit)'\n", "at> "}},
	"settings kept":       {{"stty -echo -icanon min 3; $RUN stty -a | md5sum; stty sane; stty -a | md5sum\n", "-\r\n"}, {"", "-\r\n"}},
	"settings left":       {{"$RUN stty -ixon; stty -a | grep -c -- -ixon; stty ixon\n", "1\r\n"}},
	"size": {{"$RUN stty size\n", "24 80\r\n"}, prompt, {"$RUN bash -c 'trap \"stty size\" WINCH; echo wait; until [ -e over ]; do sleep 0.01; done'\n", "done'\r\n"},
		{"", "wait\r\n"}, {"resize", "30 100\r\n"}, {"over", "at> "}},
	"foreground":      {{"$RUN bash -c 'set -- $(ps -o pid=,pgid=,tpgid= -p $$); [ $1 = $2 -a $2 = $3 ] && echo leads'\n", "leads\r\n"}},
	"pipeline":        {{"echo typed | $RUN cat | $RUN tr a-z A-Z\n", "TYPED\r\n"}},
	"terminal device": {{"$RUN sh -c 'echo to the device >/dev/tty' >/dev/null 2>&1 </dev/null\n", "null\r\nto the device\r\n"}},
}

// testTerminal types the same at a shell with job control in each mode, and compares what the terminal
// shows.
func testTerminal(t *testing.T, w *world) {
	for name, steps := range terminals {
		t.Run(name, func(t *testing.T) {
			var bare string
			for i, m := range modes {
				shown := dialogue(t, w.on(t), m.prefix, steps)
				if i == 0 {
					bare = shown
				} else if diff := cmp.Diff(bare, shown); diff != "" {
					t.Errorf("%s: -bare +sega\n%s", m.name, diff)
				}
			}
		})
	}
}

// testSubShell works in a shell within a shell, each with job control.
func testSubShell(t *testing.T, w *world) {
	got := dialogue(t, w, nil, []step{
		{"export SHELL=/bin/bash HOME=$PWD; echo \"PS1='in> '\" >.bashrc; unset PS1\n", "PS1\r\n"},
		{"sega exec dev-admin\n", "in> "}, {"echo I am $SEGA_ROLE\n", "I am dev-admin\r\n"}, {"", "in> "},
		{"sleep 1000\n", "sleep 1000\r\n"}, {"sleeps", ""}, {"\x1a", "Stopped"}, {"", "in> "}, {"fg >/dev/null\n", "/dev/null\r\n"}, {"sleeps", ""}, {"\x03", "in> "},
		{"exit 7\n", "exit\r\n"}, {"echo code $?\n", "code 7\r\n"}, {"echo role $SEGA_ROLE.\n", "role .\r\n"},
	})
	if !strings.Contains(got, "[1]+  Stopped") {
		t.Errorf("%q", got)
	}
}

func dialogue(t *testing.T, w *world, prefix []string, steps []step) string {
	t.Helper()
	s := openScreen(t, w, prefix)
	var shown strings.Builder
	for _, step := range steps {
		switch step.keys {
		case "resize":
			if err := pty.Setsize(s.file, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
				t.Fatal(err)
			}
		case "over":
			if err := os.WriteFile(w.dir+"/over", nil, 0o600); err != nil {
				t.Fatal(err)
			}
		case "sleeps":
			s.settled("sleep", "S+")
		case "stops":
			s.settled("cat", "T")
		default:
			s.press(step.keys)
		}
		if step.await != "" {
			shown.WriteString(s.await(step.await))
		}
	}
	s.press("exit\n")
	return jobNumber.ReplaceAllString(shown.String(), "[1] N")
}
