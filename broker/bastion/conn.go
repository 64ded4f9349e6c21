package bastion

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	readBuffer    = 32 << 10
	maxPending    = 512 << 10 // bytes that may wait for the network before Write blocks
	keepBuffer    = 4 << 10   // of a connection's own, which holds keystrokes
	ownBuffer     = 32 << 10  // of a connection's own at most, while a handshake lasts
	sharedBuffer  = maxPending + 64<<10
	flushDeadline = 2 * time.Second // how long Close waits for a peer that does not read
)

// bufferedConn makes one system call out of many packets: x/crypto/ssh reads 4 KiB at a time and
// flushes each packet that it writes. What is written while the network is busy goes out together.
type bufferedConn struct {
	net.Conn
	r     *bufio.Reader
	heard atomic.Int64 // when the last byte came, in nanoseconds since began
	began time.Time    // with its monotonic reading

	network bool // TCP: a small write that finds nothing queued goes out at once

	mu      sync.Mutex
	changed *sync.Cond
	pending []byte
	shared  *buffers
	writing bool  // somebody is in writeNow
	flushes bool  // the flusher is at the network
	err     error // of the network, sticky
	closing bool
	severed bool          // the socket is Abort's to close
	flushed chan struct{} // closed when the flusher has ended
	once    sync.Once
}

// newBufferedConn wraps c and starts its flusher, which Close and Abort wait for.
func newBufferedConn(c net.Conn, shared *buffers) *bufferedConn {
	b := &bufferedConn{Conn: c, shared: shared, flushed: make(chan struct{}), began: time.Now()}
	b.r = bufio.NewReaderSize(heardConn{b}, readBuffer)
	b.changed = sync.NewCond(&b.mu)
	_, b.network = c.(*net.TCPConn) // a channelConn may not touch what a cut write has left, and x/crypto does
	go b.flush()
	return b
}

// heardConn notes when something comes from the network.
type heardConn struct{ b *bufferedConn }

func (h heardConn) Read(p []byte) (int, error) {
	n, err := h.b.Conn.Read(p)
	if n > 0 {
		h.b.heard.Store(int64(time.Since(h.b.began)))
	}
	return n, err
}

// silent is for how long nothing has come.
func (b *bufferedConn) silent() time.Duration {
	return time.Since(b.began) - time.Duration(b.heard.Load())
}

// Read implements net.Conn.
func (b *bufferedConn) Read(p []byte) (int, error) { return b.r.Read(p) }

// Write queues p and blocks while too much is queued. A failure of the network is reported by a
// later Write. What is small, a keystroke or its echo, waits for no flusher to wake up.
func (b *bufferedConn) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.pending) >= maxPending && b.err == nil && !b.closing {
		b.changed.Wait()
	}
	if b.err != nil {
		return 0, b.err
	}
	if b.closing {
		return 0, net.ErrClosed
	}
	if b.network && !b.writing && !b.flushes && len(b.pending) == 0 && len(p) < keepBuffer {
		return b.writeNow(p)
	}
	b.pending = b.shared.extend(b.pending, p)
	b.changed.Broadcast()
	return len(p), nil
}

// writeNow writes p itself. The caller holds mu, which is free meanwhile: what others write is queued behind it.
func (b *bufferedConn) writeNow(p []byte) (int, error) {
	b.writing = true
	b.mu.Unlock()
	n, err := b.Conn.Write(p)
	b.mu.Lock()
	b.writing = false
	if b.err == nil {
		b.err = err
	}
	if len(b.pending) > 0 || b.closing || err != nil {
		b.changed.Broadcast()
	}
	return n, err
}

func (b *bufferedConn) flush() {
	defer close(b.flushed)
	var spare []byte
	for {
		out := b.take(spare)
		if out == nil {
			return
		}
		if _, err := b.Conn.Write(out); err != nil {
			b.fail(err)
			return
		}
		spare = b.shared.release(out)
	}
}

// take waits for something to write, and until nobody else does; nil means that there will be nothing more.
func (b *bufferedConn) take(spare []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flushes = false
	for len(b.pending) == 0 && !b.closing || b.writing {
		b.changed.Wait()
	}
	if len(b.pending) == 0 || b.err != nil {
		return nil
	}
	b.flushes = true
	out := b.pending
	b.pending = spare
	b.changed.Broadcast()
	return out
}

func (b *bufferedConn) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
	b.changed.Broadcast()
}

// Close sends what is queued, waiting at most flushDeadline for a peer that does not read, and closes.
func (b *bufferedConn) Close() error {
	b.stop()
	timer := time.AfterFunc(flushDeadline, func() { _ = b.Conn.Close() })
	defer timer.Stop()
	<-b.flushed
	if b.isSevered() {
		return nil
	}
	return b.closeConn()
}

// Sever ends all traffic at once and waits for nobody: nothing that is queued here goes out any more, and reads and writes
// fail. The socket stays open, whoever calls Close, until Abort; what the kernel has of it already may arrive until then.
func (b *bufferedConn) Sever() {
	b.mu.Lock()
	b.err, b.closing, b.severed = net.ErrClosed, true, true
	b.changed.Broadcast()
	b.mu.Unlock()
	if b.Conn.SetDeadline(time.Unix(1, 0)) != nil { // it wakes who reads or writes
		_ = b.closeConn()
	}
}

func (b *bufferedConn) isSevered() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.severed
}

// Abort closes at once; nothing that is queued goes out any more.
func (b *bufferedConn) Abort() {
	b.fail(net.ErrClosed)
	b.stop()
	if tcp, ok := b.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // what the kernel still holds is dropped too
	}
	_ = b.closeConn()
	<-b.flushed
}

func (b *bufferedConn) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closing = true
	b.changed.Broadcast()
}

func (b *bufferedConn) closeConn() error {
	err := net.ErrClosed
	b.once.Do(func() { err = b.Conn.Close() })
	return err
}
