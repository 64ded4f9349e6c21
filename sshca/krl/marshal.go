package krl

import (
	"encoding/binary"
	"fmt"
	"math"
)

// magic is what a KRL begins with. What does not is read by sshd as a text of keys, an empty file too.
const magic = "SSHKRL\n\x00"

// format is the only one that there is.
const format = 1

// Types of section, and of subsection in a section of certificates (PROTOCOL.krl §2 to §5).
const (
	sectionCertificates = 1
	sectionKeys         = 2
	sectionSHA256       = 5

	subSerialList  = 0x20
	subSerialRange = 0x21
	subKeyID       = 0x23
)

// MaxSize bounds what is written and read: OpenSSH holds a KRL in a buffer of 128 MiB at most.
const MaxSize = 64 << 20

// listed is the longest run of serials that costs fewer bytes in the list than as a range of its own: 8 each
// against 1 + 4 + 16.
const listed = 2

// Marshal returns the list in the form of PROTOCOL.krl. The same content gives the same bytes. Errors are ErrInvalid.
func (l List) Marshal() ([]byte, error) {
	l, err := l.canonical()
	if err != nil {
		return nil, err
	}
	return l.marshal()
}

// marshal writes a list that is canonical.
func (l List) marshal() ([]byte, error) {
	w := writer(make([]byte, 0, l.size()))
	w = append(w, magic...)
	w = w.uint32(format).uint64(l.Version).uint64(uint64(l.Generated.Unix())).uint64(0).string("").string(l.Comment)
	for _, c := range l.CAs {
		w = w.block(sectionCertificates, c.append)
	}
	if len(l.Keys) > 0 {
		w = w.block(sectionKeys, func(w writer) writer {
			for _, k := range l.Keys {
				w = w.string(string(k.Marshal()))
			}
			return w
		})
	}
	if len(l.Hashes) > 0 {
		w = w.block(sectionSHA256, func(w writer) writer {
			for _, h := range l.Hashes {
				w = w.string(string(h[:]))
			}
			return w
		})
	}
	if len(w) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, %d at most", ErrInvalid, len(w), MaxSize)
	}
	return w, nil
}

// size is enough for what is written, so that it is made once.
func (l List) size() int {
	n := 256 + len(l.Comment) + len(l.Hashes)*(4+len(Hash{}))
	for _, c := range l.CAs {
		n += 1024 + len(c.Serials)*21
	}
	return min(n, MaxSize)
}

// append writes the body of a CA's section: the serials that stand alone or in pairs as one list, longer runs as
// ranges. That is the fewest bytes that lists and ranges can say it in.
func (c Certificates) append(w writer) writer {
	w = w.string(string(c.CA.Marshal())).string("")
	if c.short() {
		w = w.block(subSerialList, func(w writer) writer {
			for _, r := range c.Serials {
				if r.Last-r.First < listed {
					for n := r.First; ; n++ {
						if w = w.uint64(n); n == r.Last {
							break
						}
					}
				}
			}
			return w
		})
	}
	for _, r := range c.Serials {
		if r.Last-r.First >= listed {
			w = w.block(subSerialRange, func(w writer) writer { return w.uint64(r.First).uint64(r.Last) })
		}
	}
	if len(c.KeyIDs) > 0 {
		w = w.block(subKeyID, func(w writer) writer {
			for _, id := range c.KeyIDs {
				w = w.string(id)
			}
			return w
		})
	}
	return w
}

// short reports whether a run is for the list.
func (c Certificates) short() bool {
	for _, r := range c.Serials {
		if r.Last-r.First < listed {
			return true
		}
	}
	return false
}

// writer appends in the types of RFC 4251 §5.
type writer []byte

func (w writer) uint32(v uint32) writer { return binary.BigEndian.AppendUint32(w, v) }
func (w writer) uint64(v uint64) writer { return binary.BigEndian.AppendUint64(w, v) }

func (w writer) string(s string) writer { return append(w.uint32(uint32(len(s))), s...) }

// block appends a type and a string that body writes.
func (w writer) block(kind byte, body func(writer) writer) writer {
	w = append(w, kind, 0, 0, 0, 0)
	from := len(w)
	w = body(w)
	n := len(w) - from
	if n > math.MaxUint32 {
		n = math.MaxUint32 // beyond MaxSize, which Marshal refuses
	}
	binary.BigEndian.PutUint32(w[from-4:], uint32(n))
	return w
}
