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

// superviseChild waits for a child that shares our terminal, and returns its exit code as an error: what the terminal
// signals goes to the child by itself, what is sent to us alone is passed on.
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
	status, err := waitChild(c.Process.Pid)
	close(done)
	<-passed
	_ = c.Process.Release()
	if err == nil && status != 0 {
		return childError(childCode(status))
	}
	return err
}

// waitChild waits until a child has ended. While it is stopped, as by ssh's ~^Z, so are we: the shell waits for us, and
// would leave the person with a terminal that nobody reads. What continues us continues the child.
func waitChild(pid int) (status syscall.WaitStatus, err error) {
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	for {
		if _, err := wait4(pid, &status, syscall.WUNTRACED); err != nil || !status.Stopped() {
			return status, err
		}
		stopped := status.StopSignal()
		select {
		case <-continued: // of an earlier stop
		default:
		}
		// The terminal's ^Z stops us as well, often right here; a shell that has continued both since waits for no other stop.
		some, err := wait4(pid, &status, syscall.WCONTINUED|syscall.WNOHANG)
		switch {
		case err != nil || some && !status.Continued():
			return status, err
		case some:
			continue
		}
		if err := syscall.Kill(os.Getpid(), stopped); err == nil {
			<-continued
		}
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// wait4 asks for news of a child; false where there are none.
func wait4(pid int, status *syscall.WaitStatus, options int) (some bool, err error) {
	for {
		got, err := syscall.Wait4(pid, status, options, nil)
		if !errors.Is(err, syscall.EINTR) {
			return got == pid, os.NewSyscallError("wait4", err)
		}
	}
}

// childCode is a shell's convention: 128+n for a child that a signal ended.
func childCode(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}
