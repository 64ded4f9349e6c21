//go:build linux

package bare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// patience is how long anything here may take.
const patience = 60 * time.Second

// world is somebody who may use a role, and the probe.
type world struct {
	*devtest.Person
	probe string
	dir   string // for whatever a test makes; below a folder that others' work does not reach
}

const alice = "alice@example.com"

// newWorld brings everything up, with alice's credentials in the cache, so that what sega says of new
// ones is said.
func newWorld(t *testing.T) *world {
	t.Helper()
	devtest.Need(t, "gcc")
	probe := filepath.Join(t.TempDir(), "probe")
	if out, err := exec.Command("gcc", "-Wall", "-Wextra", "-Werror", "-O1", "-o", probe, "testdata/probe.c").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	w := &world{Person: devtest.Up(t).LoggedIn(alice), probe: probe}
	if r := w.Sega("exec", "dev-admin", "--", "true"); r.Code != 0 {
		t.Fatalf("exit %d\n%s", r.Code, r.Err)
	}
	if r := w.Sega("exec", "dev-admin", "--env", "--", "true"); r.Code != 0 {
		t.Fatalf("exit %d\n%s", r.Code, r.Err)
	}
	return w
}

// on returns the same world for a subtest.
func (w *world) on(t *testing.T) *world {
	t.Helper()
	sub := *w
	person := *w.Person
	person.Env = w.Env.With(t)
	sub.Person, sub.dir = &person, t.TempDir()
	return &sub
}

// modes are how a command is run: bare, and as sega runs it.
var modes = []struct {
	name   string
	prefix []string
}{
	{"bare", nil},
	{"exec", []string{"sega", "exec", "dev-admin", "--"}},
	{"exec --env", []string{"sega", "exec", "dev-admin", "--env", "--"}},
}

// trial is one command in one mode. All of it is written down for the comparison.
type trial struct {
	w      *world
	prefix []string
	setup  []string // of the probe, around sega too
	env    []string // added
	stdin  io.Reader
	stdout *os.File // instead of being read
	attr   syscall.SysProcAttr
	during func(c *exec.Cmd, out io.Reader) // while it runs; reads its stdout where stdout is nil
}

// ended is how a command ended and what it wrote.
type ended struct {
	Out, Err, How string
}

// how is the wait status in words.
func how(s syscall.WaitStatus) string {
	if s.Signaled() {
		return fmt.Sprintf("signal %d, core %v", s.Signal(), s.CoreDump())
	}
	return fmt.Sprintf("exit %d", s.ExitStatus())
}

// run runs the command to its end. What is the process's own number is written SELF.
func (x trial) run(t *testing.T, argv ...string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	line := append(append([]string{x.w.probe, "with"}, x.setup...), "--")
	line = append(append(line, x.prefix...), argv...)
	c := exec.CommandContext(ctx, line[0], line[1:]...)
	env := x.w.Environ()
	slices.Sort(env) // a map's order is another one each time
	c.Env, c.Dir = append(env, x.env...), x.w.dir
	c.WaitDelay = 5 * time.Second
	c.SysProcAttr = &x.attr
	var out, errs bytes.Buffer
	c.Stdin, c.Stderr = x.stdin, &errs
	var read io.Reader
	switch {
	case x.stdout != nil:
		c.Stdout = x.stdout
	case x.during != nil:
		pipe, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		read = io.TeeReader(pipe, &out)
	default:
		c.Stdout = &out
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if x.during != nil {
		x.during(c, read)
	}
	err := c.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v\n%s", line, err, &errs)
	}
	if ctx.Err() != nil {
		t.Fatalf("%v does not end\n%s%s", line, &out, &errs)
	}
	self := strings.NewReplacer(fmt.Sprintf(" %d ", c.Process.Pid), " SELF ", fmt.Sprintf(" %d\n", c.Process.Pid), " SELF\n")
	return ended{self.Replace(self.Replace(out.String())), errs.String(), how(c.ProcessState.Sys().(syscall.WaitStatus))}
}
