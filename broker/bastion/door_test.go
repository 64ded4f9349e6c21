package bastion

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// knockerConn notes that it was closed.
type knockerConn struct{ closed bool }

func (k *knockerConn) Close() error { k.closed = true; return nil }

func TestDoor(t *testing.T) {
	d := newDoor(4, 2)
	knock := func(addr string) (*knockerConn, func(), netip.Addr) {
		c := &knockerConn{}
		leave, dropped := d.enter(c, netip.MustParseAddr(addr))
		return c, leave, dropped
	}
	oldest, leaveOldest, _ := knock("192.0.2.1")
	second, leaveSecond, _ := knock("192.0.2.1")
	third, leaveThird, dropped := knock("192.0.2.1")
	if !oldest.closed || second.closed || dropped != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("a third of one address: oldest closed %v, second %v, of %v", oldest.closed, second.closed, dropped)
	}
	six, _, _ := knock("2001:db8::1")
	knock("2001:db8::2")
	if _, _, dropped := knock("2001:db8::3"); !six.closed || dropped != netip.MustParseAddr("2001:db8::1") || second.closed {
		t.Errorf("a third of one /64: its oldest closed %v, another's %v, of %v", six.closed, second.closed, dropped)
	}
	if _, _, dropped := knock("192.0.2.2"); !second.closed || third.closed || dropped != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("with all places taken: second closed %v, third %v, of %v", second.closed, third.closed, dropped)
	}
	leaveOldest() // has gone already
	leaveSecond() // so has this one
	leaveThird()
	leaveThird()
	if _, _, dropped := knock("192.0.2.1"); dropped.IsValid() {
		t.Error("a place given back is not free")
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

// TestOneSourceTakesNotAllPlaces: who holds more than its share loses its own oldest, and nobody else's;
// somebody behind the same address still gets in.
func TestOneSourceTakesNotAllPlaces(t *testing.T) {
	f := newFakeControl(t)
	w := start(t, f, func(c *Config) { c.MaxPerSource = 2 })
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
		if _, err := c.Read(make([]byte, len(serverVersion))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.Copy(io.Discard, conns[0]); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the oldest of three lives")
	}
	c, err := w.dial("ada", f.credential(t).signer)
	if err != nil {
		t.Fatalf("an honest person was locked out: %v", err)
	}
	_ = c.Close()
}

// TestDroppedStrangersWaitForNothing: of a held source, whose turn does not come, no more connections are
// kept than it has places.
func TestDroppedStrangersWaitForNothing(t *testing.T) {
	f := newFakeControl(t)
	w := start(t, f, func(c *Config) { c.MaxPerSource = 2 })
	for range wrongFree + 1 {
		w.b.attempts.failed(netip.MustParseAddr("127.0.0.1"))
	}
	for range heldTurns {
		w.b.attempts.turns <- struct{}{}
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	var ended atomic.Int64
	for range 20 {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		reading.Go(func() { _, _ = io.Copy(io.Discard, c); ended.Add(1) })
	}
	eventually(t, "all but two are dropped", func() bool { return ended.Load() == 18 })
	waiting := func() int {
		all := make([]byte, 4<<20)
		return strings.Count(string(all[:runtime.Stack(all, true)]), "(*attempts).turn(")
	}
	eventually(t, "two that wait", func() bool { return waiting() == 2 })
	for range heldTurns {
		<-w.b.attempts.turns
	}
}
