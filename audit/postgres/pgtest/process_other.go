//go:build !linux

package pgtest

import (
	"errors"
	"os"
	"os/exec"
	"time"
)

func setProcess(*exec.Cmd, *account) {}

func start(c *exec.Cmd, done chan struct{}) error {
	if err := c.Start(); err != nil {
		return err
	}
	go func() { // ends with the process
		_ = c.Wait()
		close(done)
	}()
	return nil
}

// killAll kills a process alone: its children notice by themselves.
func killAll(pid int, _ time.Duration) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return errors.Join(errors.New("find the server's process"), err)
	}
	return p.Kill()
}
