//go:build linux

package chaos

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"sega/cmd/segad/dev/devtest"
)

// state is what a line does with what comes.
type state int

const (
	through state = iota // carried both ways
	silent               // taken, and neither carried nor answered
	cut                  // reset
	captive              // answered by a page of somebody who has a good certificate
	garbled              // answered with what is no TLS
)

// line is the network between people and the broker: connections to its address are carried to
// another one for as long as it is whole.
type line struct {
	t      testing.TB
	listen net.Listener
	target string
	page   *tls.Config // of captive

	mu    sync.Mutex
	turn  *sync.Cond // when the state changes
	state state
	taken int // connections so far
	open  map[net.Conn]bool
	ended bool
	all   sync.WaitGroup
}

func newLine(t testing.TB, target string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &line{t: t, listen: l, target: target, open: map[net.Conn]bool{}}
	n.turn = sync.NewCond(&n.mu)
	n.all.Go(n.accept)
	t.Cleanup(n.end)
	return n
}

func (n *line) address() string { return n.listen.Addr().String() }

// is changes the state. What is under way stays frozen while the line is silent, and breaks otherwise,
// but for a return from silence.
func (n *line) is(s state) {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept := s == silent || n.state == silent && s == through
	n.state = s
	if !kept {
		n.breakAll()
	}
	n.turn.Broadcast()
}

// breakAll resets every connection. Under the lock.
func (n *line) breakAll() {
	for c := range n.open {
		reset(c)
	}
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (n *line) end() {
	n.mu.Lock()
	n.ended = true
	n.breakAll()
	n.turn.Broadcast()
	n.mu.Unlock()
	_ = n.listen.Close()
	n.all.Wait()
}

func (n *line) accept() {
	for {
		c, err := n.listen.Accept()
		if err != nil {
			return
		}
		n.keep(c)
		n.all.Go(func() { n.serve(c) })
	}
}

func (n *line) keep(c net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taken++
	n.open[c] = true
	if n.ended {
		reset(c)
	}
}

func (n *line) drop(c net.Conn) {
	_ = c.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, c)
}

// now waits until the line is not silent, and says what it is.
func (n *line) now() state {
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.state == silent && !n.ended {
		n.turn.Wait()
	}
	if n.ended {
		return cut
	}
	return n.state
}

func (n *line) serve(c net.Conn) {
	defer n.drop(c)
	switch n.now() {
	case through:
		n.carry(c)
	case captive:
		n.answer(tls.Server(c, n.page))
	case garbled:
		_, _ = io.WriteString(c, "220 mail.example ESMTP\r\n")
	default:
		reset(c)
	}
}

// answer is the page of a captive portal.
func (n *line) answer(c net.Conn) {
	r := bufio.NewReader(c)
	for text := " "; text != "\r\n"; {
		var err error
		if text, err = r.ReadString('\n'); err != nil {
			return
		}
	}
	const body = "<html><body>Welcome to the Hotel's network</body></html>\n"
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	_ = c.Close()
}

func (n *line) carry(c net.Conn) {
	to, err := net.Dial("tcp", n.target)
	if err != nil {
		reset(c)
		return
	}
	n.mu.Lock()
	n.open[to] = true
	n.mu.Unlock()
	defer n.drop(to)
	n.all.Go(func() { n.pump(c, to) })
	n.pump(to, c)
}

// pump carries one direction, and ends both with it.
func (n *line) pump(to, from net.Conn) {
	defer reset(to)
	defer reset(from)
	buf := make([]byte, 32<<10)
	for {
		k, err := from.Read(buf)
		if err != nil || n.now() != through {
			return
		}
		if _, err := to.Write(buf[:k]); err != nil {
			return
		}
	}
}

func (n *line) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.taken
}

// awaitCall waits until somebody new has called since there were so many connections.
func (n *line) awaitCall(since int) {
	n.t.Helper()
	devtest.Eventually(n.t, 20*time.Second, "nobody calls", func() error {
		if n.count() <= since {
			return errors.New("no new connection")
		}
		return nil
	})
}
