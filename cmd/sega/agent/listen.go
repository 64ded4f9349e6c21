package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// SSHSocket is where OpenSSH finds the agent at a socket.
func SSHSocket(socket string) string { return filepath.Join(filepath.Dir(socket), "ssh") }

// Private makes a folder, and refuses one that is not this user's alone: below /tmp anybody may have made it,
// with links and pipes in it for whoever opens a file there.
func Private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("agent: make the folder: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("agent: look at the folder: %w", err)
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ours(info) {
		return fmt.Errorf("agent: %s is not a folder of yours alone: run chmod 700 %s", dir, dir)
	}
	return nil
}

// listen takes the socket of one agent: the kernel's lock beside it says whose it is, so that what a
// dead one left can go.
func listen(ctx context.Context, socket string) (*net.UnixListener, func(), error) {
	if err := Private(filepath.Dir(socket)); err != nil {
		return nil, nil, err
	}
	lock := flock.New(socket+".lock", flock.SetPermissions(0o600))
	if err := take(ctx, lock, socket); err != nil {
		return nil, nil, err
	}
	l, err := listenAlone(socket)
	if err != nil {
		return nil, nil, errors.Join(err, lock.Unlock())
	}
	return l, func() { _ = l.Close(); _ = lock.Unlock() }, nil
}

// take takes the lock, also of an agent that is about to end and answers nobody any more.
func take(ctx context.Context, lock *flock.Flock, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, takeTime)
	defer cancel()
	for {
		mine, err := lock.TryLock()
		if err != nil {
			return fmt.Errorf("agent: take the lock: %w", err)
		}
		if mine {
			return nil
		}
		if _, err := Call(ctx, socket, Request{Op: OpStatus}); !errors.Is(err, ErrNotRunning) {
			return ErrRunning
		}
		select {
		case <-ctx.Done():
			return ErrRunning
		case <-time.After(takePoll):
		}
	}
}

// listenAlone listens in the place of a dead agent's socket. The lock is held.
func listenAlone(socket string) (*net.UnixListener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("agent: remove the old socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("agent: listen: %w", err)
	}
	return l, nil
}
