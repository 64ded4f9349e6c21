//go:build unix

package agent

import (
	"io/fs"
	"os"
	"syscall"
)

// lives reports whether a process is there (kill(2), signal 0). That another one may have its number by
// now only makes an agent stop later.
func lives(pid int) bool { return syscall.Kill(pid, 0) != syscall.ESRCH }

// ours reports whether a file is this user's: below /tmp anybody may have made it.
func ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}
