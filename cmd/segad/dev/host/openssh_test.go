//go:build unix

package host

import (
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
)

// What the client of OpenSSH sees of programs without a terminal.
func TestExec(t *testing.T) {
	w := start(t)
	options := w.options(t, issue(t, w.hopParams(), w.hop))
	tests := map[string]struct {
		command, input, stdout, stderr string
		code                           int
	}{
		"both streams and a code":   {"echo out; echo err >&2; exit 7", "", "out\n", "err\n", 7},
		"success":                   {"true", "", "", "", 0},
		"end of input":              {"cat; echo end", "some input", "some inputend\n", "", 0},
		"no end of line":            {"printf x", "", "x", "", 0},
		"killed":                    {"kill -TERM $$; echo never", "", "", "", 255},
		"input that nobody reads":   {"exec true", strings.Repeat("x", 1<<20), "", "", 0},
		"output closed early":       {"exec >&- 2>&-; cat >/dev/null; exit 3", "x", "", "", 3},
		"output of a background":    {"(sleep 0.3; echo late) & echo early", "", "early\nlate\n", "", 0},
		"home, user, no terminal":   {`cd && pwd; echo $USER; tty; echo $SSH_TTY`, "", w.home + "\n" + w.login + "\nnot a tty\n\n", "", 0},
		"nothing of the server's":   {"echo \"[$SEGA_CANARY]\"", "", "[]\n", "", 0},
		"addresses of both":         {`set -- $SSH_CONNECTION; echo $1 $3`, "", "127.0.0.1 127.0.0.1\n", "", 0},
		"a program that is missing": {"exec /no/such/program 2>/dev/null", "", "", "", 127},
	}
	t.Setenv("SEGA_CANARY", "leaked")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := run(t, w.ssh(t, options, tt.command), []byte(tt.input))
			if stdout != tt.stdout || stderr != tt.stderr || code != tt.code {
				t.Errorf("got %q, %q, %d, want %q, %q, %d", stdout, stderr, code, tt.stdout, tt.stderr, tt.code)
			}
		})
	}
	if log := w.log.String(); !strings.Contains(log, "ssh_abcdefghijkmnpqrstuv jane@corp.example") || !strings.Contains(log, "serial=4294967304") {
		t.Errorf("the log does not name key ID and serial:\n%s", log)
	}
}

func TestLoginShellWithoutTerminal(t *testing.T) {
	w := start(t)
	stdout, stderr, code := run(t, w.ssh(t, w.options(t, issue(t, w.hopParams(), w.hop))), []byte("echo \"shell $0\"\nexit 4\n"))
	if !strings.Contains(stdout, "shell -") || code != 4 {
		t.Errorf("no login shell: %q, %q, %d", stdout, stderr, code)
	}
}

func TestBulkIsExact(t *testing.T) {
	w := start(t)
	data := make([]byte, 2<<20)
	_, _ = rand.Read(data)
	stdout, stderr, code := run(t, w.ssh(t, w.options(t, issue(t, w.hopParams(), w.hop)), "tee /dev/stderr"), data)
	if stdout != string(data) || stderr != string(data) || code != 0 {
		t.Errorf("%d bytes out and %d bytes err of %d, code %d", len(stdout), len(stderr), len(data), code)
	}
}

func TestEnvironment(t *testing.T) {
	w := start(t)
	cmd := w.ssh(t, append(w.options(t, issue(t, w.hopParams(), w.hop)), "-o", "SetEnv=LC_SEGA=yes LD_PRELOAD=no LANG=C SEGA_X=no LANGUAGE=no"),
		`echo "$LC_SEGA [$LD_PRELOAD] $LANG [$SEGA_X] [$LANGUAGE]"`)
	if stdout, stderr, _ := run(t, cmd, nil); stdout != "yes [] C [] []\n" {
		t.Errorf("got %q, %q", stdout, stderr)
	}
}

func TestExitSignals(t *testing.T) {
	w := start(t)
	client := w.dial(t, issue(t, w.hopParams(), w.hop))
	for sig, want := range map[string]string{"TERM": "TERM", "KILL": "KILL", "SEGV": "SEGV", "USR1": "USR1", "ALRM": "ALRM", "VTALRM": otherSignal} {
		t.Run(sig, func(t *testing.T) {
			s, err := client.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			err = s.Run("ulimit -c 0; kill -" + sig + " $$; sleep 600")
			var exit *ssh.ExitError
			if !errors.As(err, &exit) || exit.Signal() != want {
				t.Errorf("got %v, want the signal %s", err, want)
			}
		})
	}
}

func TestSignalRequests(t *testing.T) {
	w := start(t)
	s := w.session(t)
	out := &buffer{}
	s.Stdout = out
	if err := s.Start(`trap 'echo got it' USR1; echo ready; while :; do sleep 0.05; done`); err != nil {
		t.Fatal(err)
	}
	out.await(t, "ready")
	for _, refused := range []string{"SEGV", "STOP", "SIGTERM", ""} {
		if ok, err := s.SendRequest("signal", true, ssh.Marshal(nameRequest{refused})); ok || err != nil {
			t.Errorf("signal %q is taken (%v)", refused, err)
		}
	}
	if err := s.Signal(ssh.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	out.await(t, "got it")
	if err := s.Signal(ssh.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("got %v", err)
	}
}

// terminal runs OpenSSH's client on a terminal of its own. end returns the client's exit code.
func (w *world) terminal(t *testing.T, size *pty.Winsize, args ...string) (master *os.File, out *buffer, end func() int) {
	t.Helper()
	cmd := w.ssh(t, append(w.options(t, issue(t, w.hopParams(), w.hop)), "-tt", "-e", "none"), args...)
	cmd.Env = append(os.Environ(), "TERM=xterm-256color")
	master, err := pty.StartWithSize(cmd, size)
	if err != nil {
		t.Fatal(err)
	}
	out = &buffer{}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(out, master)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = master.Close()
	})
	return master, out, func() int {
		<-read
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode()
	}
}

func TestTerminalSize(t *testing.T) {
	w := start(t)
	master, out, end := w.terminal(t, &pty.Winsize{Rows: 41, Cols: 101},
		`trap 'stty size; exit 3' WINCH; echo "$TERM $(test "$(tty)" = "$SSH_TTY" && echo same) err" >&2; stty size; while :; do sleep 0.05; done`)
	out.await(t, "41 101")
	out.await(t, "xterm-256color same err")
	if err := pty.Setsize(master, &pty.Winsize{Rows: 52, Cols: 133}); err != nil {
		t.Fatal(err)
	}
	out.await(t, "52 133")
	if code := end(); code != 3 {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestCtrlCAndJobControl(t *testing.T) {
	w := start(t)
	master, out, end := w.terminal(t, &pty.Winsize{Rows: 24, Cols: 80})
	say := func(line string) {
		if _, err := io.WriteString(master, line); err != nil {
			t.Fatal(err)
		}
	}
	// Programs speak only once they have left the shell's own signal handlers behind.
	say("set -o | grep mon''itor; sh -c 'echo \"run\"ning; exec sleep 600'\n")
	out.await(t, "running")
	say("\x03")
	out.await(t, "^C")
	say("sh -c 'echo \"ali\"ve; exec sleep 600' &\n")
	out.await(t, "alive")
	say("kill %1; wait %1; echo \"died\" $?; exit 5\n")
	out.await(t, "died 143")
	if code := end(); code != 5 {
		t.Errorf("exit code %d", code)
	}
	for _, bad := range []string{"no job control", "can't access tty", "no such job"} {
		if strings.Contains(out.String(), bad) {
			t.Errorf("%s:\n%s", bad, out)
		}
	}
}

func TestTerminalNeedsItsExtension(t *testing.T) {
	w := start(t)
	p := w.hopParams()
	p.PTY = false
	_, stderr, _ := run(t, w.ssh(t, append(w.options(t, issue(t, p, w.hop)), "-tt"), "tty"), nil)
	if !strings.Contains(stderr, "PTY allocation request failed") {
		t.Errorf("a terminal without %s: %q", extPTY, stderr)
	}
}

func TestSFTP(t *testing.T) {
	w := start(t)
	s := w.session(t)
	_, err := sftpServer()
	if asked := s.RequestSubsystem("sftp"); (asked == nil) != (err == nil) {
		t.Errorf("the subsystem answers %v where looking for the program says %v", asked, err)
	}
	if err := w.session(t).RequestSubsystem("netconf"); err == nil {
		t.Error("a subsystem that does not exist opens")
	}
	if err != nil {
		return // nothing to copy with; the answer has been checked
	}
	dir := t.TempDir()
	from, to := write(t, dir, "from", strings.Repeat("content\n", 50000)), filepath.Join(dir, "to")
	cmd := w.ssh(t, w.options(t, issue(t, w.hopParams(), w.hop)), "-s", "sftp")
	copying := append([]string{"scp", "-s", "-P", cmd.Args[len(cmd.Args)-4]}, cmd.Args[1:len(cmd.Args)-5]...)
	copying = append(copying, from, w.login+"@127.0.0.1:"+to)
	if cmd.Path, err = exec.LookPath("scp"); err != nil {
		t.Fatal(err)
	}
	cmd.Args = copying
	_, stderr, code := run(t, cmd, nil)
	got, err := os.ReadFile(to)
	if code != 0 || err != nil || string(got) != strings.Repeat("content\n", 50000) {
		t.Errorf("scp: %d, %q, %v, %d bytes", code, stderr, err, len(got))
	}
}

// Forwarding of every kind is refused, although the certificate would permit it.
func TestNothingIsForwarded(t *testing.T) {
	w := start(t)
	client := w.dial(t, issue(t, w.hopParams(), w.hop))
	if c, err := client.Dial("tcp", w.addr.String()); err == nil {
		c.Close()
		t.Error("direct-tcpip opens")
	}
	if l, err := client.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
		t.Error("tcpip-forward opens")
	}
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"auth-agent-req@openssh.com", "x11-req", "break", "unknown"} {
		if ok, err := s.SendRequest(kind, true, nil); ok || err != nil {
			t.Errorf("%s: %v, %v", kind, ok, err)
		}
	}
}

func TestSessionRules(t *testing.T) {
	w := start(t)
	client := w.dial(t, issue(t, w.hopParams(), w.hop))
	var sessions []*ssh.Session
	for range maxSessions {
		s, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, s)
	}
	if _, err := client.NewSession(); err == nil {
		t.Error("more sessions than one connection may have")
	}
	s := sessions[0]
	if ok, _ := s.SendRequest("window-change", true, ssh.Marshal(windowRequest{Cols: 1, Rows: 1})); ok {
		t.Error("a size without a terminal")
	}
	if ok, _ := s.SendRequest("exec", true, []byte("short")); ok {
		t.Error("a malformed exec is taken")
	}
	if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 24, 80, nil); err == nil {
		t.Error("two terminals")
	}
	if err := s.WindowChange(33, 99); err != nil {
		t.Error(err)
	}
	out := &buffer{}
	s.Stdout = out
	if err := s.Start("stty size; read x"); err != nil {
		t.Fatal(err)
	}
	out.await(t, "33 99")
	for _, kind := range []string{"exec", "subsystem", "shell"} {
		if ok, _ := s.SendRequest(kind, true, ssh.Marshal(nameRequest{"true"})); ok {
			t.Errorf("a second program by %s", kind)
		}
	}
	if ok, _ := s.SendRequest("env", true, ssh.Marshal(envRequest{"LANG", "C"})); ok {
		t.Error("an environment after the start")
	}
}
