package recording

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"
)

// ErrInterrupted is what Reader.Next returns after the last whole frame of a recording that was
// not closed by the bastion.
var ErrInterrupted = errors.New("recording: interrupted: it has no end")

// ErrNoIdentity means that a recording was not made for any of the identities given.
var ErrNoIdentity = errors.New("recording: no identity opens it")

// Reader reads the frames of a recording. It checks framing, chain and signatures against the
// header's own key as it goes; only Verify says whether that header is the one in the log.
type Reader struct {
	scan    *scanner
	out, in *ratchet // nil where no identity opens them
	nonce   [12]byte
	aad     []byte
	digest  string // of the header
	last    time.Duration
	reason  string
	err     error // sticky
}

// Open reads the header and unwraps what the identities open: output and events, input, or both.
// It returns ErrNoIdentity where it is neither.
func Open(r io.Reader, identities ...age.Identity) (*Reader, error) {
	scan, err := newScanner(r)
	if err != nil {
		return nil, fmt.Errorf("recording: open: %w", err)
	}
	if len(identities) == 0 {
		return nil, ErrNoIdentity
	}
	out, err := unwrapKey(scan.header.OutputKey, identities)
	if err != nil {
		return nil, err
	}
	in, err := unwrapKey(scan.header.InputKey, identities)
	if err != nil {
		return nil, err
	}
	if out == nil && in == nil {
		return nil, ErrNoIdentity
	}
	aad := append(make([]byte, 1+8+4), scan.header.SessionID...)
	return &Reader{scan: scan, out: out, in: in, aad: aad, digest: hexDigest(scan.head.hash)}, nil
}

// Format implements fmt.Formatter for every verb and shows no key.
func (r *Reader) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "recording of %s", r.scan.header.SessionID)
}

// Header returns the recording's header.
func (r *Reader) Header() Header { return r.scan.header }

// Announced returns an error unless the log announced this very recording. Whoever shows frames before
// Verify has seen the end asks it first: the rest of the chain hangs on the header.
func (r *Reader) Announced(a Announcement) error {
	if r.digest != a.HeaderDigest || !bytes.Equal(r.scan.header.PublicKey, a.PublicKey) {
		return &misfitError{detail: "the header is not the one that was announced"}
	}
	return nil
}

// Opens reports whether an identity opens the frames of a stream.
func (r *Reader) Opens(s Stream) bool {
	if s == StreamIn {
		return r.in != nil
	}
	return r.out != nil
}

// Reason says why the recording ended and when; both are empty until Next has returned io.EOF, and
// for a reader of input alone.
func (r *Reader) Reason() (string, time.Duration) {
	if r.err != io.EOF {
		return "", 0
	}
	return r.reason, r.last
}

// Next returns the next frame that an identity opens; frames of the other kind are skipped. Its
// Data belongs to the caller. At the end it returns io.EOF, ErrInterrupted where the recording has
// no sealed end, or an error that names the segment where something does not fit.
func (r *Reader) Next() (Frame, error) {
	for r.err == nil {
		f, ok, err := r.step()
		if err != nil {
			r.err = err
			break
		}
		if ok {
			return f, nil
		}
	}
	return Frame{}, r.err
}

// step reads one record; ok says whether it is a frame to return.
func (r *Reader) step() (f Frame, ok bool, err error) {
	rec, err := r.scan.next()
	switch {
	case err == io.EOF && r.scan.complete():
		return f, false, io.EOF
	case err == io.EOF || err == errTorn:
		return f, false, ErrInterrupted
	case err != nil:
		return f, false, err
	case rec.typ == typeSeal:
		return f, false, r.turn()
	case rec.typ == typeEnd:
		return f, false, r.end(rec)
	}
	plain, err := r.decrypt(rec)
	if err != nil || plain == nil {
		return f, false, err
	}
	if f, err = parseFrame(rec.typ, plain); err != nil {
		return f, false, r.scan.misfit(false, err.Error())
	}
	r.last = f.Offset
	return f, true, nil
}

// turn steps to the keys of the next segment.
func (r *Reader) turn() error {
	for _, k := range []*ratchet{r.out, r.in} {
		if k == nil {
			continue
		}
		if err := k.step(); err != nil {
			return err
		}
	}
	return nil
}

// decrypt returns a record's plaintext, or nil where no identity opens its kind.
func (r *Reader) decrypt(rec record) ([]byte, error) {
	k := r.out
	if rec.typ == typeInput {
		k = r.in
	}
	if k == nil {
		return nil, nil
	}
	putNonce(&r.nonce, rec.segment, rec.counter)
	putAAD(r.aad, rec.typ, rec.segment, rec.counter)
	plain, err := k.aead.Open([]byte{}, r.nonce[:], rec.body, r.aad)
	if err != nil {
		return nil, r.scan.misfit(false, fmt.Sprintf("record %d does not decrypt", rec.counter))
	}
	return plain, nil
}

func (r *Reader) end(rec record) error {
	plain, err := r.decrypt(rec)
	if err != nil || plain == nil {
		return err
	}
	if len(plain) < 8 {
		return r.scan.misfit(false, "end is too short")
	}
	r.last = time.Duration(binary.BigEndian.Uint64(plain))
	r.reason = string(plain[8:])
	return nil
}
