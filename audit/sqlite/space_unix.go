//go:build linux || darwin

package sqlite

import "syscall"

// freeBytes returns the space that is left on the file system of a path; ok is false where that is
// not known.
func freeBytes(path string) (free int64, ok bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}
