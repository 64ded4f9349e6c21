package recording

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"filippo.io/age"
)

const testSession = "ssh_0123456789abcdef"

// spool is a File in memory that counts its calls.
type spool struct {
	bytes.Buffer
	writes, syncs int
}

func (s *spool) Write(p []byte) (int, error) {
	s.writes++
	return s.Buffer.Write(p)
}

func (s *spool) Sync() error {
	s.syncs++
	return nil
}

// people are the recipients of a test.
type people struct {
	reviewer, recovery, inputReviewer *age.X25519Identity
}

func newPeople(t testing.TB) people {
	t.Helper()
	return people{identity(t), identity(t), identity(t)}
}

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// config gives output to reviewer and recovery, input to inputReviewer and recovery, and a clock
// that moves by a millisecond with each reading.
func (p people) config() Config {
	at := time.Date(2026, 9, 1, 8, 0, 0, 0, time.UTC)
	return Config{
		SessionID:       testSession,
		Recipients:      []age.Recipient{p.reviewer.Recipient(), p.recovery.Recipient()},
		InputRecipients: []age.Recipient{p.inputReviewer.Recipient(), p.recovery.Recipient()},
		Now: func() time.Time {
			at = at.Add(time.Millisecond)
			return at
		},
	}
}

func newWriter(t testing.TB, f File, cfg Config) *Writer {
	t.Helper()
	w, err := New(f, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sample is a small recording of three segments with every kind of record.
type sample struct {
	raw      []byte
	announce Announcement
	heads    []Head // after the header and after each seal
	end      End
	people   people
	frames   []Frame
}

func newSample(t testing.TB) sample { return newSampleOf(t, newPeople(t)) }

func newSampleOf(t testing.TB, p people) sample {
	t.Helper()
	f := &spool{}
	w := newWriter(t, f, p.config())
	s := sample{announce: w.Announce(), heads: []Head{w.Head()}, people: p}
	must(t, w.WriteEvent(0, Event{Type: EventShell}))
	must(t, w.Write(0, StreamIn, []byte("id\n")))
	must(t, w.Write(0, StreamOut, []byte("uid=0\n")))
	s.seal(t, w)
	must(t, w.Write(1, StreamErr, []byte("denied\n")))
	must(t, w.Write(1, StreamOut, []byte("second")))
	s.seal(t, w)
	must(t, w.Write(0, StreamOut, []byte("third")))
	head, err := w.Close("closed by the client")
	must(t, err)
	s.heads = append(s.heads, head)
	s.end = Complete(head)
	s.raw = f.Bytes()
	s.frames = readAll(t, s.raw, io.EOF, p.recovery)
	return s
}

func (s *sample) seal(t testing.TB, w *Writer) {
	t.Helper()
	must(t, w.Seal())
	s.heads = append(s.heads, w.Head())
}

// readAll reads every frame and requires the given error at the end.
func readAll(t testing.TB, raw []byte, end error, ids ...age.Identity) []Frame {
	t.Helper()
	r, err := Open(bytes.NewReader(raw), ids...)
	must(t, err)
	var frames []Frame
	for {
		f, err := r.Next()
		if err != nil {
			if !errors.Is(err, end) {
				t.Fatalf("Next: %v, want %v", err, end)
			}
			return frames
		}
		frames = append(frames, f)
	}
}

// span is where a part of a recording lies.
type span struct {
	name     string
	from, to int
	typ      byte // 0 for the header
	segment  int
}

// spans takes a well-formed recording apart by its lengths alone, as a stranger would.
func spans(raw []byte) []span {
	n := len(magic) + 4 + int(binary.BigEndian.Uint32(raw[len(magic):]))
	list := []span{{name: "header", to: n}}
	segment := 1
	for n < len(raw) {
		to := n + 4 + int(binary.BigEndian.Uint32(raw[n:]))
		s := span{name: "record", from: n, to: to, typ: raw[n+4], segment: segment}
		if s.typ == typeSeal {
			s.name = "seal"
			segment++
		}
		list = append(list, s)
		n = to
	}
	return list
}

// segmentBytesOf returns the bytes of one segment with its seal; 0 is the header.
func segmentBytesOf(raw []byte, segment int) []byte {
	var out []byte
	for _, s := range spans(raw) {
		if s.segment == segment && (segment > 0 || s.typ == 0) {
			out = append(out, raw[s.from:s.to]...)
		}
	}
	return out
}

func verify(t testing.TB, raw []byte, a Announcement, known []Head, end *End) Verdict {
	t.Helper()
	v, err := Verify(bytes.NewReader(raw), a, known, end)
	must(t, err)
	return v
}

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }
