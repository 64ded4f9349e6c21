package bastion

import (
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// channelConn is a direct-tcpip channel as the transport of an inner SSH connection.
//
// Close ends Read and Write at once. x/crypto's channel does so only when the other side has
// answered, which a laptop that sleeps never does: the inner session could not be ended. What then
// still hangs in the channel is carry's, until the outer connection ends.
//
// Deadlines have no effect; bufferedConn and the login timer close instead.
type channelConn struct {
	ch            ssh.Channel
	local, remote net.Addr

	in   *io.PipeReader
	feed *io.PipeWriter
	out  chan []byte // to carry, which answers each in sent
	sent chan written
	gone chan struct{} // closed by Close
	once sync.Once
}

type written struct {
	n   int
	err error
}

// newChannelConn returns a connection of which nothing moves until carry runs.
func newChannelConn(ch ssh.Channel, local, remote net.Addr) *channelConn {
	c := &channelConn{ch: ch, local: local, remote: remote, out: make(chan []byte), sent: make(chan written, 1), gone: make(chan struct{})}
	c.in, c.feed = io.Pipe()
	return c
}

// carry moves bytes between channel and connection. It returns when both sides have closed the
// channel, or when the connection under it has ended.
func (c *channelConn) carry() {
	var wg sync.WaitGroup
	wg.Go(c.receive)
	for c.send() {
	}
	_ = c.ch.Close()
	wg.Wait()
}

func (c *channelConn) receive() {
	buf := make([]byte, smallBuffer)
	for {
		n, err := c.ch.Read(buf)
		if n > 0 {
			_, _ = c.feed.Write(buf[:n]) // after Close this drops the rest
		}
		if err != nil {
			_ = c.feed.CloseWithError(err)
			return
		}
		buf = resize(buf, n, largeBuffer)
	}
}

// send carries one Write out, and reports whether there may be another.
func (c *channelConn) send() bool {
	select {
	case p := <-c.out:
		n, err := c.ch.Write(p)
		c.sent <- written{n, err}
		return true
	case <-c.gone:
		return false
	}
}

// Read implements net.Conn.
func (c *channelConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// Write implements net.Conn for one writer at a time, which may not touch p again where Close has
// cut it short.
func (c *channelConn) Write(p []byte) (int, error) {
	select {
	case <-c.gone:
		return 0, net.ErrClosed
	default:
	}
	select {
	case c.out <- p:
	case <-c.gone:
		return 0, net.ErrClosed
	}
	select {
	case w := <-c.sent:
		return w.n, w.err
	case <-c.gone:
		return 0, net.ErrClosed
	}
}

// Close implements net.Conn.
func (c *channelConn) Close() error {
	c.once.Do(func() {
		close(c.gone)
		_ = c.in.CloseWithError(net.ErrClosed)
	})
	return nil
}

func (c *channelConn) LocalAddr() net.Addr              { return c.local }
func (c *channelConn) RemoteAddr() net.Addr             { return c.remote }
func (c *channelConn) SetDeadline(time.Time) error      { return nil }
func (c *channelConn) SetReadDeadline(time.Time) error  { return nil }
func (c *channelConn) SetWriteDeadline(time.Time) error { return nil }
