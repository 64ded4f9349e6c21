//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"sega/cmd/segad/dev/browser"
	"sega/cmd/segad/dev/devtest"
)

// running is a command that a test talks with.
type running struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu  sync.Mutex
	out bytes.Buffer // stdout and stderr
}

func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

func (r *running) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

func start(t *testing.T, p *devtest.Person, argv ...string) *running {
	t.Helper()
	r := &running{cmd: p.Command(t.Context(), argv[0], argv[1:]...)}
	r.cmd.Stdout, r.cmd.Stderr = r, r
	var err error
	if r.in, err = r.cmd.StdinPipe(); err == nil {
		err = r.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// find waits until the output of something matches, and returns the first group.
func find(t *testing.T, out func() string, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var found string
	devtest.Eventually(t, patience, "no "+pattern, func() error {
		m := re.FindStringSubmatch(out())
		if m == nil {
			return errors.New(out())
		}
		found = m[1]
		return nil
	})
	return found
}

func method(t *testing.T, p *devtest.Person, want string) {
	t.Helper()
	expect(t, p.Sega("status", "--json"), 0, `"method":"`+want+`"`, `"mfa":true`)
}

// testPaste logs in on a machine without a browser; the address bar's text comes on stdin.
func testPaste(t *testing.T, e *devtest.Env) {
	p := e.Person(alice)
	login := start(t, p, "sega", "login", "--paste")
	address := find(t, login.String, `(http://\S+)`)
	final, err := (&browser.Browser{}).Address(t.Context(), address, credentials(t, e, alice), "http://127.0.0.1:")
	if err != nil || !strings.Contains(final, "code=") {
		t.Fatalf("%v", err)
	}
	if _, err := io.WriteString(login.in, final+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := login.cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, login)
	}
	method(t, p, "paste")
	// The same address again, and one of another login, let nobody in.
	again := e.Person(alice)
	expect(t, again.RunInput(final+"\n", "sega", "login", "--paste"), 1, "state")
	expect(t, again.RunInput("", "sega", "login", "--paste"), 2)
	expect(t, again.Sega("status"), 4)
}

// testPasteTerminal does it at a terminal, where the address is asked for.
func testPasteTerminal(t *testing.T, e *devtest.Env) {
	p := e.Person(bob)
	w := openTerminal(t, p, 1000, 24, "sega login --paste")
	address := find(t, w.screen, `(http://\S+)`)
	final, err := (&browser.Browser{}).Address(t.Context(), address, credentials(t, e, bob), "http://127.0.0.1:")
	if err != nil {
		t.Fatal(err)
	}
	w.await("the address at which it ended:")
	w.line(final)
	w.await("[exit 0]")
	method(t, p, "paste")
}

// device begins a login by a code, answers it at the provider and waits for its end.
func device(t *testing.T, p *devtest.Person, c browser.Credentials) *running {
	t.Helper()
	login := start(t, p, "sega", "login", "--device")
	page, code := find(t, login.String, `open (http://\S+)`), find(t, login.String, `code: +(\S+)`)
	if err := browser.Visit(t.Context(), page+"?user_code="+code, c); err != nil && !c.Deny {
		t.Error(err)
	}
	_ = login.cmd.Wait() // its exit code is looked at by the caller
	return login
}

// testDevice approves by a code, and finds that such a session revokes and replays nothing (R1).
func testDevice(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	expect(t, p.Sega("ssh", e.Host.Name, "--", "true # device"), 0)
	id := ended(t, e.LoggedIn(carol), "true # device")
	for _, tt := range []struct {
		email   string
		refused [][]string
		allowed []string
	}{
		{sam, [][]string{{"revoke", "user", alice, "--yes", "--reason", "x"}, {"unblock", "user", alice, "--reason", "x"}}, []string{"sessions"}},
		{carol, [][]string{{"audit", "play", id, "--reason", "test"}}, []string{"audit", "verify"}},
	} {
		t.Run(tt.email, func(t *testing.T) {
			t.Parallel() // the provider's interval is 5 s
			p := e.With(t).Person(tt.email)
			if login := device(t, p, credentials(t, e, tt.email)); login.cmd.ProcessState.ExitCode() != 0 {
				t.Fatal(login)
			}
			method(t, p, "device")
			for _, argv := range tt.refused {
				expect(t, p.Sega(argv...), 3)
			}
			expect(t, p.Sega(tt.allowed...), 0)
		})
	}
	t.Run("declined", func(t *testing.T) {
		t.Parallel()
		p, c := e.With(t).Person(alice), credentials(t, e, alice)
		c.Deny = true
		if login := device(t, p, c); login.cmd.ProcessState.ExitCode() != 3 {
			t.Errorf("exit %d, want 3\n%s", login.cmd.ProcessState.ExitCode(), login)
		}
		expect(t, p.Sega("status"), 4)
	})
}

// testCancel presses Ctrl-C while a login waits, and Cancel on the provider's page.
func testCancel(t *testing.T, e *devtest.Env) {
	for name, tt := range map[string]struct {
		end  func(login *running, address string)
		code int
	}{
		"interrupt": {func(login *running, _ string) { _ = login.cmd.Process.Signal(os.Interrupt) }, 5},
		"declined": {func(_ *running, address string) {
			c := credentials(t, e, alice)
			c.Cancel = true
			if err := browser.Visit(t.Context(), address, c); err != nil {
				t.Logf("the page that ends a declined login: %v", err)
			}
		}, 3},
		"wrong password": {func(login *running, address string) {
			c := credentials(t, e, alice)
			c.Password += "x"
			if err := browser.Visit(t.Context(), address, c); err == nil {
				t.Error("the provider took a wrong password")
			}
			_ = login.cmd.Process.Signal(os.Interrupt)
		}, 5},
	} {
		p := e.Person(alice)
		login := start(t, p, "env", "BROWSER=true", "sega", "login")
		tt.end(login, find(t, login.String, `(http://\S+)`))
		err := login.cmd.Wait()
		if code := login.cmd.ProcessState.ExitCode(); code != tt.code {
			t.Errorf("%s: exit %d (%v), want %d\n%s", name, code, err, tt.code, login)
		}
		expect(t, p.Sega("status"), 4)
	}
}

// testLogout ends a session: what came of it opens nothing any more, here or elsewhere.
func testLogout(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	expect(t, p.Sega("credential-process", "dev-admin"), 0)
	stock := routes(t, p)[5].argv[1:]
	kept := filepath.Join(t.TempDir(), "kept") // key and certificate that somebody took away
	expect(t, p.Run("cp", "-a", filepath.Join(p.Home, "ssh"), kept), 0)
	expect(t, p.Run("ssh", append(stock, "true")...), 0)
	expect(t, p.Sega("logout"), 0, "logged out")
	for _, argv := range [][]string{{"status"}, {"exec", "dev-admin", "--", "true"}, {"credential-process", "dev-admin"}, {"ssh", e.Host.Name, "--", "true"}, {"ssh", "--renew"}} {
		expect(t, p.Sega(argv...), 4, "sega login")
	}
	expect(t, p.Run("test", "-e", filepath.Join(p.Home, "ssh", "id")), 1)
	expect(t, p.Run("cp", "-a", kept+"/.", filepath.Join(p.Home, "ssh")), 0)
	expect(t, p.Run("ssh", append(stock, "true")...), 255)
	expect(t, p.Sega("logout"), 0, "not logged in")
}

// testOtherBroker names a broker that does not answer, before a login and after one.
func testOtherBroker(t *testing.T, e *devtest.Env) {
	p := e.LoggedIn(alice)
	for _, argv := range [][]string{{"login"}, {"status"}, {"exec", "dev-admin", "--", "true"}, {"ssh", e.Host.Name}, {"credential-process", "dev-admin"}} {
		expect(t, p.Run("env", append([]string{"SEGA_BROKER=https://127.0.0.1:1", "sega"}, argv...)...), 7, "127.0.0.1:1")
	}
	expect(t, p.Sega("status"), 0)
}
