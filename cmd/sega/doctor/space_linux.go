package doctor

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// space is how many bytes are free for this user.
func space(dir string) (free uint64, known bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}

// socketless are file systems on which no Unix socket can be bound, by statfs(2)'s f_type.
var socketless = map[int64]string{
	0x01021997: "9p, such as a Windows disk in WSL", 0x786f4256: "a folder shared by VirtualBox",
	0x517b: "SMB", 0xfe534d42: "SMB", 0xff534d42: "CIFS", 0x4d44: "FAT", 0x2011bab0: "exFAT",
}

// noSockets says why no socket can be bound at a path, "" where one can or nothing is known.
func noSockets(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		var s unix.Statfs_t
		if unix.Statfs(dir, &s) == nil {
			if kind, ok := socketless[int64(s.Type)]; ok {
				return "its file system has no sockets (" + kind + ")"
			}
			return ""
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}
