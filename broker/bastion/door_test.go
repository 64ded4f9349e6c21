package bastion

import (
	"errors"
	"net"
	"testing"
	"time"
)

// from is a connection of an address that the test chooses.
type from struct {
	net.Conn
	addr   string
	closed bool
}

func (f *from) RemoteAddr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", f.addr)
	if err != nil {
		panic(err)
	}
	return a
}

func (f *from) Close() error { f.closed = true; return nil }

func TestDoor(t *testing.T) {
	d := newDoor(4, 2)
	knock := func(addr string) (*from, func(), error) {
		c := &from{addr: addr}
		leave, _, err := d.enter(c)
		return c, leave, err
	}
	oldest, leaveOldest, err := knock("192.0.2.1:1")
	if err != nil {
		t.Fatal(err)
	}
	second, leaveSecond, err := knock("192.0.2.1:2")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := knock("192.0.2.1:3"); !errors.Is(err, errBusy) {
		t.Errorf("a third of one address: %v", err)
	}
	for _, addr := range []string{"[2001:db8::1]:1", "[2001:db8::2]:1"} {
		if _, _, err := knock(addr); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := knock("[2001:db8::3]:1"); !errors.Is(err, errBusy) {
		t.Errorf("a third of one /64: %v", err)
	}
	if oldest.closed {
		t.Error("what was refused dropped the oldest")
	}
	if _, _, err := knock("192.0.2.2:1"); err != nil || !oldest.closed || second.closed {
		t.Errorf("with all places taken: %v, oldest closed %v, second %v", err, oldest.closed, second.closed)
	}
	leaveOldest() // has gone already
	leaveSecond()
	leaveSecond()
	for _, addr := range []string{"192.0.2.1:4", "192.0.2.1:5"} {
		if _, _, err := knock(addr); err != nil {
			t.Errorf("places given back are not free: %v", err)
		}
	}
	if d.waiting.Len() != 4 || len(d.sources) != 3 {
		t.Errorf("%d wait, of %d sources", d.waiting.Len(), len(d.sources))
	}
}

// TestIdleStrangersLockNobodyOut holds as many connections as the bastion has places, and more, and
// says nothing on them.
func TestIdleStrangersLockNobodyOut(t *testing.T) {
	f := newFakeControl(t)
	w := start(t, f, func(c *Config) { c.MaxHandshakes = 8 })
	for range 20 {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	eventually(t, "places that are all taken", func() bool {
		w.b.door.mu.Lock()
		defer w.b.door.mu.Unlock()
		return w.b.door.waiting.Len() == 8
	})
	c, err := w.dial("ada", f.credential(t).signer)
	if err != nil {
		t.Fatalf("an honest person was locked out: %v", err)
	}
	_ = c.Close()
}

func TestOneSourceTakesNotAllPlaces(t *testing.T) {
	w := start(t, newFakeControl(t), func(c *Config) { c.MaxPerSource = 2 })
	var conns []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if len(conns) < 3 {
			if _, err := c.Read(make([]byte, len(serverVersion))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n, err := conns[2].Read(make([]byte, 1)); err == nil {
		t.Errorf("a third handshake was answered with %d bytes", n)
	}
}
