package bastion

import "sync"

// buffers are what busy connections queue large writes in. Those that are in nobody's hands are the
// garbage collector's: a connection that calms down holds none. What stands in them is encrypted.
type buffers struct{ pool sync.Pool }

// extend appends p to what is queued, in a shared buffer where p is of a stream, or there is much. x/crypto/ssh gathers
// 4 KiB before it writes amid a packet, so a handshake takes none.
func (b *buffers) extend(queued, p []byte) []byte {
	need := len(queued) + len(p)
	if need <= cap(queued) || len(p) < keepBuffer && need <= ownBuffer || need > sharedBuffer {
		return append(queued, p...)
	}
	large, ok := b.pool.Get().(*[sharedBuffer]byte)
	if !ok {
		large = new([sharedBuffer]byte)
	}
	return append(append(large[:0], queued...), p...)
}

// release takes back what was written, and returns what the connection queues in next.
func (b *buffers) release(written []byte) []byte {
	switch {
	case cap(written) == sharedBuffer:
		b.pool.Put((*[sharedBuffer]byte)(written[:sharedBuffer]))
		return nil
	case cap(written) > keepBuffer:
		return nil
	}
	return written[:0]
}
