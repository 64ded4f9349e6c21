package recording

import (
	"bufio"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

// misfitError says that a recording is not what its key signed.
type misfitError struct {
	at     uint64 // segment; 0 is the header
	gap    bool   // something is missing, as opposed to changed or added
	detail string
}

func (e *misfitError) Error() string { return fmt.Sprintf("recording: %s: %s", e.status(), e.detail) }

func (e *misfitError) status() string {
	if e.gap {
		return fmt.Sprintf("gap at %d", e.at)
	}
	return fmt.Sprintf("forged at %d", e.at)
}

// errTorn means that the input ends inside a record.
var errTorn = errors.New("recording: the last record is torn")

// record is a record as scanned; body is valid until the next one.
type record struct {
	typ     byte
	segment uint64
	counter uint32 // in its segment; of a seal, how many are before it
	raw     []byte // all of it
	body    []byte
}

// scanner reads records and checks framing, chain and signatures on the way. It needs no key
// but the public one.
type scanner struct {
	r      *bufio.Reader
	header Header
	key    ed25519.PublicKey
	buf    []byte

	head    mark // after the last good seal
	records uint32
	bytes   uint64 // of the open segment
	total   uint64 // read so far, whole records only
	torn    int    // bytes of an incomplete last record
	hash    hash.Hash
	ended   bool  // the open segment, or after its seal the recording, has its end record
	omits   int64 // records of bytes that were left out
}

// newScanner reads the header. It returns a scanner with any error, those of readHeader.
func newScanner(r io.Reader) (*scanner, error) {
	s := &scanner{r: bufio.NewReaderSize(r, 64<<10)}
	header, raw, err := readHeader(s.r)
	s.total = uint64(len(raw))
	if err != nil {
		return s, err
	}
	s.header, s.key = header, header.PublicKey
	s.head = mark{bytes: s.total, hash: header.Hash.sum(raw)}
	s.hash, err = header.Hash.new()
	return s, err
}

// next returns the next record; a seal only after it has been found good. At the end of the input
// it returns io.EOF between records and errTorn inside one. What does not fit is a *misfitError.
func (s *scanner) next() (record, error) {
	if err := s.read(); err != nil {
		return record{}, err
	}
	rec := record{typ: s.buf[4], segment: s.head.segments + 1, counter: s.records, raw: s.buf, body: s.buf[prefixLen:]}
	if s.ended && rec.typ != typeSeal {
		return record{}, s.misfit(false, "records after the end")
	}
	switch rec.typ {
	case typeSeal:
		return rec, s.closeSegment(rec)
	case typeOutput, typeInput, typeEnd:
		s.ended = rec.typ == typeEnd
	case typeOmit:
		s.omits++
	default:
		return record{}, s.misfit(false, fmt.Sprintf("record of unknown type %d", rec.typ))
	}
	s.hash.Write(rec.raw)
	s.records++
	s.bytes += uint64(len(rec.raw))
	s.total += uint64(len(rec.raw))
	return rec, nil
}

// read fills buf with the next record.
func (s *scanner) read() error {
	prefix, err := s.r.Peek(4)
	if len(prefix) == 0 || (err != nil && err != io.EOF) {
		return err
	}
	if s.complete() {
		return s.misfit(false, "bytes after the end")
	}
	if err == io.EOF {
		s.torn = len(prefix)
		return errTorn
	}
	size := binary.BigEndian.Uint32(prefix)
	if size == 0 || size > maxRecord {
		return s.misfit(false, fmt.Sprintf("record of %d bytes", size))
	}
	if n := int(size) + 4; cap(s.buf) < n {
		s.buf = make([]byte, n)
	} else {
		s.buf = s.buf[:n]
	}
	n, err := io.ReadFull(s.r, s.buf)
	if err == io.ErrUnexpectedEOF {
		s.torn = n
		return errTorn
	}
	return err
}

// complete reports whether the end has been sealed.
func (s *scanner) complete() bool { return s.ended && s.records == 0 && s.head.segments > 0 }

// closeSegment checks a seal against the records before it and takes it as the new head.
func (s *scanner) closeSegment(rec record) error {
	if len(rec.body) != sealLen {
		return s.misfit(false, fmt.Sprintf("seal of %d bytes", len(rec.body)))
	}
	l, ok := parseSeal(rec.body, s.key)
	if !ok {
		return s.misfit(false, "the seal is not signed by the session's key")
	}
	if err := s.checkSeal(l, rec); err != nil {
		return err
	}
	s.total += uint64(len(rec.raw))
	s.head = mark{segments: rec.segment, bytes: s.total, hash: s.header.Hash.sum(rec.raw)}
	s.hash.Reset()
	s.records, s.bytes = 0, 0
	return nil
}

func (s *scanner) checkSeal(l seal, rec record) error {
	var sum [32]byte
	s.hash.Sum(sum[:0])
	switch {
	case l.segment > rec.segment:
		return s.misfit(true, fmt.Sprintf("segment %d follows", l.segment))
	case l.segment < rec.segment:
		return s.misfit(false, fmt.Sprintf("segment %d comes again", l.segment))
	case l.records > s.records || l.bytes > s.bytes:
		return s.misfit(true, fmt.Sprintf("%d of %d records, %d of %d bytes are there", s.records, l.records, s.bytes, l.bytes))
	case l.records < s.records || l.bytes < s.bytes:
		return s.misfit(false, "there is more in it than its seal says")
	case l.prev != s.head.hash:
		return s.misfit(false, "its seal does not continue the one before")
	case l.hash != sum:
		return s.misfit(false, "its records differ from what its seal says")
	case l.records == 0:
		return s.misfit(false, "it is empty")
	}
	return nil
}

// misfit blames the open segment.
func (s *scanner) misfit(gap bool, detail string) error {
	return &misfitError{at: s.head.segments + 1, gap: gap, detail: detail}
}
