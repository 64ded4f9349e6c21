package agent

import (
	"net"

	"golang.org/x/sys/unix"
)

// Supported says whether there are agents on this system.
const Supported = true

// peer returns the user at the other end of a Unix socket, and its process (unix(7), SO_PEERCRED).
func peer(c *net.UnixConn) (uid, pid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *unix.Ucred
	var optErr error
	if err := raw.Control(func(fd uintptr) { cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, 0, err
	}
	if optErr != nil {
		return 0, 0, optErr
	}
	return int(cred.Uid), int(cred.Pid), nil
}
