//go:build unix

package agent

import "syscall"

// lives reports whether a process is there (kill(2), signal 0). That another one may have its number by
// now only makes an agent stop later.
func lives(pid int) bool { return syscall.Kill(pid, 0) != syscall.ESRCH }
