//go:build linux

package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// UnitPath is where the service of the daemon is written, where systemd runs; else "".
func UnitPath() string {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return ""
	}
	return "/etc/systemd/system/sega-host.service"
}

// unit is the service of the daemon. It starts after the network and is started again whatever it died of:
// without it sshd's questions are answered by the last bundle on the disk.
func (c Config) unit() []byte {
	return []byte(fmt.Sprintf(`[Unit]
Description=sega host: keeps what SSH logins are judged by
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=%s
Restart=always
RestartSec=2
RuntimeDirectory=sega-host
RuntimeDirectoryPreserve=yes
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
`, c.call("run")))
}

// startUnit starts the daemon, or starts it anew.
func (e *Enrolment) startUnit(ctx context.Context) error {
	if e.Unit == "" {
		fmt.Fprintf(e.Out, "systemd does not run here: start `%s`, anew where it runs, and have it started at boot\n", e.call("run"))
		return nil
	}
	name := filepath.Base(e.Unit)
	for _, args := range [][]string{{"daemon-reload"}, {"enable", name}, {"restart", name}} {
		if out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("the host is enrolled, and its daemon does not start: systemctl %v: %w: %s", args, err, out)
		}
	}
	return nil
}

// stopUnit stops the daemon; one that does not run is stopped.
func (c Config) stopUnit(ctx context.Context) {
	if c.Unit != "" {
		_ = exec.CommandContext(ctx, "systemctl", "disable", "--now", filepath.Base(c.Unit)).Run()
	}
}
