//go:build !windows

package keychain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// program is a program of the system by which a store is reached.
type program struct {
	name     string
	patience time.Duration // after which it is killed, with what it has started
	env      string        // one more variable, NAME=VALUE
}

// exitError says that a program ran and failed. It holds what the program wrote to stderr, never
// what it was given or what it wrote to stdout.
type exitError struct {
	name   string // and the first argument
	code   int
	stderr string
}

func (e exitError) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("%s: exit status %d: %s", e.name, e.code, e.stderr), ": ")
}

// run gives secrets on stdin, never as arguments. The program gets a session of its own: it can
// neither read the terminal that it was not given nor leave a child behind that still waits for a person.
func (p program) run(stdin io.Reader, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), p.patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	cmd.Stdin = stdin
	if p.env != "" {
		cmd.Env = append(os.Environ(), p.env)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, errSilent
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("the program %s is not installed", p.name)
	case errors.As(err, &exit):
		return nil, exitError{name: p.name + " " + args[0], code: exit.ExitCode(), stderr: strings.TrimSpace(stderr.String())}
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w", p.name, args[0], err)
	}
	return stdout.Bytes(), nil
}
