package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
)

// startError is that a command cannot be started.
type startError struct {
	name string
	err  error
}

func (e startError) Error() string { return fmt.Sprintf("%s: %v", e.name, e.err) }

func (e startError) Unwrap() error { return e.err }

// code is what POSIX has env, nohup and shells say: 127 where there is no such command, else 126.
func (e startError) code() int {
	if errors.Is(e.err, fs.ErrNotExist) || errors.Is(e.err, exec.ErrNotFound) {
		return 127
	}
	return 126
}

// runChild runs a child beside us, on our terminal, and returns its exit code as an error.
func runChild(ctx context.Context, c *exec.Cmd) error {
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	return superviseChild(ctx, c)
}
