package bastion

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

// Routes of a connection, as api.HopRequest names them.
const (
	routeJump   = "jump"
	routeDirect = "direct"
)

// route is where a connection wants to go.
type route struct {
	kind  string // routeJump or routeDirect
	login string
	host  string
}

const separators = "%+"

// parseUser reads the user name of a connection. `LOGIN%HOST` and `LOGIN+HOST` are direct; a name
// without % and + is the outer connection of `ssh -J` and returns ok = false. Anything else is an
// error: neither logins nor host names hold % or +, so the cut is unique.
func parseUser(user string) (r route, ok bool, err error) {
	i := strings.IndexAny(user, separators)
	if i < 0 {
		return route{}, false, nil
	}
	login, host := user[:i], user[i+1:]
	if strings.ContainsAny(host, separators) {
		return route{}, false, fmt.Errorf("user name %q has more than one of %% and +", clip(user))
	}
	if err := sshca.CheckLogin(login); err != nil {
		return route{}, false, err
	}
	if err := sshca.CheckHostName(host); err != nil {
		return route{}, false, err
	}
	return route{kind: routeDirect, login: login, host: host}, true, nil
}

// parseJump reads the host that `ssh -J` wants to reach. The port must be one of ports, since the
// bastion answers with SSH whatever the port: the address to dial comes from the inventory alone.
func parseJump(payload []byte, ports []uint32) (host string, err error) {
	var d directTCPIP
	if err := ssh.Unmarshal(payload, &d); err != nil {
		return "", fmt.Errorf("malformed direct-tcpip request")
	}
	if err := sshca.CheckHostName(d.Host); err != nil {
		return "", err
	}
	if !slices.Contains(ports, d.Port) {
		return "", fmt.Errorf("port %d of %s is not reachable through this bastion, only ssh is", d.Port, d.Host)
	}
	return d.Host, nil
}
