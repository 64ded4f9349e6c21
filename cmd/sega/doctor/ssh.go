package doctor

import (
	"context"
	"net"
	"os"
	"time"
)

// sshConfig looks at the block that leads stock ssh to the hosts.
func (x *exam) sshConfig(ctx context.Context) []Finding {
	found, err := x.SSH(ctx)
	if err != nil {
		text, mend := x.Explain(err)
		return one(failing(mend, "%s", text))
	}
	return orGood(found, "ssh_config is in order")
}

// sshAgent looks at the agent that ssh itself would ask. sega's commands do not use it.
func (x *exam) sshAgent(ctx context.Context) []Finding {
	path := x.Getenv("SSH_AUTH_SOCK")
	if path == "" {
		return one(good("SSH_AUTH_SOCK is not set, and sega does not need it"))
	}
	if _, err := os.Stat(path); err != nil {
		return one(warning("unset SSH_AUTH_SOCK", "SSH_AUTH_SOCK names a socket that is not there: %s", path))
	}
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return one(warning("unset SSH_AUTH_SOCK", "nobody answers at SSH_AUTH_SOCK: %s", path))
	}
	_ = conn.Close()
	return one(good("SSH_AUTH_SOCK leads to an agent; sega's commands use none but their own"))
}
