//go:build unix

package main

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownSession keeps what the terminal signals from a process that is to outlive it.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// letGo closes the files that came with the process beside the standard ones and the starter's pipe: they
// are a shell's or a build's, which would wait for hours for its pipe to close, or for its lock. Go closes its
// own on exec; those are kept.
func letGo() {
	open, _ := os.ReadDir("/dev/fd")
	for _, f := range open {
		fd, err := strconv.Atoi(f.Name())
		if err != nil || fd <= readyFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}
