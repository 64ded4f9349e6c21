package keychain

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus"
)

// sessionBus is Debian's dbus-daemon in a folder of the test's own.
type sessionBus struct {
	t       *testing.T
	dir     string
	address string
}

// busConfig is a session bus that starts nothing by itself.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
`

// newSessionBus starts the bus, and makes it the session's for this test, in which nobody is in front of a screen.
func newSessionBus(t *testing.T) *sessionBus {
	t.Helper()
	needPrograms(t, "dbus-daemon")
	dir, err := os.MkdirTemp("", "sb") // t.TempDir may exceed a socket's 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, config := filepath.Join(dir, "bus"), filepath.Join(dir, "bus.conf")
	b := &sessionBus{t: t, dir: dir, address: "unix:path=" + socket}
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"HOME": dir, "XDG_RUNTIME_DIR": dir, "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": "",
		"DBUS_SESSION_BUS_ADDRESS": b.address, "DISPLAY": "", "WAYLAND_DISPLAY": "", "SSH_CONNECTION": "", "GNOME_KEYRING_CONTROL": ""} {
		t.Setenv(k, v)
	}
	cmd := exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--print-address")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(cmd) })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it prints the address when it listens
		t.Fatalf("dbus-daemon: %v", err)
	}
	return b
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// awaitName waits until a program has a name on the bus.
func (b *sessionBus) awaitName(name string) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		var owned bool
		b.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.NameHasOwner", []any{name}, &owned)
		if owned {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s is not on the bus", name)
		}
		time.Sleep(20 * time.Millisecond) // between two looks at the condition
	}
}

// connect is a connection of the test's own, for what sega never does.
func (b *sessionBus) connect() *dbus.Conn {
	b.t.Helper()
	c, err := dbus.Dial(b.address)
	if err == nil {
		err = errors.Join(c.Auth(nil), c.Hello())
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *sessionBus) call(dest string, path dbus.ObjectPath, method string, args []any, results ...any) {
	b.t.Helper()
	c := b.connect()
	defer c.Close()
	if err := c.Object(dest, path).Call(method, 0, args...).Store(results...); err != nil {
		b.t.Fatal(err)
	}
}
