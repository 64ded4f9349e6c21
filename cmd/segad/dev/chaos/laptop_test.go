//go:build linux

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

const (
	// atOnce is for what needs nobody else, on a machine that does much besides.
	atOnce = 8 * time.Second
	// aCall is the time after which a call to somebody who does not answer is given up.
	aCall = 30 * time.Second
	// shortLease is how long an agent answers without the broker's word.
	shortLease = 5 * time.Second
	// processTime is what credential-process gives itself: SDKs wait for a minute.
	processTime = 50 * time.Second
)

// newLaptops are a broker behind a line, and people with laptops of their own.
func newLaptops(t *testing.T, edit func(*rig)) (*rig, *line) {
	t.Helper()
	var n *line
	r := newRig(t, func(r *rig) {
		n = newLine(t, r.file.Listen)
		r.file.Origin = "https://" + n.address()
		r.bfile.Broker, r.file.Lease = r.file.Origin, shortLease
		if edit != nil {
			edit(r)
		}
	})
	cert, err := tlsConfig(r)
	if err != nil {
		t.Fatal(err)
	}
	n.page = cert
	r.startBroker()
	return r, n
}

// laptop is a person's machine: a home, a sega, and what is in its environment.
type laptop struct {
	*devtest.Person
	program string
	env     []string
	secrets []string // that it was given, and may not show unasked
}

// laptop is one with the agent, or without.
func (r *rig) laptop(t *testing.T, email string, withAgent bool, env ...string) *laptop {
	t.Helper()
	p := r.With(t).Person(email)
	l := &laptop{Person: p, program: filepath.Join(r.Bin, "sega")}
	l.env = append([]string{"SEGA_DEV_USER=" + email, "BROWSER='" + filepath.Join(r.Bin, "segad") + "' dev browser %s"}, env...)
	if !withAgent {
		l.env = append(l.env, "SEGA_NO_AGENT=1")
	}
	t.Cleanup(func() {
		l.stopAgent(t)
		if raw, err := os.ReadFile(filepath.Join(l.Home, "agent", "log")); err == nil && t.Failed() {
			t.Logf("the agent's log:\n%s", raw[max(0, len(raw)-3000):])
		}
	})
	return l
}

// withoutAgent is another shell on the same machine, whose commands ask no agent.
func (l *laptop) withoutAgent() *laptop {
	other := *l
	other.env = append(slices.Clip(l.env), "SEGA_NO_AGENT=1")
	other.secrets = slices.Clip(l.secrets)
	return &other
}

// stopAgent ends the agent, where there is one, and waits until it is gone.
func (l *laptop) stopAgent(t *testing.T) {
	t.Helper()
	pid := l.agentPID(t)
	if pid == 0 {
		return
	}
	l.run("agent", "stop")
	devtest.Eventually(t, atOnce, "the agent does not end", func() error {
		if syscall.Kill(pid, 0) == nil {
			return errNotNow
		}
		return nil
	})
}

// loggedIn is a laptop after the day's login.
func (r *rig) loggedIn(t *testing.T, email string, withAgent bool, env ...string) *laptop {
	t.Helper()
	l := r.laptop(t, email, withAgent, env...)
	l.does(t, "login")
	return l
}

// outcome is what a command left, and how long it took.
type outcome struct {
	devtest.Result
	took time.Duration
}

// command is one that runs.
type command struct {
	*exec.Cmd
	args      []string
	out, errs bytes.Buffer
	took      time.Duration // once it is done
	done      chan struct{}
}

func (l *laptop) start(args ...string) *command {
	c := &command{Cmd: exec.Command(l.program, args...), args: args, done: make(chan struct{})}
	c.Env = l.Environ(l.env...)
	c.Stdout, c.Stderr = &c.out, &c.errs
	c.WaitDelay = 2 * time.Second // an agent that it has started holds nothing of ours
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	began := time.Now()
	if err := c.Start(); err != nil {
		l.T.Error(err)
		close(c.done)
		return c
	}
	go func() { // ends with the program
		defer close(c.done)
		_ = c.Wait()
		c.took = time.Since(began)
	}()
	return c
}

// end waits for a command, but not for ever.
func (l *laptop) end(c *command) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	select {
	case <-c.done:
	case <-ctx.Done():
		_ = c.Process.Kill()
		<-c.done
		l.T.Errorf("sega %v does not end", c.args)
	}
	return outcome{devtest.Result{Out: c.out.String(), Err: c.errs.String(), Code: c.ProcessState.ExitCode()}, c.took}
}

func (l *laptop) run(args ...string) outcome { return l.end(l.start(args...)) }

// does runs what must succeed.
func (l *laptop) does(t testing.TB, args ...string) outcome {
	t.Helper()
	o := l.run(args...)
	l.clean(t, o, args)
	if o.Code != 0 {
		t.Errorf("sega %v: exit %d after %s\n%s", args, o.Code, o.took.Round(time.Millisecond), o.Err)
	}
	return o
}

// failure is how a command has to fail.
type failure struct {
	code       int
	says, hint string // in the first line, and in those below it
	within     time.Duration
}

// fails runs what must fail so.
func (l *laptop) fails(t testing.TB, want failure, args ...string) {
	t.Helper()
	l.failed(t, want, l.start(args...))
}

// failsAll runs what must fail so, one after the other.
func (l *laptop) failsAll(t testing.TB, want failure, commands [][]string) {
	t.Helper()
	for _, args := range commands {
		l.fails(t, want, args...)
	}
}

// failed waits for a command that must fail so: the message's first line says what failed, the lines
// below it what to do, and stdout holds nothing.
func (l *laptop) failed(t testing.TB, want failure, c *command) {
	t.Helper()
	o := l.end(c)
	l.clean(t, o, c.args)
	first, below := message(o.Err)
	if o.Code != want.code || !strings.Contains(first, want.says) || !strings.Contains(below, want.hint) || below == "" || o.Out != "" {
		t.Errorf("sega %v: exit %d after %s, want %d with %q and %q; %d bytes on stdout\n%s", c.args, o.Code, o.took.Round(time.Millisecond), want.code, want.says, want.hint, len(o.Out), o.Err)
	}
	if o.took > want.within {
		t.Errorf("sega %v took %s, want %s at most\n%s", c.args, o.took.Round(time.Millisecond), want.within, o.Err)
	}
}

// message takes the last message of sega apart: the line that begins it, and those below.
func message(text string) (first, below string) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], "sega: ") {
			return lines[i], strings.Join(lines[i+1:], "\n")
		}
	}
	return "", ""
}

// tokens are the forms of secrets: ours, the double's, the provider's.
var tokens = regexp.MustCompile(`sega_[a-z]+_[\w-]{16,}|FwoGZXIvYXdzE[\w+/=]{20,}|eyJ[\w-]{20,}`)

// clean makes sure that what a command says holds no secret.
func (l *laptop) clean(t testing.TB, o outcome, args []string) {
	t.Helper()
	said := o.Err
	if args[0] != "credential-process" && args[0] != "env" {
		said += o.Out
	}
	if found := tokens.FindString(said); found != "" {
		t.Errorf("sega %v shows a secret: %.24s", args, found)
	}
	for _, s := range l.secrets {
		if strings.Contains(said, s) {
			t.Errorf("sega %v shows a secret key", args)
		}
	}
}

// credentials are what credential-process prints.
type credentials struct {
	Version                                    int
	AccessKeyId, SecretAccessKey, SessionToken string
	Expiration                                 time.Time
}

// given reads what credential-process has printed; they must be good for a while yet, by a right clock.
func (l *laptop) given(t testing.TB, o outcome) credentials {
	t.Helper()
	var c credentials
	if o.Code != 0 || json.Unmarshal([]byte(o.Out), &c) != nil || c.Version != 1 || c.SessionToken == "" {
		t.Errorf("credential-process: exit %d after %s\n%s", o.Code, o.took.Round(time.Millisecond), o.Err)
		return c
	}
	if left := time.Until(c.Expiration); left < 9*time.Minute {
		t.Errorf("the credentials that were handed out end in %s", left)
	}
	l.secrets = append(l.secrets, c.SecretAccessKey)
	return c
}

func (l *laptop) credentials(t testing.TB) credentials {
	t.Helper()
	return l.given(t, l.does(t, "credential-process", "dev-admin"))
}

// works makes sure that a harm has left nothing behind: everything works, without repair.
func (l *laptop) works(t testing.TB) {
	t.Helper()
	l.does(t, "status")
	l.credentials(t)
	if o := l.does(t, "exec", "dev-admin", "--", "echo", "through"); o.Out != "through\n" {
		t.Errorf("exec printed %q", o.Out)
	}
	l.whole(t)
}

// whole makes sure that SEGA_HOME holds no half file.
func (l *laptop) whole(t testing.TB) {
	t.Helper()
	err := filepath.WalkDir(l.Home, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(filepath.Base(path), ".tmp-") {
			t.Errorf("%s was left behind", path)
		}
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// agentPID is the agent's process, 0 for none.
func (l *laptop) agentPID(t testing.TB) int {
	t.Helper()
	var s struct{ PID int }
	if o := l.run("agent", "status", "--json"); o.Code != 0 || json.Unmarshal([]byte(o.Out), &s) != nil {
		return 0
	}
	return s.PID
}

// assumed is how many sessions of dev-admin the STS double has given to a person.
func (l *laptop) assumed(t testing.TB) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(l.Data), "sts.json"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(raw, []byte("assumed-role/dev-admin/"+l.Email))
}

func containsAll(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// asks reports whether a process has a socket, and so has begun to ask somebody, or waits for one that has.
func asks(pid int) error {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	open, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, fd := range open {
		if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && (strings.HasPrefix(to, "socket:") || strings.Contains(to, "/turns/")) {
			return nil
		}
	}
	return errNotNow
}
