//go:build linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// nobody runs a command as another user of this machine.
var nobody = []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"}

// talk connects to a socket, sends what an agent understands, and prints what comes back.
const talk = `import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    s.sendall(b'{"v":1,"op":"credentials","credentials":{"role":"dev-admin"}}\n')
    while (got := s.recv(65536)):
        sys.stdout.buffer.write(got)
except ConnectionError:
    pass
print("end")
`

// listenThere listens at a socket and prints, for ever, what comes in.
const listenThere = `import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
s.listen()
print("listening", flush=True)
while True:
    c, _ = s.accept()
    got = c.recv(65536)
    print("got", len(got), flush=True)
    c.close()
`

// testAgentStrangers: another user of the machine gets no answer, and no question either.
func testAgentStrangers(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	expect(t, p.Sega("credential-process", "dev-admin"), 0)
	agentOf(t, p)
	dir := filepath.Join(p.Home, "agent")
	as := func(user []string, socket string) devtest.Result {
		t.Helper()
		argv := append(append([]string(nil), user...), "/usr/bin/python3", "-c", talk, socket)
		return p.Run(argv[0], argv[1:]...)
	}
	// Whoever may go into every folder above it is still kept out by its own.
	for at := p.Home; at != "/"; at = filepath.Dir(at) {
		if at != os.TempDir() {
			if err := os.Chmod(at, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	socket, keys := filepath.Join(dir, "socket"), filepath.Join(dir, "ssh")
	expect(t, as(nobody, socket), 1, "PermissionError")
	// With the folder opened, he may connect and is told nothing.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(socket, 0o777), os.Chmod(keys, 0o777)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{socket, keys} {
		if r := as(nobody, s); r.Code != 0 || r.Out != "end\n" {
			t.Errorf("a stranger at %s: exit %d, %q\n%s", filepath.Base(s), r.Code, r.Out, r.Err)
		}
	}
	expect(t, as([]string{"env"}, socket), 0, "secret_access_key") // the same words, from the user himself
	if log := read(t, filepath.Join(dir, "log")); !strings.Contains(log, "somebody else asked") || !strings.Contains(log, "uid=65534") {
		t.Errorf("the log does not tell of it:\n%s", log)
	}
	expect(t, p.Sega("agent", "stop"), 0)
	foreignAgent(t, p, dir)
}

// foreignAgent puts another user's process in the place of the agent: it hears nothing.
func foreignAgent(t *testing.T, p *devtest.Person, dir string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700), os.Chown(dir, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "socket")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c := p.Command(ctx, nobody[0], append(nobody[1:], "/usr/bin/python3", "-c", listenThere, socket)...)
	c.Dir = "/"
	heard := write(t, filepath.Join(t.TempDir(), "heard"), "")
	f, err := os.OpenFile(heard, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c.Stdout = f
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stop(); _ = c.Wait() }()
	devtest.Eventually(t, patience, "nobody listens", func() error {
		if !strings.Contains(read(t, heard), "listening") {
			return errors.New("not yet")
		}
		return nil
	})
	for _, args := range [][]string{{"credential-process", "dev-admin"}, {"exec", "dev-admin", "--", "true"}, {"agent", "status"}, {"agent", "unlock"}} {
		r := p.Sega(args...)
		if expect(t, r, 1, "somebody else's process answers"); r.Out != "" {
			t.Errorf("%v: %s", args, r.Out)
		}
	}
	expect(t, p.Sega("credential-process", "--no-agent", "dev-admin"), 0)
	devtest.Eventually(t, patience, "the connections", func() error {
		if got := strings.Count(read(t, heard), "got 0\n"); got < 4 {
			return fmt.Errorf("%d of 4", got)
		}
		return nil
	})
	if all := read(t, heard); regexp.MustCompile(`got [1-9]`).MatchString(all) {
		t.Errorf("the stranger heard something:\n%s", all)
	}
}

// testAgentCrowd: hundreds of connections that say nothing, half of something, or far too much neither stop the
// agent nor fill its memory.
func testAgentCrowd(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	warm := p.Sega("credential-process", "dev-admin")
	expect(t, warm, 0)
	pid := agentOf(t, p)
	socket := filepath.Join(p.Home, "agent", "socket")
	for i := range 300 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer func() { _ = conn.Close() }()
		if i%3 == 1 {
			_, _ = conn.Write([]byte(`{"v":1,"op":"sta`))
		}
	}
	r := p.Sega("credential-process", "dev-admin")
	if expect(t, r, 0); r.Out != warm.Out {
		t.Errorf("other credentials: %s", r.Out)
	}
	long := bytes.Repeat([]byte("a"), 10<<20)
	var group sync.WaitGroup
	for range 30 {
		group.Go(func() {
			if conn, err := net.Dial("unix", socket); err == nil {
				_, _ = conn.Write(long) // it is cut off
				_ = conn.Close()
			}
		})
	}
	group.Wait()
	expect(t, p.Sega("credential-process", "dev-admin"), 0)
	if got := agentOf(t, p); got != pid {
		t.Errorf("another agent: %d, it was %d", got, pid)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(read(t, fmt.Sprintf("/proc/%d/status", pid)))
	if kb, err := strconv.Atoi(m[1]); err != nil || kb > 200<<10 {
		t.Errorf("the agent took %d KiB, %v", kb, err)
	} else {
		t.Logf("the agent took %d MiB", kb>>10)
	}
}

// testAgentCore: no core file, no debugger of the same user, and no secret where others may look (I7).
func testAgentCore(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	r := p.Run("sh", "-c", "ulimit -c unlimited; exec sega env dev-admin --format json")
	expect(t, r, 0)
	c := startChild(t, p)
	pid := agentOf(t, p)
	at := fmt.Sprintf("/proc/%d/", pid)
	secrets := regexp.MustCompile(`"AWS_SE[A-Z_]+":"([^"]{12,})"`).FindAllStringSubmatch(r.Out, -1)
	if len(secrets) != 2 {
		t.Fatalf("secrets %q", secrets)
	}
	for _, place := range []string{at + "cmdline", at + "environ", filepath.Join(p.Home, "agent", "log")} {
		text := read(t, place)
		for _, s := range append(secrets, []string{"", c.token}) {
			if strings.Contains(text, s[1]) {
				t.Errorf("a secret is in %s", place)
			}
		}
		for what, shape := range shapes {
			if shape.MatchString(text) {
				t.Errorf("%s is in %s", what, place)
			}
		}
	}
	if limits := read(t, at+"limits"); !regexp.MustCompile(`Max core file size +unlimited`).MatchString(limits) {
		t.Errorf("the limit alone would do:\n%s", limits)
	}
	notDumpable(t, e)
	before := coresBelow(t, p.Home)
	if err := syscall.Kill(pid, syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	if after := coresBelow(t, p.Home); len(after) != len(before) {
		t.Errorf("core files %v", after)
	}
	if log := read(t, filepath.Join(p.Home, "agent", "log")); strings.Contains(log, secrets[0][1]) || strings.Contains(log, secrets[1][1]) {
		t.Error("what Go prints of an aborted process holds a secret")
	}
}

// notDumpable wants a process whose memory its own user cannot read (prctl(2), PR_SET_DUMPABLE): its files in
// /proc are root's, for an agent of another user too.
func notDumpable(t *testing.T, e *devtest.Env) {
	t.Helper()
	// An agent of nobody's, started as sega starts its own: with no login it needs a folder alone.
	home := filepath.Join(t.TempDir(), "nobody")
	for at := filepath.Dir(home); at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(filepath.Dir(home), "sega")
	program, err := os.ReadFile(filepath.Join(e.Bin, "sega"))
	if err := errors.Join(err, os.WriteFile(bin, program, 0o755), os.Mkdir(home, 0o700), os.Chown(home, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	p := e.Person(alice)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c := p.Command(ctx, nobody[0], append(nobody[1:], bin, "agent", "--foreground")...)
	c.Env = append(c.Env, "SEGA_HOME="+home, "HOME="+home)
	c.Dir = "/"
	var errs bytes.Buffer
	c.Stderr = &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stop(); _ = c.Wait() }()
	devtest.Eventually(t, patience, "nobody's agent does not start", func() error {
		_, err := os.Stat(filepath.Join(home, "agent", "socket"))
		return err
	})
	argv := append(append([]string(nil), nobody[1:]...), "cat", fmt.Sprintf("/proc/%d/environ", c.Process.Pid))
	expect(t, p.Run(nobody[0], argv...), 1, "Permission denied")
	argv[len(argv)-1] = "/proc/self/environ"
	expect(t, p.Run(nobody[0], argv...), 0)
}

// coresBelow are files that may be core dumps of ours, below a folder and where the kernel may put them.
func coresBelow(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/core*", filepath.Join(dir, "core*"), filepath.Join(dir, "*", "core*"), "/tmp/core*", "/var/crash/*", "/var/lib/systemd/coredump/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, files...)
	}
	return found
}
