//go:build linux

package link

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

const patience = 30 * time.Second

// TestPackets holds delay, loss and cut to what they say.
func TestPackets(t *testing.T) {
	l := join(t)
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		buf := make([]byte, mtu)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(buf[:n], from)
		}
	}()
	defer func() { _ = server.Close(); <-echoed }()
	var c net.Conn
	if e := l.In(func() { c, err = net.Dial("udp4", server.LocalAddr().String()) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	defer func() { _ = c.Close() }()
	if got := c.LocalAddr().(*net.UDPAddr).IP.String(); got != Laptop {
		t.Errorf("the laptop's address is %s", got)
	}
	// ask returns how many of n packets come back, and how long the first took.
	ask := func(n int, wait time.Duration) (back int, first time.Duration) {
		from := time.Now()
		for range n {
			if _, err := c.Write(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		for back < n {
			if _, err := c.Read(make([]byte, mtu)); err != nil {
				break
			}
			if back++; back == 1 {
				first = time.Since(from)
			}
		}
		return back, first
	}
	if back, _ := ask(50, patience); back != 50 {
		t.Errorf("%d of 50 packets came back over a good link", back)
	}
	l.Set(Conditions{Delay: 60 * time.Millisecond})
	if back, first := ask(1, patience); back != 1 || first < 120*time.Millisecond {
		t.Errorf("%d packets after %v", back, first)
	}
	l.Set(Conditions{Loss: 0.5})
	if back, _ := ask(400, 300*time.Millisecond); back < 40 || back > 180 {
		t.Errorf("%d of 400 came back where a quarter should", back)
	}
	l.Set(Conditions{Rate: 10_000})
	from := time.Now()
	if back, _ := ask(20, patience); back != 20 || time.Since(from) < 200*time.Millisecond { // 128 bytes each
		t.Errorf("%d packets after %v", back, time.Since(from))
	}
	l.Set(Conditions{Loss: 1})
	if back, _ := ask(10, 100*time.Millisecond); back != 0 {
		t.Errorf("%d packets crossed a link that is cut", back)
	}
	if l.Dropped() < 200 {
		t.Errorf("%d packets lost", l.Dropped())
	}
}

// TestStream carries bytes by TCP over a link that loses some.
func TestStream(t *testing.T) {
	l := join(t)
	l.Set(Conditions{Delay: 5 * time.Millisecond, Loss: 0.02})
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 200<<10)
	rand.Read(content)
	sent := make(chan error, 1)
	go func() {
		c, err := server.Accept()
		if err == nil {
			_, err = c.Write(content)
			_ = c.Close()
		}
		sent <- err
	}()
	var c net.Conn
	if e := l.In(func() { c, err = net.DialTimeout("tcp4", server.Addr().String(), patience) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	defer func() { _ = c.Close() }()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	_ = server.Close()
}

// TestThreadsLiveOn: what a thread has started in the laptop's namespace, to end with the thread, goes on.
func TestThreadsLiveOn(t *testing.T) {
	l := join(t)
	c := exec.Command("cat")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c.Stdout = &out
	if e := l.In(func() { err = c.Start() }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	for range 100 { // time for a thread to end
		if err := l.In(func() {}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = in.Write([]byte("alive"))
	if err := errors.Join(err, in.Close(), c.Wait()); err != nil || out.String() != "alive" {
		t.Errorf("%v, %q", err, out.String())
	}
}
