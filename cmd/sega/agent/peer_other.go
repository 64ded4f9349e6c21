//go:build !linux && !darwin

package agent

import (
	"errors"
	"net"
)

// Supported says whether there are agents on this system.
const Supported = false

// ErrNoPeer is for systems that do not tell who is at the other end of a socket: there is no agent there.
var ErrNoPeer = errors.New("agent: this system does not tell who asks")

func peer(*net.UnixConn) (uid, pid int, err error) { return 0, 0, ErrNoPeer }
