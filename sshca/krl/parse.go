package krl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/crypto/ssh"
)

// ErrMalformed is for bytes that Marshal has not written: cut off, changed, or another writer's.
var ErrMalformed = errors.New("krl: malformed")

// Parse reads what Marshal writes, and nothing else: other forms of the same content are ErrMalformed, those of
// ssh-keygen among them. What it returns is in order, ranges merged.
func Parse(data []byte) (List, error) {
	if len(data) > MaxSize {
		return List{}, fmt.Errorf("%w: %d bytes, %d at most", ErrMalformed, len(data), MaxSize)
	}
	r := &reader{data: data}
	l := r.list()
	if r.err != nil {
		return List{}, r.err
	}
	l, err := l.canonical()
	if err != nil {
		return List{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	again, err := l.marshal()
	if err != nil {
		return List{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(again, data) {
		return List{}, fmt.Errorf("%w: not in the form in which sega writes it", ErrMalformed)
	}
	return l, nil
}

// reader reads the types of RFC 4251 §5. After its first error it reads zeros.
type reader struct {
	data []byte
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
	r.data = nil
}

func (r *reader) take(n int) []byte {
	if n > len(r.data) {
		r.fail("cut off")
		return make([]byte, min(n, 8))
	}
	out := r.data[:n]
	r.data = r.data[n:]
	return out
}

func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }

func (r *reader) string() []byte {
	n := r.uint32()
	if uint64(n) > uint64(len(r.data)) {
		r.fail("cut off")
		return nil
	}
	return r.take(int(n))
}

// sub reads a string as something with an inside; done takes its error over.
func (r *reader) sub() (in *reader, done func()) {
	in = &reader{data: r.string(), err: r.err}
	return in, func() {
		if r.err == nil && in.err != nil {
			r.err, r.data = in.err, nil
		}
	}
}

func (r *reader) more() bool { return r.err == nil && len(r.data) > 0 }

func (r *reader) list() (l List) {
	if string(r.take(len(magic))) != magic {
		r.fail("not a KRL")
	}
	if v := r.uint32(); v != format {
		r.fail("format %d", v)
	}
	l.Version = r.uint64()
	generated := r.uint64()
	if generated > math.MaxInt64 {
		r.fail("made at no time")
	}
	l.Generated = time.Unix(int64(generated), 0).UTC()
	if flags := r.uint64(); flags != 0 {
		r.fail("flags %x", flags)
	}
	if len(r.string()) > 0 {
		r.fail("reserved field in use")
	}
	l.Comment = string(r.string())
	for r.more() {
		r.section(&l)
	}
	return l
}

func (r *reader) section(l *List) {
	kind := r.take(1)[0]
	in, done := r.sub()
	defer done()
	switch kind {
	case sectionCertificates:
		l.CAs = append(l.CAs, in.certificates())
	case sectionKeys:
		for in.more() {
			l.Keys = append(l.Keys, in.key())
		}
	case sectionSHA256:
		for in.more() {
			h := in.string()
			if len(h) != len(Hash{}) {
				in.fail("a hash of %d bytes", len(h))
				return
			}
			l.Hashes = append(l.Hashes, Hash(h))
		}
	default:
		in.fail("a section of type %d", kind)
	}
}

func (r *reader) certificates() (c Certificates) {
	c.CA = r.key()
	if len(r.string()) > 0 {
		r.fail("reserved field in use")
	}
	for r.more() {
		r.subsection(&c)
	}
	return c
}

func (r *reader) subsection(c *Certificates) {
	kind := r.take(1)[0]
	in, done := r.sub()
	defer done()
	switch kind {
	case subSerialList:
		for in.more() {
			c.Serials = append(c.Serials, Serial(in.uint64()))
		}
	case subSerialRange:
		c.Serials = append(c.Serials, Range{in.uint64(), in.uint64()})
		if in.more() {
			in.fail("a range of more than two serials")
		}
	case subKeyID:
		for in.more() {
			c.KeyIDs = append(c.KeyIDs, string(in.string()))
		}
	default:
		in.fail("a subsection of type %#x", kind)
	}
}

func (r *reader) key() ssh.PublicKey {
	blob := r.string()
	if r.err != nil {
		return nil
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		r.fail("a key that is none")
		return nil
	}
	return key
}
