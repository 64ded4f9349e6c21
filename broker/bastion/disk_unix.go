//go:build linux || darwin

package bastion

import "syscall"

// measureDisk asks the file system of a folder, for what others than root may take.
func measureDisk(dir string) func() (room, error) {
	return func() (room, error) {
		var s syscall.Statfs_t
		if err := syscall.Statfs(dir, &s); err != nil {
			return room{}, err
		}
		block := uint64(s.Bsize)
		return room{free: uint64(s.Bavail) * block, total: uint64(s.Blocks) * block}, nil
	}
}
