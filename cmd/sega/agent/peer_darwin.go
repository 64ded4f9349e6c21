package agent

import (
	"net"

	"golang.org/x/sys/unix"
)

// Supported says whether there are agents on this system.
const Supported = true

// peer returns the user at the other end of a Unix socket, and its process (unix(4), LOCAL_PEERCRED and LOCAL_PEERPID).
func peer(c *net.UnixConn) (uid, pid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *unix.Xucred
	var optErr error
	if err := raw.Control(func(fd uintptr) {
		if cred, optErr = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED); optErr == nil {
			pid, optErr = unix.GetsockoptInt(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERPID)
		}
	}); err != nil {
		return 0, 0, err
	}
	if optErr != nil {
		return 0, 0, optErr
	}
	return int(cred.Uid), pid, nil
}
