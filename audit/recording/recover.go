package recording

import (
	"errors"
	"fmt"
	"io"
)

// ErrNoHeader means that a spool has not even a whole header: no frame was ever written to it.
var ErrNoHeader = errors.New("recording: the spool has no header")

// Recover says how much of a spool is good that a killed bastion, or a Writer that failed, left
// behind: the End to report, and how many bytes to keep. What follows them, a torn record or what
// a loss of power left of unsynced ones, must be cut off before the spool is uploaded. A spool that
// was closed properly comes back as complete.
//
// It trusts the header's own public key, since it is the bastion that looks at its own disk.
// ErrNoHeader comes with an End of StatusMissing and length 0.
func Recover(r io.Reader) (End, int64, error) {
	missing := End{Verdict: StatusMissing}
	scan, err := newScanner(r)
	if err == io.ErrUnexpectedEOF || errors.Is(err, errNoRecording) {
		return missing, 0, fmt.Errorf("%w: %w", ErrNoHeader, err)
	}
	if err != nil {
		return missing, 0, fmt.Errorf("recording: recover: %w", err)
	}
	t := tail{}
	if t.hash, err = scan.header.Hash.new(); err != nil {
		return missing, 0, err
	}
	if err := scan.drain(&t); err != nil {
		return missing, 0, fmt.Errorf("recording: recover: %w", err)
	}
	end := End{Head: scan.head.head(), Verdict: StatusInterrupted, TailBytes: t.bytes, TailDigest: t.digest()}
	if scan.complete() {
		end.Verdict = StatusComplete
		if scan.omits > 0 {
			end.Verdict = StatusOmitted
		}
	}
	return end, end.Head.Bytes + end.TailBytes, nil
}

// drain reads to the end or to the first thing that does not fit, and leaves in t what follows the
// last good seal. The error is one of reading.
func (s *scanner) drain(t *tail) error {
	for {
		rec, err := s.next()
		var bad *misfitError
		switch {
		case err == io.EOF || err == errTorn || errors.As(err, &bad):
			return nil
		case err != nil:
			return err
		case rec.typ == typeSeal:
			t.reset()
		default:
			t.add(rec.raw)
		}
	}
}
