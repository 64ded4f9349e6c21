package recording

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// TestEveryFlippedByteShows changes each byte of a recording in three ways. The verdict must name
// the segment, and even without anything but the announcement it must never be "complete".
func TestEveryFlippedByteShows(t *testing.T) {
	s := newSample(t)
	raw := slices.Clone(s.raw)
	for _, part := range spans(s.raw) {
		for i := part.from; i < part.to; i++ {
			for _, bit := range []byte{0x01, 0x80, 0xff} {
				raw[i] ^= bit
				v := verify(t, raw, s.announce, nil, &s.end)
				if !strings.HasSuffix(v.Status, fmt.Sprintf(" at %d", part.segment)) || v.Detail == "" {
					t.Errorf("byte %d of %s in segment %d ^ %#x: %q (%s)", i-part.from, part.name, part.segment, bit, v.Status, v.Detail)
				}
				if v := verify(t, raw, s.announce, nil, nil); v.Status == StatusComplete {
					t.Errorf("byte %d ^ %#x: complete without an End", i, bit)
				}
				raw[i] ^= bit
			}
		}
	}
}

func TestEveryFlippedByteOfATailShows(t *testing.T) {
	raw, a, end := interrupted(t)
	tampered := slices.Clone(raw)
	for i := range raw {
		tampered[i] ^= 0x10
		v := verify(t, tampered, a, nil, &end)
		if !strings.HasPrefix(v.Status, "forged at ") && !strings.HasPrefix(v.Status, "gap at ") {
			t.Errorf("byte %d: %q", i, v.Status)
		}
		tampered[i] ^= 0x10
	}
	for cut := range raw {
		v := verify(t, raw[:cut], a, nil, &end)
		if cut == 0 && v.Status != StatusMissing || cut > 0 && !strings.HasPrefix(v.Status, "gap at ") {
			t.Errorf("cut to %d bytes: %q", cut, v.Status)
		}
	}
}

// interrupted returns a recording with one sealed segment and a tail of three records.
func interrupted(t testing.TB) ([]byte, Announcement, End) {
	t.Helper()
	f := &spool{}
	w := newWriter(t, f, newPeople(t).config())
	must(t, w.Write(0, StreamOut, []byte("sealed")))
	must(t, w.Seal())
	for _, text := range []string{"one", "two", "three"} {
		must(t, w.Write(0, StreamOut, []byte(text)))
	}
	end, n, err := Recover(bytes.NewReader(f.Bytes()))
	must(t, err)
	if n != int64(f.Len()) || end.Head != w.Head() || end.TailBytes == 0 {
		t.Fatalf("%+v, %d of %d bytes", end, n, f.Len())
	}
	return f.Bytes(), w.Announce(), end
}

func TestVerifyInterrupted(t *testing.T) {
	raw, a, end := interrupted(t)
	v := verify(t, raw, a, nil, &end)
	want := Verdict{Status: StatusInterrupted, Head: end.Head, Bytes: int64(len(raw)), TailBytes: end.TailBytes, TailDigest: end.TailDigest}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Fatal(diff)
	}
	if v := verify(t, join(raw, raw[len(raw)-40:]), a, nil, &end); v.Status != "forged at 2" {
		t.Fatalf("%+v", v)
	}
	live := raw[:len(raw)-3]
	if v := verify(t, live, a, []Head{end.Head}, nil); v.Status != StatusInterrupted || v.TornBytes == 0 {
		t.Fatalf("live: %+v", v)
	}
}

// TestTampering holds what a bucket's owner can do, and what the verdict must be.
func TestTampering(t *testing.T) {
	p := newPeople(t)
	s, other := newSampleOf(t, p), newSampleOf(t, p)
	seg := func(n int) []byte { return segmentBytesOf(s.raw, n) }
	part := spans(s.raw)
	without := func(i int) []byte { return join(s.raw[:part[i].from], s.raw[part[i].to:]) }
	firstRecord, lastSeal := 1, len(part)-1
	end := part[lastSeal-1] // of segment 3
	noEnd := join(s.raw[:end.from])
	tests := []struct {
		name  string
		raw   []byte
		known []Head
		end   *End
		want  string
	}{
		{"untouched", s.raw, s.heads, &s.end, "complete"},
		{"untouched, no heads", s.raw, nil, &s.end, "complete"},
		{"untouched, no end in the log", s.raw, s.heads, nil, "complete"},
		{"nothing", nil, s.heads, &s.end, "missing"},
		{"not a recording", []byte("hello, world, hello"), nil, &s.end, "forged at 0"},
		{"header cut", s.raw[:30], nil, &s.end, "gap at 0"},
		{"header alone", seg(0), nil, &s.end, "gap at 1"},
		{"header alone, live", seg(0), s.heads[:1], nil, "interrupted"},
		{"segment 1 dropped", join(seg(0), seg(2), seg(3)), nil, &s.end, "gap at 1"},
		{"segment 2 dropped", join(seg(0), seg(1), seg(3)), nil, &s.end, "gap at 2"},
		{"segment 3 dropped", join(seg(0), seg(1), seg(2)), nil, &s.end, "gap at 3"},
		{"segment 3 dropped, known by a head", join(seg(0), seg(1), seg(2)), s.heads, nil, "gap at 3"},
		{"segment 3 dropped, nobody knows", join(seg(0), seg(1), seg(2)), s.heads[:3], nil, "interrupted"},
		{"segments swapped", join(seg(0), seg(2), seg(1), seg(3)), nil, &s.end, "gap at 1"},
		{"segment 2 twice", join(seg(0), seg(1), seg(2), seg(2), seg(3)), nil, &s.end, "forged at 3"},
		{"record dropped", without(firstRecord), nil, &s.end, "gap at 1"},
		{"seal dropped", without(len(spans(join(seg(0), seg(1)))) - 1), nil, &s.end, "gap at 1"},
		{"last seal dropped", without(lastSeal), nil, &s.end, "gap at 3"},
		{"end dropped", join(noEnd, s.raw[end.to:]), nil, &s.end, "gap at 3"},
		{"end and seal dropped", noEnd, nil, &s.end, "gap at 3"},
		{"records swapped", join(seg(0), swapRecords(t, s.raw), seg(2), seg(3)), nil, &s.end, "forged at 1"},
		{"record twice", join(s.raw[:part[1].to], s.raw[part[1].from:]), nil, &s.end, "forged at 1"},
		{"cut inside a record", s.raw[:part[1].from+9], nil, &s.end, "gap at 1"},
		{"one byte short", s.raw[:len(s.raw)-1], s.heads, &s.end, "gap at 3"},
		{"one byte short, nobody knows", s.raw[:len(s.raw)-1], nil, nil, "interrupted"},
		{"a byte appended", join(s.raw, []byte{0}), nil, &s.end, "forged at 4"},
		{"a byte appended, no end in the log", join(s.raw, []byte{0}), nil, nil, "forged at 4"},
		{"a segment appended", join(s.raw, seg(3)), nil, nil, "forged at 4"},
		{"records after the end", join(s.raw[:end.to], s.raw[part[1].from:part[1].to], s.raw[end.to:]), nil, &s.end, "forged at 3"},
		{"another recording", other.raw, nil, &s.end, "forged at 0"},
		{"another's segment", join(seg(0), segmentBytesOf(other.raw, 1), seg(2), seg(3)), nil, &s.end, "forged at 1"},
		{"re-signed, header kept", resign(t, s.raw, nil), nil, &s.end, "forged at 1"},
		{"re-signed, key in the header", resign(t, s.raw, s.announce.PublicKey), nil, &s.end, "forged at 0"},
		{"head of the log differs", s.raw, []Head{s.heads[0], other.heads[2]}, &s.end, "forged at 2"},
		{"header's head differs", s.raw, other.heads[:1], &s.end, "forged at 0"},
		{"end of the log differs", s.raw, nil, &other.end, "forged at 3"},
		{"end of the log earlier", s.raw, nil, &End{Head: s.heads[2], Verdict: StatusComplete}, "forged at 3"},
		{"log says complete too early", join(seg(0), seg(1)), nil, &End{Head: s.heads[1], Verdict: StatusComplete}, "forged at 1"},
		{"log says missing", s.raw, nil, &End{Verdict: StatusMissing}, "forged at 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := verify(t, tt.raw, s.announce, tt.known, tt.end)
			if v.Status != tt.want {
				t.Fatalf("%q (%s), want %q", v.Status, v.Detail, tt.want)
			}
			if v.Status != StatusComplete && slices.Contains(s.heads[len(s.heads)-1:], v.Head) && !bytes.HasPrefix(tt.raw, s.raw) {
				t.Fatalf("vouches for the last head: %+v", v)
			}
		})
	}
}

// swapRecords returns segment 1 with its first two records swapped.
func swapRecords(t *testing.T, raw []byte) []byte {
	t.Helper()
	part := spans(raw)
	var rest []byte
	for _, s := range part[3:] {
		if s.segment == 1 {
			rest = append(rest, raw[s.from:s.to]...)
		}
	}
	return join(raw[part[2].from:part[2].to], raw[part[1].from:part[1].to], rest)
}

// resign makes a chain of its own over the records: the work of somebody with everything but the
// session's key. Where old is given it also replaces that key in the header.
func resign(t *testing.T, raw []byte, old []byte) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	h, head, err := readHeader(bytes.NewReader(raw))
	must(t, err)
	if old != nil {
		h.PublicKey = public
		head, err = h.encode()
		must(t, err)
	}
	out, prev := slices.Clone(head), h.Hash.sum(head)
	var records []byte
	for _, s := range spans(raw)[1:] {
		if s.typ != typeSeal {
			records = append(records, raw[s.from:s.to]...)
			continue
		}
		body := raw[s.from+prefixLen : s.to]
		l := seal{
			segment: uint64(s.segment), records: binary.BigEndian.Uint32(body[8:]),
			bytes: uint64(len(records)), hash: h.Hash.sum(records), prev: prev,
		}
		rec := l.appendRecord(nil, private)
		out, prev, records = join(out, records, rec), h.Hash.sum(rec), nil
	}
	return out
}

// TestResignedIsWellFormed proves that the forger of TestTampering does good work: under a log
// that announces his key the recording is complete.
func TestResignedIsWellFormed(t *testing.T) {
	s := newSample(t)
	raw := resign(t, s.raw, s.announce.PublicKey)
	h, head, err := readHeader(bytes.NewReader(raw))
	must(t, err)
	a := Announcement{PublicKey: h.PublicKey, HeaderDigest: hexDigest(h.Hash.sum(head))}
	if v := verify(t, raw, a, nil, nil); v.Status != StatusComplete {
		t.Fatalf("%+v", v)
	}
}

func TestVerifyReportsReading(t *testing.T) {
	s := newSample(t)
	if _, err := Verify(iotest.ErrReader(io.ErrClosedPipe), s.announce, nil, nil); err == nil {
		t.Error("an unreadable bucket got a verdict")
	}
	broken := io.MultiReader(bytes.NewReader(s.raw[:len(s.raw)/2]), iotest.ErrReader(io.ErrClosedPipe))
	if _, err := Verify(broken, s.announce, nil, nil); err == nil {
		t.Error("half a reading got a verdict")
	}
	if _, err := Verify(bytes.NewReader(s.raw), Announcement{}, nil, nil); err == nil {
		t.Error("an empty announcement was accepted")
	}
	v, err := Verify(iotest.OneByteReader(bytes.NewReader(s.raw)), s.announce, s.heads, &s.end)
	if err != nil || v.Status != StatusComplete {
		t.Errorf("byte by byte: %+v, %v", v, err)
	}
}

// TestReaderRefusesWhatDoesNotFit: a reader without the log still finds what its key did not sign.
func TestReaderRefusesWhatDoesNotFit(t *testing.T) {
	s := newSample(t)
	raw := slices.Clone(s.raw)
	from := spans(raw)[1].from
	for i := from; i < len(raw); i++ {
		raw[i] ^= 0x40
		if err := drainReader(t, raw, s.people); err == io.EOF {
			t.Errorf("byte %d: read to a proper end", i)
		}
		raw[i] ^= 0x40
	}
}

func drainReader(t *testing.T, raw []byte, p people) error {
	t.Helper()
	r, err := Open(bytes.NewReader(raw), p.recovery)
	for err == nil {
		_, err = r.Next()
	}
	return err
}

// FuzzGarbage feeds damaged and invented recordings to everything that reads: none may panic,
// accept what was changed as complete, or hold more than a record in memory.
func FuzzGarbage(f *testing.F) {
	p := newPeople(f)
	s := newSampleOf(f, p)
	header := segmentBytesOf(s.raw, 0)
	f.Add(s.raw[len(header):])
	f.Add(segmentBytesOf(s.raw, 2))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0, 0, 0, 1, 3})
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, raw := range [][]byte{data, join(header, data), join([]byte(magic), data)} {
			v := verify(t, raw, s.announce, nil, nil)
			if v.Status == StatusComplete && !bytes.Equal(raw, s.raw) {
				t.Fatalf("%x is complete", raw)
			}
			checkRecover(t, raw)
			if r, err := Open(bytes.NewReader(raw), p.recovery); err == nil {
				for err == nil {
					_, err = r.Next()
				}
				if cap(r.scan.buf) > maxRecord+4 {
					t.Fatalf("holds %d bytes", cap(r.scan.buf))
				}
			}
		}
	})
}

// checkRecover requires that what Recover keeps is stable: recovering it gives the same End.
func checkRecover(t *testing.T, raw []byte) {
	t.Helper()
	end, n, err := Recover(bytes.NewReader(raw))
	if err != nil {
		return
	}
	if n > int64(len(raw)) {
		t.Fatalf("keeps %d of %d bytes", n, len(raw))
	}
	again, m, err := Recover(bytes.NewReader(raw[:n]))
	if err != nil || m != n || again != end {
		t.Fatalf("recovered anew: %+v of %d bytes, %v; first %+v of %d", again, m, err, end, n)
	}
}

// FuzzHeader: what parses as a header encodes and parses to the same.
func FuzzHeader(f *testing.F) {
	f.Add(segmentBytesOf(newSample(f).raw, 0))
	f.Add([]byte(magic + "\x00\x00\x00\x02{}"))
	f.Add([]byte(magic + "\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, raw, err := readHeader(bytes.NewReader(data))
		if !bytes.HasPrefix(data, raw) {
			t.Fatal("raw bytes are not those of the input")
		}
		if err != nil {
			return
		}
		enc, err := h.encode()
		if err != nil {
			return // a time beyond year 9999 has no JSON
		}
		again, _, err := readHeader(bytes.NewReader(enc))
		must(t, err)
		if diff := cmp.Diff(h, again); diff != "" {
			t.Fatal(diff)
		}
	})
}
