package agent

import (
	"bytes"
	"encoding/binary"
)

// userAuth is what a client signs to log in (RFC 4252 §7, and OpenSSH's PROTOCOL for the host-bound form).
type userAuth struct {
	session []byte // identifier of the SSH connection
	hostKey []byte // of the host-bound form, else nil
}

// parseUserAuth takes apart what is to be signed; anything but user authentication is refused.
func parseUserAuth(data []byte) (userAuth, bool) {
	var u userAuth
	var ok bool
	if u.session, data, ok = sshString(data); !ok || len(u.session) == 0 || len(data) == 0 || data[0] != 50 { // SSH_MSG_USERAUTH_REQUEST
		return userAuth{}, false
	}
	if _, data, ok = sshString(data[1:]); !ok { // user
		return userAuth{}, false
	}
	service, data, ok := sshString(data)
	if !ok || string(service) != "ssh-connection" {
		return userAuth{}, false
	}
	method, data, ok := sshString(data)
	bound := bytes.Equal(method, []byte("publickey-hostbound-v00@openssh.com"))
	if !ok || !bound && !bytes.Equal(method, []byte("publickey")) {
		return userAuth{}, false
	}
	if len(data) == 0 || data[0] != 1 { // a signature follows
		return userAuth{}, false
	}
	if _, data, ok = sshString(data[1:]); !ok { // algorithm
		return userAuth{}, false
	}
	if _, data, ok = sshString(data); !ok { // key
		return userAuth{}, false
	}
	if bound {
		if u.hostKey, data, ok = sshString(data); !ok || len(u.hostKey) == 0 {
			return userAuth{}, false
		}
	}
	return u, len(data) == 0
}

// sshString takes a string off the front (RFC 4251 §5).
func sshString(in []byte) (s, rest []byte, ok bool) {
	if len(in) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(in)
	if uint64(n) > uint64(len(in)-4) {
		return nil, nil, false
	}
	return in[4 : 4+n], in[4+n:], true
}
