package keychain

import (
	"errors"
	"os/exec"
	"testing"
	"time"

	"github.com/godbus/dbus"

	"sega/keychain/bustest"
)

// sessionBus is the session's bus of a test.
type sessionBus struct {
	t       *testing.T
	dir     string
	address string
}

// newSessionBus starts a bus, and makes it the session's for this test.
func newSessionBus(t *testing.T) *sessionBus {
	t.Helper()
	b := bustest.Start(t)
	for k, v := range b.Env {
		t.Setenv(k, v)
	}
	return &sessionBus{t: t, dir: b.Dir, address: b.Address}
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
