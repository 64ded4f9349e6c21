//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"sega/cmd/sega/inherited"
)

// takeOver replaces this process by the command: nothing of sega stands between it and its caller.
func takeOver(ctx context.Context, path string, argv, env []string) error {
	signal.Reset()
	if ctx.Err() != nil { // a signal came that the command would have died of
		return errCancelled
	}
	if err := inherited.Restore(); err != nil {
		return startError{argv[0], err}
	}
	err := syscall.Exec(path, argv, env)
	if errors.Is(err, syscall.ENOEXEC) { // a script that does not say of what: execvp takes the shell
		err = syscall.Exec("/bin/sh", append([]string{"/bin/sh", path}, argv[1:]...), env)
	}
	return startError{argv[0], err}
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
