package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"unsafe"

	"golang.org/x/sys/windows"
)

// takeOver runs the command and returns its exit code: Windows cannot replace a process. Ctrl-C and
// Ctrl-Break reach both, and the command decides; that of sega is caught in main.
func takeOver(ctx context.Context, path string, argv, env []string) error {
	if ctx.Err() != nil {
		return errCancelled
	}
	c := &exec.Cmd{Path: path, Args: argv, Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	err := superviseChild(ctx, c)
	if err != nil && c.Process == nil {
		return startError{argv[0], err}
	}
	return err
}

// superviseChild waits for a child that ends when we are ended, and returns its exit code, all 32 bits of it, as an error.
func superviseChild(_ context.Context, c *exec.Cmd) error {
	job, err := newJob()
	if err != nil {
		return fmt.Errorf("job object: %w", err)
	}
	defer func() { _ = windows.CloseHandle(job) }()
	if err := c.Start(); err != nil {
		return err
	}
	var assignErr error
	err = c.Process.WithHandle(func(handle uintptr) { assignErr = windows.AssignProcessToJobObject(job, windows.Handle(handle)) })
	if err == nil && assignErr != nil {
		err = fmt.Errorf("job object: %w", assignErr)
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) && !over(c) { // it is not to live on unwatched
		_ = c.Process.Kill()
		_ = c.Wait()
		return err
	}
	err = c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return childError(exit.ExitCode())
	}
	return err
}

// over reports whether the child has ended already, which a job does not take any more.
func over(c *exec.Cmd) bool {
	var state uint32
	err := c.Process.WithHandle(func(handle uintptr) { state, _ = windows.WaitForSingleObject(windows.Handle(handle), 0) })
	return err == nil && state == windows.WAIT_OBJECT_0
}

// newJob makes a job that ends with its last handle, which is ours. What the child starts is outside
// of it, as it would be without us.
func newJob() (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, err
	}
	info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{
		LimitFlags: windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | windows.JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK}}
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))); err != nil {
		_ = windows.CloseHandle(job)
		return 0, err
	}
	return job, nil
}
