//go:build unix

package host

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
)

// stubborn starts processes that ignore SIGHUP and prints their process IDs.
const stubborn = `trap "" HUP TERM; sh -c 'trap "" HUP TERM; echo "pid $$."; sleep 600; sleep 600' & echo "pid $$."; sleep 601; wait`

// pids returns the n process IDs that a program has printed.
func pids(t *testing.T, out *buffer, n int) []int {
	t.Helper()
	var all []int
	if !eventually(func() bool {
		all = nil
		for _, part := range strings.Split(out.String(), "pid ")[1:] {
			digits, _, complete := strings.Cut(part, ".")
			if pid, err := strconv.Atoi(digits); err == nil && complete {
				all = append(all, pid)
			}
		}
		return len(all) == n
	}) {
		t.Fatalf("%d process IDs do not come: %q", n, out)
	}
	return all
}

func awaitGone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		if !eventually(func() bool { return gone(pid) }) {
			t.Errorf("process %d lives on", pid)
		}
	}
}

// Whatever ends a session ends its program and what it has started.
func TestNothingIsLeftBehind(t *testing.T) {
	ends := map[string]func(*world, *exec.Cmd){
		"the client is killed": func(_ *world, c *exec.Cmd) { _ = c.Process.Kill() },
		"the server stops":     func(w *world, _ *exec.Cmd) { _ = w.stop() },
	}
	for name, end := range ends {
		t.Run(name+" without a terminal", func(t *testing.T) {
			w, out := start(t), &buffer{}
			cmd := w.ssh(t, w.options(t, issue(t, w.hopParams(), w.hop)), stubborn)
			cmd.Stdout = out
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			left := pids(t, out, 2)
			end(w, cmd)
			_ = cmd.Wait()
			awaitGone(t, left)
		})
		t.Run(name+" with a terminal", func(t *testing.T) {
			w := start(t)
			cmd := w.ssh(t, append(w.options(t, issue(t, w.hopParams(), w.hop)), "-tt", "-e", "none"), stubborn)
			master, err := pty.Start(cmd)
			if err != nil {
				t.Fatal(err)
			}
			out, read := &buffer{}, make(chan struct{})
			go func() { defer close(read); _, _ = io.Copy(out, master) }()
			left := pids(t, out, 2)
			end(w, cmd)
			<-read
			_ = cmd.Wait()
			_ = master.Close()
			awaitGone(t, left)
		})
	}
}

// A program in front of an interactive shell has a process group of its own.
func TestForegroundJobIsEnded(t *testing.T) {
	w := start(t)
	cmd := w.ssh(t, append(w.options(t, issue(t, w.hopParams(), w.hop)), "-tt", "-e", "none"))
	master, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	out, read := &buffer{}, make(chan struct{})
	go func() { defer close(read); _, _ = io.Copy(out, master) }()
	if _, err := io.WriteString(master, `echo "p""id $$."; sh -c 'trap "" HUP TERM; echo "p""id $$."; sleep 600; sleep 600'`+"\n"); err != nil {
		t.Fatal(err)
	}
	left := pids(t, out, 2)
	_ = cmd.Process.Kill()
	<-read
	_ = cmd.Wait()
	_ = master.Close()
	awaitGone(t, left)
}

// A process that a command has put into the background keeps no output open and outlives nobody.
func TestBackgroundEndsWithItsChannel(t *testing.T) {
	w := start(t)
	out := &buffer{}
	stdout, _, code := run(t, w.ssh(t, w.options(t, issue(t, w.hopParams(), w.hop)), `sleep 600 >/dev/null 2>&1 & echo "pid $!."`), nil)
	_, _ = io.WriteString(out, stdout)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	awaitGone(t, pids(t, out, 1))
}

// What a client sends just before it closes the channel reaches the program.
func TestInputBeforeTheCloseArrives(t *testing.T) {
	w := start(t)
	file := t.TempDir() + "/got"
	ch, reqs, err := w.dial(t, issue(t, w.hopParams(), w.hop)).OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(nameRequest{"cat > " + file})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	const text = "the last words\n"
	if _, err := io.WriteString(ch, strings.Repeat(text, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := ch.Close(); err != nil {
		t.Fatal(err)
	}
	ssh.DiscardRequests(reqs)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != strings.Repeat(text, 1000) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// A server that has stopped accepts nothing, and its files are closed.
func TestRunEnds(t *testing.T) {
	w := start(t)
	w.session(t)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if _, _, code := run(t, w.ssh(t, w.options(t, issue(t, w.hopParams(), w.hop)), "true"), nil); code != 255 {
		t.Errorf("exit code %d after the end", code)
	}
}

// A client that has the server wait for its window is no reason to hang.
func TestStuckClientDoesNotHoldTheServer(t *testing.T) {
	w := start(t)
	ch, _, err := w.dial(t, issue(t, w.hopParams(), w.hop)).OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(nameRequest{"yes"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	first := make([]byte, 2)
	if _, err := io.ReadFull(ch, first); err != nil || string(first) != "y\n" {
		t.Fatal(string(first), err)
	}
	if err := w.stop(); err != nil {
		t.Error(err)
	}
}
