// Package bustest runs a session bus of D-Bus for a test, in a folder of its own. Tests alone import it. What is on the
// bus is theirs.
package bustest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// config is a session bus that starts nothing by itself.
const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
`

// Bus is Debian's dbus-daemon, until the test ends.
type Bus struct {
	Dir     string // a home for what joins it, short enough for sockets in it
	Address string
	Env     map[string]string // of a session on this bus, in which nobody is in front of a screen
}

// Start starts a bus. Where there is no dbus-daemon it fails in CI, and skips the test elsewhere.
func Start(t testing.TB) Bus {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("dbus-daemon is missing: run scripts/deps")
		}
		t.Skip("dbus-daemon is missing: run scripts/deps")
	}
	dir, err := os.MkdirTemp("", "bus") // t.TempDir may exceed a socket's 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, file := filepath.Join(dir, "bus"), filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	b := Bus{Dir: dir, Address: "unix:path=" + socket}
	b.Env = map[string]string{"HOME": dir, "XDG_RUNTIME_DIR": dir, "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": "",
		"DBUS_SESSION_BUS_ADDRESS": b.Address, "DISPLAY": "", "WAYLAND_DISPLAY": "", "SSH_CONNECTION": "", "GNOME_KEYRING_CONTROL": ""}
	cmd := exec.Command(program, "--config-file="+file, "--nofork", "--print-address")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it prints the address when it listens
		t.Fatalf("dbus-daemon: %v", err)
	}
	return b
}
