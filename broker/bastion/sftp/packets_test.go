package sftp

import (
	"encoding/binary"
	"testing"
)

// packet builds a packet of a type: uint32 and uint64 as they are, strings with their length, raw
// bytes without one.
type raw []byte

func packet(typ byte, parts ...any) []byte {
	b := []byte{0, 0, 0, 0, typ}
	for _, p := range parts {
		switch v := p.(type) {
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		case uint64:
			b = binary.BigEndian.AppendUint64(b, v)
		case string:
			b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
			b = append(b, v...)
		case raw:
			b = append(b, v...)
		default:
			panic(p)
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func join(packets ...[]byte) (all []byte) {
	for _, p := range packets {
		all = append(all, p...)
	}
	return all
}

// world is a channel whose both ends the test plays.
type world struct {
	t   testing.TB
	o   *Observer
	cut int // bytes of a chunk; 0: all at once

	toHost, toPerson, replies []byte
	recorded                  [2][]byte // what of the client's, of the host's bytes went into the recording
	left                      int       // bytes of content that did not
	ops                       []Operation
	err                       error
}

func newWorld(t testing.TB, c Config) *world {
	w := &world{t: t, o: New(c)}
	w.client(packet(typeInit, 3))
	w.host(packet(typeVersion, 3, "limits@openssh.com", "1"))
	w.toHost, w.toPerson = nil, nil
	w.recorded = [2][]byte{}
	return w
}

func (w *world) client(packets ...[]byte) {
	w.t.Helper()
	w.chunks(join(packets...), func(chunk []byte) {
		for len(chunk) > 0 && w.err == nil {
			step, n := w.o.Client(chunk)
			w.take(0, step, &w.toHost)
			if n == 0 {
				w.t.Fatal("the observer takes nothing more")
			}
			chunk = chunk[n:]
		}
	})
}

func (w *world) host(packets ...[]byte) {
	w.t.Helper()
	w.chunks(join(packets...), func(chunk []byte) { w.take(1, w.o.Host(chunk), &w.toPerson) })
}

// chunks calls do with pieces that are overwritten afterwards, as a pump's buffer is.
func (w *world) chunks(all []byte, do func([]byte)) {
	for len(all) > 0 && w.err == nil {
		n := len(all)
		if w.cut > 0 {
			n = min(n, w.cut)
		}
		buf := append([]byte(nil), all[:n]...)
		do(buf)
		for i := range buf {
			buf[i] = 0xAA
		}
		all = all[n:]
	}
}

func (w *world) take(side int, step Step, to *[]byte) {
	for _, p := range step.Record {
		if p.Content {
			w.left += len(p.Bytes)
		} else {
			w.recorded[side] = append(w.recorded[side], p.Bytes...)
		}
	}
	w.ops = append(w.ops, step.Operations...)
	for _, b := range step.Forward {
		*to = append(*to, b...)
	}
	w.replies = append(w.replies, step.Reply...)
	step.Wait()
	w.err = step.Err
}

func (w *world) end() {
	w.o.Over()
	_, _, ops := w.o.End()
	w.ops = append(w.ops, ops...)
}

// ended are the operations that have an outcome.
func (w *world) ended() (ops []Operation) {
	for _, op := range w.ops {
		if op.Outcome != Begun {
			ops = append(ops, op)
		}
	}
	return ops
}
