package main

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// peerUID returns the user at the other end of a Unix socket (unix(7), SO_PEERCRED).
func peerUID(c net.Conn) (int, error) {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a Unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	return int(cred.Uid), nil
}
