package main

import (
	"context"
	"os"
	"os/exec"
)

// takeOver runs the command and returns its exit code: Windows cannot replace a process.
func takeOver(path string, argv, env []string) error {
	c := &exec.Cmd{Path: path, Args: argv, Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	err := superviseChild(context.Background(), c)
	if exit, ok := err.(*exec.ExitError); ok {
		return childError(childCode(exit))
	}
	return err
}

func superviseChild(_ context.Context, c *exec.Cmd) error { return c.Run() }

func childCode(e *exec.ExitError) int { return e.ExitCode() }
