//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// agentsOf returns the processes of the agents of a SEGA_HOME, by what the kernel knows.
func agentsOf(t testing.TB, home string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err != nil || !bytes.HasSuffix(line, []byte("\x00agent\x00--run\x00")) {
			continue
		}
		env, err := os.ReadFile(filepath.Join(filepath.Dir(f), "environ"))
		pid, atoiErr := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if errors.Join(err, atoiErr) == nil && bytes.Contains(append([]byte{0}, env...), []byte("\x00SEGA_HOME="+home+"\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// agentOf returns the one agent of a person.
func agentOf(t testing.TB, p *devtest.Person) int {
	t.Helper()
	pids := agentsOf(t, p.Home)
	if len(pids) != 1 {
		t.Fatalf("agents %v, want one", pids)
	}
	return pids[0]
}

// gone waits until a process has ended.
func gone(t testing.TB, pid int) {
	t.Helper()
	devtest.Eventually(t, patience, "the agent lives on", func() error {
		if syscall.Kill(pid, 0) != syscall.ESRCH {
			return fmt.Errorf("process %d", pid)
		}
		return nil
	})
}

// agentState is what `sega agent status --json` says.
type agentState struct {
	PID       int    `json:"pid"`
	State     string `json:"state"`
	Why       string `json:"why"`
	FeedAlive bool   `json:"feed_alive"`
	Roles     []struct{ Role string }
	Session   struct {
		LoginID string `json:"login_id"`
		Person  struct{ Email string }
	}
}

func stateOf(t testing.TB, p *devtest.Person) agentState {
	t.Helper()
	r := p.Sega("agent", "status", "--json")
	expect(t, r, 0)
	var v agentState
	if err := json.Unmarshal([]byte(r.Out), &v); err != nil {
		t.Fatalf("%v\n%s", err, r.Out)
	}
	return v
}

// held wants an agent in a state with so many credentials.
func held(t testing.TB, p *devtest.Person, state string, roles int) agentState {
	t.Helper()
	v := stateOf(t, p)
	if v.State != state || len(v.Roles) != roles {
		t.Errorf("the agent is %q (%s) and holds %v, want %q with %d", v.State, v.Why, v.Roles, state, roles)
	}
	return v
}

// child is a process that `sega exec` has become, and that lives until the test ends.
type child struct {
	t          testing.TB
	pid        int
	url, token string
}

// startChild starts one in the background, and returns where it gets its credentials.
func startChild(t testing.TB, p *devtest.Person) child {
	t.Helper()
	c := p.Command(t.Context(), "sega", "exec", "dev-admin", "--", "sh", "-c", `echo "$AWS_CONTAINER_CREDENTIALS_FULL_URI $AWS_CONTAINER_AUTHORIZATION_TOKEN"; exec cat`)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = c.Wait() })
	v := child{t: t, pid: c.Process.Pid}
	if _, err := fmt.Fscan(out, &v.url, &v.token); err != nil {
		t.Fatalf("the child says nothing: %v", err)
	}
	return v
}

// asks is one question of the child's SDK. What is refused says why, in the form that SDKs read, and gives nothing.
func (c child) asks() (status int, code, body string) {
	c.t.Helper()
	q, err := http.NewRequest(http.MethodGet, c.url, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	q.Header.Set("Authorization", c.token)
	resp, err := (&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}).Do(q)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.StatusCode, "", string(raw)
	}
	var refusal struct{ Code, Message string }
	if err := json.Unmarshal(raw, &refusal); err != nil || refusal.Code == "" || refusal.Message == "" || bytes.Contains(raw, []byte("SecretAccessKey")) {
		c.t.Errorf("HTTP %d: %s", resp.StatusCode, raw)
	}
	return resp.StatusCode, refusal.Code, refusal.Message
}

// gets wants credentials.
func (c child) gets() {
	c.t.Helper()
	if status, code, body := c.asks(); status != http.StatusOK || !strings.Contains(body, `"SecretAccessKey"`) {
		c.t.Errorf("the child gets HTTP %d, %s: %s", status, code, body)
	}
}

// refused wants an answer that SDKs do not repeat.
func (c child) refused(text string) {
	c.t.Helper()
	if status, code, message := c.asks(); status/100 != 4 || status == http.StatusTooManyRequests || !strings.Contains(message, text) {
		c.t.Errorf("the child gets HTTP %d, %s: %s", status, code, message)
	}
}

func TestAgent(t *testing.T) {
	devtest.Need(t, "tmux", "unshare", "setpriv", "/usr/bin/python3", "curl")
	e := devtest.Up(t)
	for name, test := range map[string]func(t *testing.T, e *devtest.Env){
		"outlives its shell": testAgentOutlives, "lock": testAgentLock, "passphrase": testAgentPassphrase, "idle": testAgentIdle, "ends": testAgentEnds,
		"socket": testAgentSocket, "read only": testAgentReadOnly, "two homes": testAgentTwoHomes, "another person": testAgentOtherPerson, "logout": testAgentLogout, "again": testAgentAgain,
		"strangers": testAgentStrangers, "crowd": testAgentCrowd, "core": testAgentCore,
	} {
		t.Run(name, func(t *testing.T) { test(t, e.With(t)) })
	}
}

// testAgentOutlives: an agent is nobody's job, and holds nothing of who started it.
func testAgentOutlives(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	lock := filepath.Join(t.TempDir(), "lock")
	w := openTerminal(t, p, 100, 20, `exec 9>`+lock+`; flock 9; sega credential-process dev-admin >/dev/null; echo "first $?"; exec cat`)
	w.await("first 0")
	pid := agentOf(t, p)
	w.tmux("kill-server")
	// Who waits for the shell's files does not wait for the agent.
	expect(t, p.Run("flock", "-w", "10", lock, "true"), 0)
	if again := agentOf(t, p); again != pid {
		t.Errorf("another agent: %d, it was %d", again, pid)
	}
	stat := strings.Fields(read(t, fmt.Sprintf("/proc/%d/stat", pid)))
	if stat[5] != strconv.Itoa(pid) || stat[6] != "0" {
		t.Errorf("the agent %d is of session %s, with terminal %s", pid, stat[5], stat[6])
	}
	c := startChild(t, e.LoggedIn(alice)) // whose sega starts an agent and becomes the child
	if own := p.Run("pgrep", "-P", strconv.Itoa(c.pid)).Out; own != "" {
		t.Errorf("the child has children that it has not started: %s", own)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); cwd != "/" {
		t.Errorf("it stands in %s, %v", cwd, err)
	}
	held(t, p, "ready", 1)
}

// testAgentLock: nothing is answered, nothing is held, and the same process goes on afterwards.
func testAgentLock(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	expect(t, p.Sega("agent", "lock"), 1, "no agent is running")
	expect(t, p.Sega("agent", "stop"), 0)
	expect(t, p.Sega("agent", "status"), 1, "no agent is running")
	c := startChild(t, p)
	pid := held(t, p, "ready", 1).PID
	expect(t, p.Sega("agent", "lock"), 0, "locked")
	held(t, p, "locked", 0)
	for _, args := range [][]string{{"credential-process", "dev-admin"}, {"exec", "dev-admin", "--", "true"}, {"env", "dev-admin"}, {"status"}} {
		r := p.Sega(args...)
		if expect(t, r, 1, "the agent is locked", "sega agent unlock"); r.Out != "" {
			t.Errorf("%v: %s", args, r.Out)
		}
	}
	expect(t, p.Sega("credential-process", "dev-admin", "--json"), 1, `"kind":"agent_locked"`)
	c.refused("locked")
	expect(t, p.Sega("agent", "unlock"), 0, "unlocked")
	if v := held(t, p, "empty", 0); v.PID != pid {
		t.Errorf("another agent: %d, it was %d", v.PID, pid)
	}
	c.gets()
	expect(t, p.Sega("credential-process", "dev-admin"), 0)
	expect(t, p.Sega("agent", "stop"), 0, "stopped")
	gone(t, pid)
	expect(t, p.Sega("credential-process", "dev-admin"), 0)
	if next := agentOf(t, p); next == pid {
		t.Error("the same process")
	}
}

// testAgentPassphrase: a person is asked once, by whatever command needs the key, and again after a lock.
func testAgentPassphrase(t *testing.T, e *devtest.Env) {
	p := e.Person(alice)
	const phrase = "correct horse battery"
	// do runs a command on a terminal and answers so many questions.
	do := func(command string, questions int) string {
		t.Helper()
		w := openTerminal(t, p, 120, 30, "export SEGA_KEYRING_BACKEND=passphrase; "+command)
		for n := range questions {
			devtest.Eventually(t, patience, "nobody is asked", func() error {
				if got := strings.Count(strings.ToLower(w.screen()), "passphrase"); got <= n {
					return fmt.Errorf("%d questions, want %d\n%s", got, n+1, w.screen())
				}
				return nil
			})
			w.line(phrase)
		}
		return w.await("[exit 0]")
	}
	do("segad dev login "+alice, 2) // a new one is typed twice
	expect(t, p.Sega("agent", "stop"), 0)
	do("sega credential-process dev-admin >/dev/null", 1)
	held(t, p, "ready", 1)
	expect(t, p.Run("env", "SEGA_KEYRING_BACKEND=passphrase", "sega", "credential-process", "dev-admin"), 0) // without a terminal
	do("sega credential-process dev-admin >/dev/null", 0)
	expect(t, p.Sega("agent", "lock"), 0)
	expect(t, p.Run("env", "SEGA_KEYRING_BACKEND=passphrase", "sega", "agent", "unlock"), 1, "terminal")
	held(t, p, "locked", 0)
	do("sega agent unlock", 1)
	do("sega credential-process dev-admin >/dev/null", 0)
	held(t, p, "ready", 1)
	if log := read(t, filepath.Join(p.Home, "agent", "log")); strings.Contains(log, phrase) {
		t.Error("the passphrase is in the agent's log")
	}
}

// testAgentIdle ends by itself, and not while a child may still ask.
func testAgentIdle(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	began := time.Now()
	expect(t, p.Sega("agent", "--foreground", "--idle", "2s"), 0)
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it ended after %s", took)
	}
	expect(t, p.Sega("credential-process", "dev-admin"), 0)
	expect(t, p.Sega("agent", "--foreground"), 1, "another one is running")
	agentOf(t, p)
}

// testAgentEnds: whatever an agent ended by, and whatever it left, the next command has one that works.
func testAgentEnds(t *testing.T, e *devtest.Env) {
	for name, end := range map[string]func(t *testing.T, p *devtest.Person, pid int, socket string){
		"killed": func(t *testing.T, _ *devtest.Person, pid int, socket string) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			gone(t, pid)
			if _, err := os.Lstat(socket); err != nil {
				t.Errorf("the socket should lie there: %v", err)
			}
		},
		"terminated": func(t *testing.T, _ *devtest.Person, pid int, _ string) {
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			gone(t, pid)
		},
		"told to stop": func(t *testing.T, p *devtest.Person, _ int, _ string) { expect(t, p.Sega("agent", "stop"), 0) },
		"its socket removed": func(t *testing.T, _ *devtest.Person, pid int, socket string) {
			if err := os.Remove(socket); err != nil {
				t.Error(err)
			}
			gone(t, pid)
		},
		"a file in its place": func(t *testing.T, _ *devtest.Person, pid int, socket string) {
			if err := os.Remove(socket); err != nil {
				t.Error(err)
			}
			write(t, socket, "x")
			gone(t, pid)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := e.With(t).LoggedIn(alice)
			expect(t, p.Sega("credential-process", "dev-admin"), 0)
			pid := agentOf(t, p)
			end(t, p, pid, filepath.Join(p.Home, "agent", "socket"))
			r := p.Sega("credential-process", "dev-admin")
			expect(t, r, 0)
			isProcessForm(t, r.Out)
			gone(t, pid)
			agentOf(t, p)
			held(t, p, "ready", 1)
		})
	}
}

// testAgentSocket: where the path is too long for a socket it lies elsewhere; where there can be none, commands
// work without an agent.
func testAgentSocket(t *testing.T, e *devtest.Env) {
	p := e.Person(alice)
	p.Home = filepath.Join(p.Home, strings.Repeat("long/", 60))
	expect(t, p.Login(), 0)
	expect(t, p.Sega("credential-process", "dev-admin"), 0)
	held(t, p, "ready", 1)
	pid := agentOf(t, p)
	expect(t, p.Sega("agent", "stop"), 0)
	gone(t, pid)

	for name, spoil := range map[string]func(dir string) error{
		"a file":         func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"open to others": func(dir string) error { return os.Mkdir(dir, 0o755) },
	} {
		p := e.LoggedIn(alice)
		dir := filepath.Join(p.Home, "agent")
		if err := errors.Join(os.RemoveAll(dir), spoil(dir)); err != nil {
			t.Fatal(err)
		}
		before := e.AssumeRoles()
		for range 2 {
			r := p.Sega("credential-process", "dev-admin")
			expect(t, r, 0)
			isProcessForm(t, r.Out)
		}
		expect(t, p.Sega("exec", "dev-admin", "--", "sh", "-c", "test -n \"$AWS_ACCESS_KEY_ID\""), 0)
		if n := e.AssumeRoles() - before; n != 1 {
			t.Errorf("%s: %d AssumeRole, want 1", name, n)
		}
		if pids := agentsOf(t, p.Home); len(pids) != 0 {
			t.Errorf("%s: agents %v", name, pids)
		}
		expect(t, p.Sega("agent"), 1, "no agent is running")
		expect(t, p.Sega("agent", "--foreground"), 1)
	}
}

// testAgentReadOnly: on a file system that takes nothing the log's checkpoints cannot be kept (R9), and that is
// what a person is told. An agent that runs already goes on.
func testAgentReadOnly(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	readOnly := func(script string) devtest.Result {
		t.Helper()
		return p.Run("unshare", "-m", "sh", "-c", `mount --bind "$SEGA_HOME" "$SEGA_HOME" && mount -o remount,ro,bind "$SEGA_HOME" && `+script)
	}
	for _, script := range []string{"sega credential-process dev-admin", "sega exec dev-admin -- true", "sega credential-process --no-agent dev-admin"} {
		r := readOnly(script)
		if expect(t, r, 1, "read-only file system"); r.Out != "" {
			t.Errorf("%s: %s", script, r.Out)
		}
	}
	expect(t, readOnly("sega agent --foreground"), 1, "read-only file system", "SEGA_HOME")
	if pids := agentsOf(t, p.Home); len(pids) != 0 {
		t.Errorf("agents %v", pids)
	}
	expect(t, p.Sega("credential-process", "dev-admin"), 0)
	expect(t, readOnly("sega credential-process dev-admin"), 0)
}

// testAgentTwoHomes: each SEGA_HOME has an agent of its own, which knows its own login alone.
func testAgentTwoHomes(t *testing.T, e *devtest.Env) {
	a, b := e.LoggedIn(alice), e.LoggedIn(bob)
	for _, p := range []*devtest.Person{a, b} {
		expect(t, p.Sega("credential-process", "dev-admin"), 0)
	}
	if x, y := agentOf(t, a), agentOf(t, b); x == y {
		t.Error("one agent for two")
	}
	if x, y := held(t, a, "ready", 1), held(t, b, "ready", 1); x.Session.Person.Email != alice || y.Session.Person.Email != bob {
		t.Errorf("they are of %s and %s", x.Session.Person.Email, y.Session.Person.Email)
	}
	expect(t, a.Sega("agent", "stop"), 0)
	held(t, b, "ready", 1)
}

// testAgentOtherPerson: who logs in where somebody else was gives nothing to the other's children.
func testAgentOtherPerson(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	c := startChild(t, p)
	c.gets()
	p.Email = bob
	expect(t, p.Login(), 0)
	for range 2 {
		c.refused("")
	}
	expect(t, p.Sega("exec", "dev-admin", "--", "/usr/bin/aws", "sts", "get-caller-identity"), 0, "bob@example.com")
	c.refused("")
	own := startChild(t, p)
	own.gets()
	c.refused("")
	// And back: what was void stays void.
	p.Email = alice
	expect(t, p.Login(), 0)
	c.refused("")
	own.refused("")
}

// testAgentLogout: afterwards nothing is held, and the children get nothing.
func testAgentLogout(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	c := startChild(t, p)
	c.gets()
	expect(t, p.Sega("logout"), 0)
	held(t, p, "empty", 0)
	c.refused("")
	expect(t, p.Sega("credential-process", "dev-admin"), 4)
	held(t, p, "empty", 0)
}

// testAgentAgain: a long-running child goes on over another login of the same person.
func testAgentAgain(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	c := startChild(t, p)
	c.gets()
	first := held(t, p, "ready", 1).Session.LoginID
	expect(t, p.Login(), 0)
	c.gets()
	if v := held(t, p, "ready", 1); v.Session.LoginID == first {
		t.Error("the agent has the old login")
	}
	expect(t, p.Sega("logout"), 0)
	c.refused("")
	expect(t, p.Login(), 0)
	c.gets()
}
