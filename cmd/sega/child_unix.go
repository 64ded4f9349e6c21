//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// takeOver replaces this process by the command: nothing of sega stands between it and its caller.
func takeOver(path string, argv, env []string) error {
	return kinded{fmt.Errorf("%s: %w", argv[0], syscall.Exec(path, argv, env)), kindProgram}
}

// superviseChild waits for a child that shares our terminal: what the terminal signals goes to the
// child by itself, what is sent to us alone is passed on.
func superviseChild(_ context.Context, c *exec.Cmd) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := c.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		for {
			select {
			case s := <-signals:
				if s == syscall.SIGTERM || s == syscall.SIGHUP {
					_ = c.Process.Signal(s)
				}
			case <-done:
				return
			}
		}
	}()
	err := c.Wait()
	close(done)
	<-passed
	return err
}

// childCode is a shell's convention: 128+n for a child that a signal ended.
func childCode(e *exec.ExitError) int {
	if s, ok := e.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return 128 + int(s.Signal())
	}
	return e.ExitCode()
}
