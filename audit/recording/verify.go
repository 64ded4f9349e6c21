package recording

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
)

// Statuses of a Verdict besides "gap at N" and "forged at N", where N is a segment from 1 on and 0
// the header.
const (
	StatusComplete    = "complete"
	StatusOmitted     = "content left out" // whole but for bytes of files, which policy kept out of it
	StatusInterrupted = "interrupted"      // not ended by the bastion, and nothing that was sealed is missing
	StatusMissing     = "missing"          // no bytes at all
)

// End closes a recording in the log: details of session.end.
type End struct {
	Head       Head   `json:"head"`
	Verdict    string `json:"verdict"`     // StatusComplete, StatusOmitted, StatusInterrupted or StatusMissing
	TailBytes  int64  `json:"tail_bytes"`  // whole records after the last seal of an interrupted recording
	TailDigest string `json:"tail_digest"` // hex hash over them, "" where there are none
}

// Complete returns the End of a recording that has been closed at head, and from which nothing was
// left out.
func Complete(head Head) End { return End{Head: head, Verdict: StatusComplete} }

// Verdict is what can be said of a recording without any key of its recipients.
type Verdict struct {
	Status     string `json:"status"`
	Detail     string `json:"detail"`              // what does not fit, for people
	Head       Head   `json:"head"`                // of the last seal up to which everything fits
	Bytes      int64  `json:"bytes"`               // read until the verdict was clear
	TailBytes  int64  `json:"tail_bytes"`          // whole records after the last seal
	TailDigest string `json:"tail_digest"`         // hex hash over them, "" where there are none
	TornBytes  int64  `json:"torn_bytes"`          // of an incomplete last record
	Omissions  int64  `json:"omissions,omitempty"` // records of bytes that were left out, also where the status says something else
}

// Verify judges a recording by what the log says of it: the announcement of session.start, the
// heads that were witnessed while it grew, in any order, and the details of session.end, or nil
// for a session that lives. Changed or added bytes make it "forged at N", missing ones "gap at N".
// Without an End nothing vouches for what follows the last seal, which makes the recording
// interrupted at best unless its end is in it.
//
// The error is about reading r or an announcement that cannot be used, never about the recording.
func Verify(r io.Reader, a Announcement, known []Head, end *End) (Verdict, error) {
	if len(a.PublicKey) != ed25519.PublicKeySize {
		return Verdict{}, fmt.Errorf("recording: the announcement's public key has %d bytes, not %d", len(a.PublicKey), ed25519.PublicKeySize)
	}
	v := newVerifier(a, known, end)
	err := v.run(r)
	var bad *misfitError
	if errors.As(err, &bad) {
		return v.verdict(bad.status(), bad.detail), nil
	}
	if err != nil {
		return Verdict{}, err
	}
	return v.verdict(v.status(), ""), nil
}

type verifier struct {
	scan     *scanner
	announce Announcement
	known    map[int64][]Head
	end      *End
	tail     tail
	good     Head // the last one that fits
	missing  bool
}

// tail collects what follows the last seal.
type tail struct {
	bytes int64
	hash  hash.Hash
}

func (t *tail) add(raw []byte) {
	t.bytes += int64(len(raw))
	t.hash.Write(raw)
}

func (t *tail) reset() {
	t.bytes = 0
	t.hash.Reset()
}

func (t *tail) digest() string {
	if t.bytes == 0 {
		return ""
	}
	return fmt.Sprintf("%x", t.hash.Sum(nil))
}

func newVerifier(a Announcement, known []Head, end *End) *verifier {
	v := &verifier{announce: a, known: map[int64][]Head{}, end: end}
	for _, h := range known {
		v.known[h.Segments] = append(v.known[h.Segments], h)
	}
	if end != nil && end.Head != (Head{}) {
		v.known[end.Head.Segments] = append(v.known[end.Head.Segments], end.Head)
	}
	return v
}

func (v *verifier) run(r io.Reader) error {
	if err := v.open(r); err != nil || v.missing {
		return err
	}
	for {
		rec, err := v.scan.next()
		switch {
		case err == io.EOF || err == errTorn:
			return v.finish()
		case err != nil:
			return err
		case rec.typ == typeSeal:
			v.tail.reset()
			err = v.checkHead()
		default:
			v.tail.add(rec.raw)
		}
		if err != nil {
			return err
		}
	}
}

// open reads the header and holds it against the announcement.
func (v *verifier) open(r io.Reader) (err error) {
	v.scan, err = newScanner(r)
	switch {
	case err == io.ErrUnexpectedEOF && v.scan.total == 0:
		v.missing = true
		return nil
	case err == io.ErrUnexpectedEOF:
		return &misfitError{gap: true, detail: "the header is cut off"}
	case errors.Is(err, errNoRecording):
		return &misfitError{detail: err.Error()}
	case err != nil:
		return fmt.Errorf("recording: read: %w", err)
	case hexDigest(v.scan.head.hash) != v.announce.HeaderDigest:
		return &misfitError{detail: "the header is not the one that was announced"}
	case !bytes.Equal(v.scan.header.PublicKey, v.announce.PublicKey):
		return &misfitError{detail: "the header's key is not the one that was announced"}
	}
	if v.tail.hash, err = v.scan.header.Hash.new(); err != nil {
		return err
	}
	return v.checkHead()
}

// checkHead holds the present head against those in the log of the same segment.
func (v *verifier) checkHead() error {
	head := v.scan.head.head()
	for _, k := range v.known[head.Segments] {
		if k != head {
			return &misfitError{at: v.scan.head.segments, detail: "the seal is not the one in the log"}
		}
	}
	v.good = head
	return nil
}

// finish judges what is there when the input has ended.
func (v *verifier) finish() error {
	here := v.scan.head.segments
	if n := slices.Max(append(slices.Collect(maps.Keys(v.known)), 0)); n > int64(here) {
		return &misfitError{at: here + 1, gap: true, detail: fmt.Sprintf("the log knows %d segments", n)}
	}
	if v.end == nil {
		return nil
	}
	return v.checkEnd(int64(here))
}

// checkEnd holds what follows the last seal against session.end.
func (v *verifier) checkEnd(here int64) error {
	next := uint64(here) + 1
	switch {
	case here > v.end.Head.Segments:
		return &misfitError{at: uint64(v.end.Head.Segments) + 1, detail: "it comes after the end in the log"}
	case (v.end.Verdict == StatusComplete || v.end.Verdict == StatusOmitted) && !v.scan.complete():
		return &misfitError{at: uint64(here), detail: "the log says " + v.end.Verdict + ", and the recording has no end"}
	case v.end.Verdict == StatusComplete && v.scan.omits > 0:
		return &misfitError{at: uint64(here), detail: "the log says complete, and content was left out"}
	case v.end.Verdict == StatusOmitted && v.scan.omits == 0:
		return &misfitError{at: uint64(here), detail: "the log says that content was left out, and none was"}
	case v.tail.bytes < v.end.TailBytes:
		return &misfitError{at: next, gap: true, detail: fmt.Sprintf("%d of %d bytes after the last seal are there", v.tail.bytes, v.end.TailBytes)}
	case v.tail.bytes > v.end.TailBytes || v.scan.torn > 0:
		return &misfitError{at: next, detail: "bytes were added after the last seal"}
	case v.tail.digest() != v.end.TailDigest:
		return &misfitError{at: next, detail: "the records after the last seal were changed"}
	}
	return nil
}

func (v *verifier) status() string {
	switch {
	case v.missing:
		return StatusMissing
	case v.scan.complete() && v.scan.omits > 0:
		return StatusOmitted
	case v.scan.complete():
		return StatusComplete
	}
	return StatusInterrupted
}

func (v *verifier) verdict(status, detail string) Verdict {
	return Verdict{
		Status:     status,
		Detail:     detail,
		Head:       v.good,
		Bytes:      int64(v.scan.total) + int64(v.scan.torn),
		TailBytes:  v.tail.bytes,
		TailDigest: v.tail.digest(),
		TornBytes:  int64(v.scan.torn),
		Omissions:  v.scan.omits,
	}
}
