//go:build linux

// Package devtest runs a whole `segad dev up` for tests, with the real binaries, and people with
// homes of their own. Tests alone import it.
package devtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sega/cmd/segad/dev"
)

const (
	upTime   = 90 * time.Second
	downTime = 30 * time.Second
	runTime  = 60 * time.Second
)

// raceFlags are those of .ci/run, so that both share what is compiled.
var raceFlags = []string{"-race", "-gcflags=crypto/internal/fips140/...=-race=false", "-gcflags=modernc.org/sqlite/lib=-race=false"}

var build struct {
	sync.Once
	dir string
	err error
}

// Bin builds sega and segad once for the test process and returns their folder. SEGA_TEST_BIN
// names a folder with binaries that are built already.
func Bin(t testing.TB) string {
	t.Helper()
	build.Do(func() {
		if build.dir = os.Getenv("SEGA_TEST_BIN"); build.dir != "" {
			return
		}
		if build.dir, build.err = os.MkdirTemp("", "sega-bin-"); build.err != nil {
			return
		}
		for _, name := range []string{"sega", "segad"} {
			args := []string{"build", "-o", filepath.Join(build.dir, name)}
			if raceEnabled && os.Getenv("SEGA_TEST_PLAIN") == "" {
				args = append(args, raceFlags...)
			}
			if name == "sega" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64") {
				args = append(args, "-ldflags=-E sega/cmd/sega/inherited.entry") // as the Makefile has it
			}
			out, err := exec.Command("go", append(args, "sega/cmd/"+name)...).CombinedOutput()
			if err != nil {
				build.err = fmt.Errorf("build %s: %w\n%s", name, err, out)
				return
			}
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.dir
}

// CleanUp removes what Bin has built; call it at the end of TestMain.
func CleanUp() {
	if build.dir != "" && os.Getenv("SEGA_TEST_BIN") == "" {
		_ = os.RemoveAll(build.dir)
	}
}

// Env is a running environment.
type Env struct {
	dev.Dev
	T    testing.TB
	Data string
	Bin  string
	Args []string // more of `segad dev up`

	up    *exec.Cmd
	done  chan struct{} // closed when up has ended
	out   *output
	homes string
}

// Up starts an environment in a new folder, and stops it at the end of the test, when nothing of it
// may be left running.
func Up(t testing.TB) *Env {
	t.Helper()
	e := &Env{T: t, Data: filepath.Join(t.TempDir(), "dev"), Bin: Bin(t), homes: t.TempDir()}
	e.Start()
	t.Cleanup(e.Stop)
	return e
}

// UpAt is Up in a folder of the caller's.
func UpAt(t testing.TB, data string) *Env {
	t.Helper()
	e := &Env{T: t, Data: data, Bin: Bin(t), homes: t.TempDir()}
	e.Start()
	t.Cleanup(e.Stop)
	return e
}

// UpWith is Up with more arguments of `segad dev up`.
func UpWith(t testing.TB, args ...string) *Env {
	t.Helper()
	e := &Env{T: t, Data: filepath.Join(t.TempDir(), "dev"), Bin: Bin(t), Args: args, homes: t.TempDir()}
	e.Start()
	t.Cleanup(e.Stop)
	return e
}

// With returns the same environment for a subtest, which then is what fails.
func (e *Env) With(t testing.TB) *Env {
	sub := *e
	sub.T = t
	return &sub
}

// Start starts the environment and waits until everything answers.
func (e *Env) Start() {
	e.T.Helper()
	e.out = &output{}
	e.up = exec.Command(filepath.Join(e.Bin, "segad"), append([]string{"dev", "up", "--data", e.Data}, e.Args...)...)
	e.up.Stdout, e.up.Stderr = e.out, e.out
	// A group of its own, and gone with the test process.
	e.up.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := e.up.Start(); err != nil {
		e.T.Fatal(err)
	}
	done := make(chan struct{})
	e.done = done
	up := e.up
	go func() { _ = up.Wait(); close(done) }() // ends with Stop
	deadline := time.After(upTime)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		d, err := dev.Read(e.Data)
		if err == nil {
			e.Dev = d
			return
		}
		select {
		case <-tick.C:
		case <-e.done:
			e.T.Fatalf("segad dev up ended: %s\n%s", e.up.ProcessState, e.out)
		case <-deadline:
			e.T.Fatalf("segad dev up does not get ready\n%s\n%s", e.out, e.Logs())
		}
	}
}

// Stop ends the environment and fails the test if something of it is left running.
func (e *Env) Stop() {
	e.T.Helper()
	select {
	case <-e.done:
		return
	default:
	}
	_ = e.up.Process.Signal(syscall.SIGTERM)
	select {
	case <-e.done:
	case <-time.After(downTime):
		_ = e.up.Process.Kill()
		e.T.Errorf("segad dev up does not stop\n%s", e.out)
	}
	Eventually(e.T, 10*time.Second, "processes of the environment are left running", func() error {
		out, err := exec.Command("pgrep", "-af", e.Data).Output()
		if err == nil && len(out) > 0 {
			return errors.New(string(out))
		}
		return nil
	})
	if e.T.Failed() {
		e.T.Logf("environment:\n%s\n%s", e.out, e.Logs())
	}
}

// Logs returns the ends of the servers' logs.
func (e *Env) Logs() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(e.Data, "log", "*"))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		fmt.Fprintf(&b, "== %s\n%s\n", filepath.Base(f), data[max(0, len(data)-4000):])
	}
	return b.String()
}

// PID returns the process ID that a server ("broker", "bastion", "indexer", "host") has now.
func (e *Env) PID(name string) int {
	e.T.Helper()
	pattern := map[string]string{"broker": "segad broker --config " + e.Data, "bastion": "segad bastion --config " + e.Data, "indexer": "segad indexer --config " + e.Data, "host": "sshd.*" + e.Data + "/host/sshd_config"}[name]
	var pid int
	Eventually(e.T, 20*time.Second, "no process of "+name, func() error {
		out, err := exec.Command("pgrep", "-f", pattern).Output()
		if err != nil {
			return errors.New("pgrep finds none for " + pattern)
		}
		_, err = fmt.Sscan(string(out), &pid)
		return err
	})
	return pid
}

// Person is somebody with a home of his own.
type Person struct {
	*Env
	Email string
	Home  string
}

// Person returns a person with an empty home; the same e-mail twice gives two homes.
func (e *Env) Person(email string) *Person {
	e.T.Helper()
	home, err := os.MkdirTemp(e.homes, strings.Split(email, "@")[0]+"-")
	if err != nil {
		e.T.Fatal(err)
	}
	return &Person{Env: e, Email: email, Home: home}
}

// LoggedIn returns a person who has logged in.
func (e *Env) LoggedIn(email string) *Person {
	e.T.Helper()
	p := e.Person(email)
	if r := p.Login(); r.Code != 0 {
		e.T.Fatalf("login of %s: exit %d\n%s%s", email, r.Code, r.Out, r.Err)
	}
	return p
}

// Environ is the environment of the person's commands: that of the process, without secrets of
// other environments, and what dev.json says.
func (p *Person) Environ(more ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "SEGA_") || strings.HasPrefix(name, "AWS_") || name == "PATH" || name == "BROWSER" || name == "DBUS_SESSION_BUS_ADDRESS" || name == "SSH_AUTH_SOCK" {
			continue
		}
		env = append(env, kv)
	}
	for name, value := range p.Env.Env {
		env = append(env, name+"="+value)
	}
	env = append(env, "SEGA_HOME="+p.Home, "PATH="+p.Bin+":/usr/bin:/bin:/usr/sbin:/sbin", "SEGA_AUDIT_IDENTITY="+filepath.Join(p.Data, "reviewer.age"),
		"GORACE=atexit_sleep_ms=0") // with the race detector every command would take a second to end
	return append(env, more...)
}

// Result is what a command left.
type Result struct {
	Out, Err string
	Code     int
}

// Command prepares a program in the person's environment.
func (p *Person) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if name == "sega" || name == "segad" {
		name = filepath.Join(p.Bin, name)
	}
	c := exec.CommandContext(ctx, name, args...)
	c.Env = p.Environ()
	c.WaitDelay = 5 * time.Second
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal, wherever the tests are run from
	return c
}

// Run runs a program to its end.
func (p *Person) Run(name string, args ...string) Result {
	p.T.Helper()
	return p.RunInput("", name, args...)
}

// RunInput is Run with something on stdin.
func (p *Person) RunInput(input, name string, args ...string) Result {
	p.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runTime)
	defer cancel()
	c := p.Command(ctx, name, args...)
	var out, errs bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(input), &out, &errs
	err := c.Run()
	r := Result{Out: out.String(), Err: errs.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	case err != nil:
		p.T.Errorf("%s %v: %v", name, args, err)
		r.Code = -1
	}
	if ctx.Err() != nil {
		p.T.Errorf("%s %v did not end in %s", name, args, runTime)
	}
	return r
}

// Sega runs sega.
func (p *Person) Sega(args ...string) Result {
	p.T.Helper()
	return p.Run("sega", args...)
}

// Login logs in through the provider's real pages.
func (p *Person) Login(args ...string) Result {
	p.T.Helper()
	return p.Run("segad", append([]string{"dev", "login", p.Email, "--"}, args...)...)
}

// Events returns what `audit query --json` prints.
func (p *Person) Events(args ...string) []map[string]any {
	p.T.Helper()
	r := p.Sega(append([]string{"audit", "query", "--json"}, args...)...)
	if r.Code != 0 {
		p.T.Fatalf("audit query %v: exit %d\n%s", args, r.Code, r.Err)
	}
	var out []map[string]any
	d := json.NewDecoder(strings.NewReader(r.Out))
	for d.More() {
		var v map[string]any
		if err := d.Decode(&v); err != nil {
			p.T.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

// Eventually waits until a condition holds.
func Eventually(t testing.TB, within time.Duration, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond) // between two looks at the condition
	}
}

// Need skips, or in CI fails, where a program of the system is missing.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing: run scripts/deps", p)
			}
			t.Skipf("%s is missing: run scripts/deps", p)
		}
	}
}
