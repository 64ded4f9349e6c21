package keychain

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus"
)

// desktop is what decides whether there is a session bus, and a person in front of it.
type desktop struct {
	address string        // of the session bus, "" where there is none
	person  bool          // somebody sees a prompt on this machine's screen
	answer  time.Duration // what the bus gets to answer
	wait    time.Duration // what the person gets
}

// thisDesktop reads the environment. A bus is never started for sega: where there is neither
// an address nor a socket at its usual place, there is none. Over SSH a prompt would appear
// on a screen that the person does not see.
func thisDesktop() desktop {
	d := desktop{address: os.Getenv("DBUS_SESSION_BUS_ADDRESS"), answer: answerTime, wait: personTime}
	screen := os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
	d.person = screen && os.Getenv("SSH_CONNECTION") == ""
	if d.address != "" && d.address != "autolaunch:" {
		return d
	}
	d.address = ""
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run == "" {
		run = filepath.Join("/run/user", strconv.Itoa(os.Getuid()))
	}
	socket := filepath.Join(run, "bus")
	if info, err := os.Stat(socket); err == nil && info.Mode()&os.ModeSocket != 0 {
		d.address = "unix:path=" + url.PathEscape(socket)
	}
	return d
}

// bus is a connection to the session bus for one operation, which gets the answer time in all: when
// that passes, the connection fails and every call on it with it. Only while a person is being
// asked it is longer, and begins anew afterwards.
type bus struct {
	*dbus.Conn
	net     net.Conn
	desktop desktop
}

func (d desktop) dial() (*bus, error) {
	path, err := socketPath(d.address)
	if err != nil {
		return nil, err
	}
	c, err := net.DialTimeout("unix", path, d.answer)
	if err != nil {
		return nil, errors.New("there is no session bus")
	}
	conn, err := dbus.NewConn(c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("session bus: %w", err), c.Close())
	}
	b := &bus{Conn: conn, net: c, desktop: d}
	if err := b.greet(); err != nil {
		b.close()
		return nil, b.slow(err)
	}
	return b, nil
}

func (b *bus) greet() error {
	if err := b.until(b.desktop.answer); err != nil {
		return err
	}
	if err := b.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return err
	}
	return b.Hello()
}

// close ends the connection and with it the goroutine that reads it.
func (b *bus) close() { _ = b.Conn.Close() }

func (b *bus) until(d time.Duration) error { return b.net.SetDeadline(time.Now().Add(d)) }

// ask does what may ask a person, and gives the program its time back afterwards.
func (b *bus) ask(f func() error) error {
	if err := b.until(b.desktop.wait + b.desktop.answer); err != nil {
		return b.slow(err)
	}
	if err := f(); err != nil {
		return err
	}
	return b.slow(b.until(b.desktop.answer))
}

// call calls a method and stores its results.
func (b *bus) call(dest string, path dbus.ObjectPath, method string, args []any, results ...any) error {
	if err := b.Object(dest, path).Call(method, 0, args...).Store(results...); err != nil {
		return b.slow(err)
	}
	return nil
}

// Errors of the bus daemon itself (dbus-specification, "Standard errors").
const (
	busUnknown = "org.freedesktop.DBus.Error.ServiceUnknown"
	busNoReply = "org.freedesktop.DBus.Error.NoReply" // the program died while it was asked
)

// slow tells a deadline and a program that is not there from other errors. The texts of the bus hold
// names of methods and services, never arguments.
func (b *bus) slow(err error) error {
	if err == nil {
		return nil
	}
	var refused dbus.Error
	if errors.As(err, &refused) && (refused.Name == busUnknown || refused.Name == busNoReply) {
		return errAbsent
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) || errors.Is(err, dbus.ErrClosed) {
		return errSilent
	}
	return fmt.Errorf("session bus: %w", err)
}

// socketPath takes the first Unix socket of a D-Bus address list ("unix:path=/run/user/1/bus,guid=…;…").
func socketPath(addresses string) (string, error) {
	for address := range strings.SplitSeq(addresses, ";") {
		options, ok := strings.CutPrefix(address, "unix:")
		if !ok {
			continue
		}
		for option := range strings.SplitSeq(options, ",") {
			name, value, _ := strings.Cut(option, "=")
			value, err := url.PathUnescape(value)
			switch {
			case err != nil || value == "":
			case name == "path":
				return value, nil
			case name == "abstract":
				return "@" + value, nil
			}
		}
	}
	return "", errors.New("there is no session bus")
}
