package recording

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// omitting is a recording of two segments from which bytes of both directions are left out.
func omitting(t testing.TB) sample {
	t.Helper()
	p, f := newPeople(t), &spool{}
	w := newWriter(t, f, p.config())
	s := sample{announce: w.Announce(), people: p}
	must(t, w.Write(0, StreamIn, []byte("put")))
	must(t, w.Omit(0, StreamIn, 1<<40))
	s.seal(t, w)
	must(t, w.Omit(7, StreamOut, 3))
	must(t, w.Omit(7, StreamErr, 0)) // nothing
	head, err := w.Close("done")
	must(t, err)
	s.end, s.raw = w.End(head), f.Bytes()
	return s
}

func TestOmitted(t *testing.T) {
	s, ms := omitting(t), time.Millisecond
	want := []Frame{{Stream: StreamIn, Offset: ms, Data: []byte("put")}, {Stream: StreamIn, Offset: 2 * ms, Omitted: 1 << 40}, {Channel: 7, Stream: StreamOut, Offset: 3 * ms, Omitted: 3}}
	if diff := cmp.Diff(want, readAll(t, s.raw, io.EOF, s.people.recovery)); diff != "" {
		t.Errorf("frames (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[1:], readAll(t, s.raw, io.EOF, s.people.reviewer)); diff != "" {
		t.Errorf("frames for who may not read input (-want +got):\n%s", diff)
	}
	if s.end.Verdict != StatusOmitted {
		t.Errorf("the end says %q", s.end.Verdict)
	}
	recovered, _, err := Recover(bytes.NewReader(s.raw))
	must(t, err)
	if recovered != s.end {
		t.Errorf("recovered as %+v, not %+v", recovered, s.end)
	}
	if err := newWriter(t, &spool{}, s.people.config()).Omit(0, StreamEvent, 1); err == nil {
		t.Error("an event can be left out")
	}
}

// TestOmittedIsNeverComplete: whatever the log says, and whatever is done to the bytes.
func TestOmittedIsNeverComplete(t *testing.T) {
	s, whole := omitting(t), newSample(t)
	lying, denying := s.end, whole.end
	lying.Verdict, denying.Verdict = StatusComplete, StatusOmitted
	for name, test := range map[string]struct {
		s    sample
		end  *End
		want string
	}{
		"as the log says":               {s, &s.end, StatusOmitted},
		"a session that lives":          {s, nil, StatusOmitted},
		"the log says complete":         {s, &lying, "forged at 2"},
		"the log says more was omitted": {whole, &denying, "forged at 3"},
	} {
		v := verify(t, test.s.raw, test.s.announce, nil, test.end)
		if v.Status != test.want || v.Status == StatusOmitted && v.Omissions != 2 {
			t.Errorf("%s: %+v, want %s", name, v, test.want)
		}
	}
	raw := slices.Clone(s.raw)
	for i := range raw {
		for _, bit := range []byte{0x01, 0x04, 0x80} {
			raw[i] ^= bit
			if v := verify(t, raw, s.announce, nil, &s.end); !strings.Contains(v.Status, " at ") {
				t.Errorf("byte %d ^ %#x: %q", i, bit, v.Status)
			}
			if v := verify(t, raw, s.announce, nil, nil); v.Status == StatusComplete {
				t.Errorf("byte %d ^ %#x: complete without an End", i, bit)
			}
			raw[i] ^= bit
		}
	}
	for cut := range raw {
		if v := verify(t, raw[:cut], s.announce, nil, &s.end); cut > 0 && !strings.HasPrefix(v.Status, "gap at ") {
			t.Errorf("cut to %d bytes: %q", cut, v.Status)
		}
	}
}

// TestOmittedInTheClear: how much was left out needs a key, that something was needs none.
func TestOmittedInTheClear(t *testing.T) {
	s := omitting(t)
	r, err := Open(bytes.NewReader(s.raw), s.people.inputReviewer)
	must(t, err)
	f, err := r.Next()
	if err != nil || string(f.Data) != "put" {
		t.Fatalf("%v, %v", f, err)
	}
	if f, err := r.Next(); err != io.EOF {
		t.Errorf("a key for input alone shows %v, %v", f, err)
	}
	v := verify(t, s.raw, s.announce, nil, nil)
	if got := fmt.Sprint(v.Status, v.Omissions); got != StatusOmitted+"2" {
		t.Error(got)
	}
}
