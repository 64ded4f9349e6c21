package bastion

import (
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
)

const (
	smallBuffer  = 4 << 10   // while little flows: an idle session holds three of these
	packetBuffer = 32 << 10  // what a packet of SSH holds: of a program's stream that was busy and waits
	largeBuffer  = 64 << 10  // of a stream that is looked into, or forwarded
	bulkBuffer   = 256 << 10 // of a program's stream, which goes to the spool in one write
)

// startPumps moves bytes in both directions. Each goes read, record, forward (design I2).
func (c *channel) startPumps() {
	c.mu.Lock()
	c.began = true
	c.mu.Unlock()
	var seeIn, seeOut func([]byte) bool
	if v := c.copying(); v != nil {
		seeIn, seeOut = v.fromClient, v.fromHost
	}
	output := func() { c.pump(recording.StreamOut, c.host, c.client, &c.s.out, seeOut) }
	input := func() { c.pump(recording.StreamIn, c.client, c.host, &c.s.in, seeIn) }
	if f := c.program(); f != nil {
		output, input = f.toPerson, f.toHost
	}
	var outputs sync.WaitGroup
	outputs.Go(output)
	outputs.Go(func() { c.pump(recording.StreamErr, c.host.Stderr(), personErrors{c}, &c.s.errored, nil) })
	c.wg.Go(func() {
		outputs.Wait()
		close(c.drained)
	})
	c.wg.Go(func() {
		defer c.inputDone()
		input()
		c.s.record(c.number, recording.Event{Type: recording.EventEOF})
		_ = c.host.CloseWrite()
	})
}

// pump ends at the end of from, when to takes no more, and when the session is cut. see, where there is
// one, is shown what is recorded before it goes on, and may keep it from that.
func (c *channel) pump(stream recording.Stream, from io.Reader, to io.Writer, count *atomic.Int64, see func([]byte) bool) {
	b := newStreamBuffer(&c.s.b.bulk)
	defer b.release()
	for {
		buf := b.now
		n, err := from.Read(buf)
		if n > 0 {
			if !c.s.recordData(c.number, stream, buf[:n]) || see != nil && !see(buf[:n]) {
				return
			}
			if stream == recording.StreamOut && c.isPTY() {
				c.screen.see(buf[:n])
			}
			sent, err := to.Write(buf[:n])
			count.Add(int64(sent))
			if err != nil {
				return
			}
		}
		if err != nil {
			return
		}
		b.read(n)
	}
}

// streamBuffer is what a program's stream is read into. Nobody can take a buffer back from a read that waits, so none
// waits with a large one: a read that does not fill its buffer has taken all that there was.
type streamBuffer struct {
	spare  *sync.Pool // of *[bulkBuffer]byte
	now    []byte
	packet []byte            // nil while the stream is calm
	bulk   *[bulkBuffer]byte // nil while it is not taken
}

func newStreamBuffer(spare *sync.Pool) *streamBuffer {
	return &streamBuffer{spare: spare, now: make([]byte, smallBuffer)}
}

// read notes how much of now was read, and chooses the next.
func (b *streamBuffer) read(n int) {
	switch full := n == len(b.now); {
	case full && b.bulk == nil:
		if b.bulk, _ = b.spare.Get().(*[bulkBuffer]byte); b.bulk == nil {
			b.bulk = new([bulkBuffer]byte)
		}
		b.now = b.bulk[:]
	case n < smallBuffer/4 && len(b.now) > smallBuffer:
		b.release()
		b.packet, b.now = nil, make([]byte, smallBuffer)
	case !full && b.bulk != nil:
		b.release()
		if b.packet == nil {
			b.packet = make([]byte, packetBuffer)
		}
		b.now = b.packet
	}
}

// release gives a large buffer to whoever needs one next.
func (b *streamBuffer) release() {
	if b.bulk != nil {
		b.spare.Put(b.bulk)
		b.bulk, b.now = nil, nil
	}
}

// resize gives a busy stream a buffer of large bytes and takes it back when the stream calms down.
func resize(buf []byte, n, large int) []byte {
	switch {
	case n == len(buf) && len(buf) == smallBuffer:
		return make([]byte, large)
	case n < smallBuffer/4 && len(buf) == large:
		return make([]byte, smallBuffer)
	}
	return buf
}

// discardChannel closes a channel and serves its requests until the other side closes it too.
func discardChannel(ch ssh.Channel, reqs <-chan *ssh.Request) {
	_ = ch.Close()
	ssh.DiscardRequests(reqs)
}
