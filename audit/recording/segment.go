package recording

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// What follows works under Writer.mu and only fills buf; flush writes it.

// appendFrame encrypts a frame behind what waits in buf, and seals a segment that is large enough.
func (w *Writer) appendFrame(channel uint32, s Stream, data []byte) {
	w.appendRecord(s.recordType(), channel, s, data)
}

// appendRecord is appendFrame for a record of any type that holds a frame.
func (w *Writer) appendRecord(typ byte, channel uint32, s Stream, data []byte) {
	start := w.startRecord(typ, frameLen+len(data))
	w.buf = binary.BigEndian.AppendUint32(w.buf, channel)
	w.buf = append(w.buf, byte(s))
	w.buf = binary.BigEndian.AppendUint64(w.buf, uint64(w.offset()))
	w.buf = append(w.buf, data...)
	w.encryptRecord(start)
	if w.bytes >= segmentBytes {
		w.appendSeal()
	}
}

func (w *Writer) appendEnd(reason string) {
	const maxReason = 4 << 10
	reason = reason[:min(len(reason), maxReason)]
	start := w.startRecord(typeEnd, 8+len(reason))
	w.buf = binary.BigEndian.AppendUint64(w.buf, uint64(w.offset()))
	w.buf = append(w.buf, reason...)
	w.encryptRecord(start)
}

// offset is the time since the start, which never falls, whatever the clock does.
func (w *Writer) offset() time.Duration {
	w.last = max(w.last, w.now().Sub(w.header.Started))
	return w.last
}

// startRecord appends the prefix of a record and returns where it starts. It makes room for all of
// it and a seal: were buf to grow later, plaintext would stay behind in memory.
func (w *Writer) startRecord(typ byte, plainLen int) int {
	start := len(w.buf)
	w.buf = slices.Grow(w.buf, prefixLen+plainLen+tagLen+prefixLen+sealLen)
	w.buf = appendPrefix(w.buf, typ, plainLen+tagLen)
	return start
}

// encryptRecord seals the record from start to the end of buf in place and counts it.
func (w *Writer) encryptRecord(start int) {
	typ := w.buf[start+prefixLen-1]
	r := w.out
	if typ == typeInput {
		r = w.in
	}
	putNonce(&w.nonce, w.segment, w.records)
	putAAD(w.aad, typ, w.segment, w.records)
	plain := w.buf[start+prefixLen:]
	w.buf = r.aead.Seal(w.buf[:start+prefixLen], w.nonce[:], plain, w.aad)
	w.hash.Write(w.buf[start:])
	w.bytes += uint64(len(w.buf) - start)
	w.records++
}

// appendSeal closes the segment behind what waits in buf and steps the keys. Whatever fails is
// found by flush.
func (w *Writer) appendSeal() {
	s := seal{segment: w.segment, records: w.records, bytes: w.bytes, prev: w.sealed.hash}
	w.hash.Sum(s.hash[:0])
	start := len(w.buf)
	w.buf = s.appendRecord(w.buf, *w.key)
	w.sealed = mark{
		segments: w.segment,
		bytes:    w.sealed.bytes + w.bytes + uint64(len(w.buf)-start),
		hash:     w.header.Hash.sum(w.buf[start:]),
	}
	w.hash.Reset()
	w.segment, w.records, w.bytes = w.segment+1, 0, 0
	if err := errors.Join(w.out.step(), w.in.step()); err != nil {
		w.fail(err)
	}
}

// flush hands buf to the spool in one call.
func (w *Writer) flush() {
	if w.err == nil && len(w.buf) > 0 {
		if err := writeAll(w.f, w.buf); err != nil {
			w.fail(fmt.Errorf("recording: write: %w", err))
		}
	}
	w.buf = w.buf[:0]
}

// writeAll makes a short write an error, whatever the spool says of it.
func writeAll(f File, b []byte) error {
	n, err := f.Write(b)
	if err == nil && n != len(b) {
		return io.ErrShortWrite
	}
	return err
}

func putNonce(nonce *[12]byte, segment uint64, counter uint32) {
	binary.BigEndian.PutUint64(nonce[:], segment)
	binary.BigEndian.PutUint32(nonce[8:], counter)
}

// putAAD fills in what stands before the session ID.
func putAAD(aad []byte, typ byte, segment uint64, counter uint32) {
	aad[0] = typ
	binary.BigEndian.PutUint64(aad[1:], segment)
	binary.BigEndian.PutUint32(aad[9:], counter)
}
