package sftp

import (
	"encoding/binary"
	"fmt"
)

// Piece is a part of a stream as it goes into the recording.
type Piece struct {
	Bytes   []byte
	Content bool // bytes of a file
}

// framer splits one direction into packets. Of a packet it holds back the head, which tells what
// the packet is and never holds bytes of files, until it is whole; the rest passes as it comes.
type framer struct {
	host bool

	held []byte // the beginning of a head that is not whole
	need int    // bytes of it
	left int    // bytes of the packet behind its head
	body verdict
}

// verdict says what becomes of a packet.
type verdict struct {
	stop    bool           // nothing yet: it is to come again
	drop    bool           // it does not go on
	content bool           // what follows the head are bytes of a file
	bytes   func(b []byte) // takes what follows the head; may be nil
	done    func()         // called at the end of the packet; may be nil
}

// sink is what a framer fills.
type sink struct {
	step  *Step
	chunk []byte
	from  int // in chunk: where the last piece of record and of forward end, or -1
	to    int
	whole bool // content is recorded like all else
}

// emit adds chunk[at:at+len(b)], or with at < 0 bytes of their own, to what is recorded, and unless
// drop to what is forwarded.
func (s *sink) emit(b []byte, at int, content, drop bool) {
	if len(b) == 0 {
		return
	}
	content = content && !s.whole
	rec := s.step.Record
	if last := len(rec) - 1; last >= 0 && at >= 0 && s.from == at && rec[last].Content == content {
		rec[last].Bytes = s.chunk[at-len(rec[last].Bytes) : at+len(b)]
	} else {
		s.step.Record = append(rec, Piece{b, content})
	}
	s.from = end(at, len(b))
	if drop {
		return
	}
	fwd := s.step.Forward
	if last := len(fwd) - 1; last >= 0 && at >= 0 && s.to == at {
		fwd[last] = s.chunk[at-len(fwd[last]) : at+len(b)]
	} else {
		s.step.Forward = append(fwd, b)
	}
	s.to = end(at, len(b))
}

func end(at, n int) int {
	if at < 0 {
		return -1
	}
	return at + n
}

// feed takes chunk apart and returns how much of it is done with: all of it, unless packet has asked
// to stop. On an error all of it goes into the recording, and what did not fit goes no further.
func (f *framer) feed(s *sink, packet func(head []byte, rest int) (verdict, error)) (int, error) {
	chunk := s.chunk
	for at := 0; at < len(chunk); {
		if f.left > 0 {
			at += f.pass(s, at)
			continue
		}
		head, own, added := chunk[at:], len(f.held) > 0, 0
		if own {
			added = min(f.need-len(f.held), len(chunk)-at)
			f.held = append(f.held, chunk[at:at+added]...)
			at += added
			head = f.held
		}
		need, err := f.headLen(head)
		if err == nil && need > len(head) {
			if f.need = need; !own {
				f.held, at = append(f.held, head...), len(chunk)
			}
			continue
		}
		var v verdict
		if err == nil {
			head = head[:need]
			v, err = packet(head, packetLen(head)-need)
		}
		if err != nil {
			f.spill(s, at)
			return len(chunk), err
		}
		if v.stop {
			f.held = f.held[:len(f.held)-added]
			return at - added, nil
		}
		if own {
			s.emit(head, -1, false, v.drop)
			f.held = nil // what was emitted lives on
		} else {
			s.emit(head, at, false, v.drop)
			at += need
		}
		f.left, f.body = packetLen(head)-need, v
		f.close()
	}
	return len(chunk), nil
}

// close ends a packet of which nothing is left.
func (f *framer) close() {
	if f.left == 0 && f.body.done != nil {
		f.body.done()
	}
}

// pass lets the rest of a packet through and returns how much of it was there.
func (f *framer) pass(s *sink, at int) int {
	b := s.chunk[at:min(len(s.chunk), at+f.left)]
	if f.body.bytes != nil {
		f.body.bytes(b)
	}
	s.emit(b, at, f.body.content, f.body.drop)
	f.left -= len(b)
	f.close()
	return len(b)
}

// spill puts what is left into the recording alone.
func (f *framer) spill(s *sink, at int) {
	s.emit(f.held, -1, false, true)
	f.held = nil
	s.emit(s.chunk[at:], at, false, true)
}

// between reports whether the stream stands between two packets.
func (f *framer) between() bool { return f.left == 0 && len(f.held) == 0 }

func packetLen(head []byte) int { return 4 + int(binary.BigEndian.Uint32(head)) }

// headLen returns how long the head is of a packet that begins with b, or how many bytes it takes
// to tell.
func (f *framer) headLen(b []byte) (int, error) {
	const prefix = 4 + 1 + 4 // length, type and ID
	if len(b) < 5 {
		return 5, nil
	}
	length, total := binary.BigEndian.Uint32(b), 0
	if length < 5 || length > maxPacket {
		return 0, &Error{f.host, fmt.Sprintf("sent a packet of %d bytes", length)}
	}
	total = packetLen(b)
	var need int
	switch typ := b[4]; {
	case !f.host && typ == typeWrite:
		need = prefix + 4
		if len(b) >= need {
			n := binary.BigEndian.Uint32(b[prefix:])
			if n > maxHandle {
				return 0, &Error{f.host, fmt.Sprintf("named a handle of %d bytes", n)}
			}
			need += int(n) + 8 + 4
		}
	case !f.host:
		return total, nil
	case typ == typeHandle:
		if need = total; need > prefix+4+maxHandle {
			return 0, &Error{f.host, fmt.Sprintf("sent a handle in %d bytes", length)}
		}
	case typ == typeData, typ == typeName, typ == typeStatus:
		need = prefix + 4
	default:
		need = prefix
	}
	if need > total {
		return 0, &Error{f.host, fmt.Sprintf("sent a packet of type %d with %d bytes, which is too short", b[4], length)}
	}
	return need, nil
}
