//go:build unix

package doctor

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// writable asks the system whether a folder could be written, and writes nothing.
func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

func mine(info os.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(s.Uid) == os.Getuid()
}
