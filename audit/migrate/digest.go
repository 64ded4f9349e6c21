package migrate

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"math/bits"
)

// digest is of a table's rows in any order: their number, and the sum of their hashes modulo 2^256.
// It finds what went wrong on the way; whoever could choose rows for a sum would have the target's database anyway, and
// the events are held against the signed root.
type digest struct {
	rows int64
	sum  [4]uint64
}

// through takes up the rows that pass.
func (d *digest) through(rows iter.Seq2[[]any, error]) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		var buf []byte
		for values, err := range rows {
			if err == nil {
				buf = encode(buf[:0], values)
				d.add(sha256.Sum256(buf))
			}
			if !yield(values, err) {
				return
			}
		}
	}
}

func (d *digest) add(h [sha256.Size]byte) {
	d.rows++
	var carry uint64
	for i := range d.sum {
		d.sum[i], carry = bits.Add64(d.sum[i], binary.LittleEndian.Uint64(h[8*i:]), carry)
	}
}

// encode writes values so that no two rows read the same. A text and its bytes are one: a backend has for
// one what the other has for the other.
func encode(b []byte, values []any) []byte {
	for _, v := range values {
		switch v := v.(type) {
		case int64:
			b = binary.BigEndian.AppendUint64(append(b, 'i'), uint64(v))
		case string:
			b = append(binary.BigEndian.AppendUint64(append(b, 's'), uint64(len(v))), v...)
		case []byte:
			b = append(binary.BigEndian.AppendUint64(append(b, 's'), uint64(len(v))), v...)
		case nil:
			b = append(b, 'n')
		default:
			b = append(b, '?') // no backend has it: Rows would have failed
		}
	}
	return b
}
