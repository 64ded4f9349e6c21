//go:build linux

package dev

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	restartAfter = 200 * time.Millisecond
	stopTime     = 12 * time.Second
)

// process is a server that is a process of its own. It is started anew when it dies.
type process struct {
	name string
	argv []string
	log  string // file that takes its stderr

	mu  sync.Mutex
	pid int
}

// run keeps the process alive until ctx ends, then stops it: SIGTERM, and SIGKILL for what stays.
func (p *process) run(ctx context.Context, log *slog.Logger) error {
	for {
		err := p.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		log.Warn("server ended: starting it anew", "server", p.name, "error", err, "log", p.log)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(restartAfter):
		}
	}
}

// once runs the process one time. The parent-death signal is the thread's: it stays locked.
func (p *process) once(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	c := exec.CommandContext(ctx, p.argv[0], p.argv[1:]...)
	c.Stdout, c.Stderr = out, out
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = stopTime
	if err := c.Start(); err != nil {
		return err
	}
	p.set(c.Process.Pid)
	err = c.Wait()
	p.set(0)
	_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // what it left of its group
	return err
}

func (p *process) set(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid = pid
}

// running returns the process ID, 0 while it is down.
func (p *process) running() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// await polls a condition until it holds; ctx bounds it.
func await(ctx context.Context, what string, ok func(context.Context) error) error {
	var last error
	for {
		if last = ok(ctx); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", what, last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
