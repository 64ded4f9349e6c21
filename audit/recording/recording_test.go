package recording

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	s := newSample(t)
	ms := time.Millisecond
	want := []Frame{
		{Channel: 0, Stream: StreamEvent, Offset: 1 * ms, Data: []byte(`{"type":"shell"}`)},
		{Channel: 0, Stream: StreamIn, Offset: 2 * ms, Data: []byte("id\n")},
		{Channel: 0, Stream: StreamOut, Offset: 3 * ms, Data: []byte("uid=0\n")},
		{Channel: 1, Stream: StreamErr, Offset: 4 * ms, Data: []byte("denied\n")},
		{Channel: 1, Stream: StreamOut, Offset: 5 * ms, Data: []byte("second")},
		{Channel: 0, Stream: StreamOut, Offset: 6 * ms, Data: []byte("third")},
	}
	if diff := cmp.Diff(want, s.frames); diff != "" {
		t.Fatal(diff)
	}
	if v := verify(t, s.raw, s.announce, s.heads, &s.end); v.Status != StatusComplete || v.Head != s.end.Head || v.Bytes != int64(len(s.raw)) {
		t.Fatalf("%+v", v)
	}
	r, err := Open(bytes.NewReader(s.raw), s.people.reviewer)
	must(t, err)
	for err == nil {
		_, err = r.Next()
	}
	if reason, at := r.Reason(); reason != "closed by the client" || at != 7*ms {
		t.Fatalf("reason %q at %s", reason, at)
	}
}

func TestRightsToReadInput(t *testing.T) {
	s := newSample(t)
	tests := []struct {
		name string
		id   age.Identity
		in   int
		all  int
	}{
		{"recovery reads both", s.people.recovery, 1, 6},
		{"reviewer reads no input", s.people.reviewer, 0, 5},
		{"input reviewer reads nothing else", s.people.inputReviewer, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in, all := 0, 0
			for _, f := range readAll(t, s.raw, io.EOF, tt.id) {
				all++
				if f.Stream == StreamIn {
					in++
				}
			}
			if in != tt.in || all != tt.all {
				t.Fatalf("%d of input, %d in all; want %d, %d", in, all, tt.in, tt.all)
			}
		})
	}
	for _, ids := range [][]age.Identity{nil, {identity(t)}} {
		if _, err := Open(bytes.NewReader(s.raw), ids...); !errors.Is(err, ErrNoIdentity) {
			t.Fatalf("stranger: %v", err)
		}
	}
}

func TestNothingReadableOnTheSpool(t *testing.T) {
	s := newSample(t)
	for _, text := range []string{"uid=0", "id\n", "denied", "shell", "closed by"} {
		if bytes.Contains(s.raw, []byte(text)) {
			t.Errorf("spool shows %q", text)
		}
	}
}

func TestRecipients(t *testing.T) {
	p := newPeople(t)
	a, b := age.Recipient(p.reviewer.Recipient()), age.Recipient(p.recovery.Recipient())
	same, err := age.ParseX25519Recipient(p.reviewer.Recipient().String())
	must(t, err)
	type list = []age.Recipient
	tests := []struct {
		name string
		cfg  Config
		want string // of the error; "" for none
	}{
		{"none", Config{}, "0 given"},
		{"one", Config{Recipients: list{a}}, "1 given"},
		{"one twice", Config{Recipients: list{a, same}}, "same one"},
		{"one twice under two names", Config{Recipients: list{a, same}, RecipientNames: []string{"x", "y"}}, "same one"},
		{"two of one name", Config{Recipients: list{a, b}, RecipientNames: []string{"x", "x"}}, "same one"},
		{"a name too few", Config{Recipients: list{a, b}, RecipientNames: []string{"x"}}, "1 names"},
		{"nil", Config{Recipients: list{a, nil}}, "nil"},
		{"one for input", Config{Recipients: list{a, b}, InputRecipients: list{a}}, "input recipients: 1 given"},
		{"none for input", Config{Recipients: list{a, b}, InputRecipients: list{}}, "input recipients: 0 given"},
		{"two", Config{Recipients: list{a, b}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.SessionID = testSession
			f := &spool{}
			_, err := New(f, tt.cfg)
			if tt.want == "" {
				must(t, err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			if f.Len() != 0 {
				t.Fatal("wrote to the spool")
			}
		})
	}
}

func TestAnnouncementNamesRecipients(t *testing.T) {
	p := newPeople(t)
	cfg := p.config()
	cfg.RecipientNames = []string{"reviewers", "vault"}
	f := &spool{}
	w := newWriter(t, f, cfg)
	if diff := cmp.Diff([]string{"reviewers", "vault"}, w.Announce().Recipients); diff != "" {
		t.Fatal(diff)
	}
	r, err := Open(f, p.recovery)
	must(t, err)
	want := []string{p.inputReviewer.Recipient().String(), p.recovery.Recipient().String()}
	if diff := cmp.Diff(want, r.Header().InputRecipients); diff != "" {
		t.Fatal(diff)
	}
}

func TestOneWriteBeforeItReturns(t *testing.T) {
	f := &spool{}
	w := newWriter(t, f, newPeople(t).config())
	for _, size := range []int{1, MaxData, MaxData + 1, 20 * MaxData} {
		before, length := f.writes, f.Len()
		must(t, w.Write(0, StreamOut, make([]byte, size)))
		if f.writes != before+1 || f.Len() < length+size {
			t.Fatalf("%d bytes: %d writes, %d bytes on the spool", size, f.writes-before, f.Len()-length)
		}
	}
}

func TestLargeWriteIsSplitAndSealedBySize(t *testing.T) {
	p := newPeople(t)
	f := &spool{}
	w := newWriter(t, f, p.config())
	data := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)
	must(t, w.Write(7, StreamOut, data))
	head, err := w.Close("")
	must(t, err)
	if head.Segments < 5 {
		t.Fatalf("%d segments", head.Segments)
	}
	var got []byte
	for _, fr := range readAll(t, f.Bytes(), io.EOF, p.recovery) {
		if len(fr.Data) > MaxData || fr.Channel != 7 {
			t.Fatalf("frame of %d bytes on channel %d", len(fr.Data), fr.Channel)
		}
		got = append(got, fr.Data...)
	}
	if !bytes.Equal(got, data) {
		t.Fatal("bytes differ")
	}
	if v := verify(t, f.Bytes(), w.Announce(), nil, &End{Head: head, Verdict: StatusComplete}); v.Status != StatusComplete {
		t.Fatalf("%+v", v)
	}
}

func TestHeadIsWhatIsOnDisk(t *testing.T) {
	f := &spool{}
	w := newWriter(t, f, newPeople(t).config())
	must(t, w.Write(0, StreamOut, make([]byte, 3<<20))) // sealed by size, not synced yet
	if h := w.Head(); h.Segments != 0 || f.syncs != 1 {
		t.Fatalf("head %+v after %d syncs", h, f.syncs)
	}
	must(t, w.Seal())
	if h := w.Head(); h.Segments == 0 || h.Bytes != int64(f.Len()) || f.syncs != 2 {
		t.Fatalf("head %+v of %d bytes after %d syncs", h, f.Len(), f.syncs)
	}
	must(t, w.Seal())
	if f.syncs != 2 {
		t.Fatal("a seal of nothing synced")
	}
}

func TestRunSealsEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := newPeople(t).config()
		cfg.Now = time.Now
		f := &spool{}
		w := newWriter(t, f, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		var segments []int64
		for i := range 4 {
			if i != 2 {
				must(t, w.Write(0, StreamOut, []byte("x")))
			}
			time.Sleep(sealInterval)
			synctest.Wait()
			segments = append(segments, w.Head().Segments)
		}
		cancel()
		must(t, <-done)
		if diff := cmp.Diff([]int64{1, 2, 2, 3}, segments); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestClosed(t *testing.T) {
	f := &spool{}
	w := newWriter(t, f, newPeople(t).config())
	head, err := w.Close("done")
	must(t, err)
	size := f.Len()
	again, err := w.Close("again")
	if !errors.Is(err, ErrClosed) || again != head {
		t.Fatalf("%+v, %v", again, err)
	}
	for _, err := range []error{w.Write(0, StreamOut, []byte("x")), w.WriteEvent(0, Event{Type: EventEOF}), w.Seal()} {
		if !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
	}
	if f.Len() != size {
		t.Fatal("wrote after Close")
	}
}

func TestWriteRefusesWhatIsNoStream(t *testing.T) {
	w := newWriter(t, &spool{}, newPeople(t).config())
	for _, s := range []Stream{0, StreamEvent, 5, 255} {
		if err := w.Write(0, s, []byte("x")); err == nil {
			t.Errorf("%s taken", s)
		}
	}
	if err := w.WriteEvent(0, Event{Type: EventExec, Command: strings.Repeat("x", MaxEvent)}); err == nil {
		t.Error("event beyond MaxEvent taken")
	}
}

func TestOffsetsNeverFall(t *testing.T) {
	p := newPeople(t)
	cfg := p.config()
	steps := []time.Duration{0, 5, 2, -9, 7}
	start, n := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC), 0
	cfg.Now = func() time.Time { n++; return start.Add(steps[n-1]) }
	f := &spool{}
	w := newWriter(t, f, cfg)
	var got []time.Duration
	for range steps[1:] {
		must(t, w.Write(0, StreamOut, []byte("x")))
	}
	for _, fr := range readAll(t, f.Bytes(), ErrInterrupted, p.recovery) {
		got = append(got, fr.Offset)
	}
	if diff := cmp.Diff([]time.Duration{5, 5, 5, 7}, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestEventKeepsEveryByte(t *testing.T) {
	tests := map[string]Event{
		"text":        {Type: EventExec, Command: "echo 'ä <&> \u2028' \"q\"\n\t"},
		"not UTF-8":   {Type: EventExec, Command: "printf '\xff\xfe\x80' \xc3"},
		"controls":    {Type: EventEnv, Name: "A\x00B", Value: "\x1b[0m\x01"},
		"terminal":    {Type: EventPty, Cols: 80, Rows: 24, Term: "xterm\x9c"},
		"exit":        {Type: EventExit, Status: 255},
		"exit signal": {Type: EventExitSignal, Signal: "KILL", Reason: "\xf0\x28"},
		"replacement": {Type: EventExec, Command: "\ufffd"},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			p, f := newPeople(t), &spool{}
			w := newWriter(t, f, p.config())
			must(t, w.WriteEvent(3, want))
			got, err := readAll(t, f.Bytes(), ErrInterrupted, p.recovery)[0].Event()
			must(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func FuzzEvent(f *testing.F) {
	f.Add("exec", "ls \xff", "\x00", uint32(1))
	f.Add("env", "LANG", "C", uint32(0))
	f.Fuzz(func(t *testing.T, typ, command, value string, status uint32) {
		want := Event{Type: strings.ToValidUTF8(typ, ""), Command: command, Value: value, Status: status}
		data, err := json.Marshal(want)
		must(t, err)
		var got Event
		must(t, json.Unmarshal(data, &got))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestConcurrentWrites(t *testing.T) {
	p := newPeople(t)
	cfg := p.config()
	cfg.Now = nil
	f := &spool{}
	w := newWriter(t, f, cfg)
	var wg sync.WaitGroup
	for c := range uint32(4) {
		wg.Go(func() {
			for i := range 200 {
				if err := w.Write(c, Stream(1+i%3), []byte{byte(i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if err := w.Seal(); err != nil {
				t.Error(err)
			}
			_ = w.Head()
		}
	})
	wg.Wait()
	head, err := w.Close("")
	must(t, err)
	next := map[uint32]int{}
	for _, fr := range readAll(t, f.Bytes(), io.EOF, p.recovery) {
		if fr.Data[0] != byte(next[fr.Channel]) {
			t.Fatalf("channel %d: frame %d is out of order", fr.Channel, next[fr.Channel])
		}
		next[fr.Channel]++
	}
	if diff := cmp.Diff(map[uint32]int{0: 200, 1: 200, 2: 200, 3: 200}, next); diff != "" {
		t.Fatal(diff)
	}
	if v := verify(t, f.Bytes(), w.Announce(), nil, &End{Head: head, Verdict: StatusComplete}); v.Status != StatusComplete {
		t.Fatalf("%+v", v)
	}
}

func TestHashes(t *testing.T) {
	for _, h := range []Hash{"", BLAKE2b, SHA256, FasterHash()} {
		t.Run(string(h), func(t *testing.T) {
			p, f := newPeople(t), &spool{}
			cfg := p.config()
			cfg.Hash = h
			w := newWriter(t, f, cfg)
			must(t, w.Write(0, StreamOut, []byte("text")))
			must(t, w.Seal())
			sum, err := w.header.Hash.new()
			must(t, err)
			sum.Write(firstSeal(f.Bytes()))
			if got := hexDigest([32]byte(sum.Sum(nil))); got != w.Head().Hash {
				t.Fatalf("head %s, and the seal hashes to %s", w.Head().Hash, got)
			}
			head, err := w.Close("")
			must(t, err)
			end := Complete(head)
			if v := verify(t, f.Bytes(), w.Announce(), nil, &end); v.Status != StatusComplete {
				t.Fatalf("%+v", v)
			}
			if got := readAll(t, f.Bytes(), io.EOF, p.recovery); len(got) != 1 {
				t.Fatalf("%d frames", len(got))
			}
		})
	}
	cfg := newPeople(t).config()
	cfg.Hash = "md5"
	if _, err := New(&spool{}, cfg); err == nil {
		t.Fatal("md5 taken")
	}
}

func TestExpandKeyIsHKDF(t *testing.T) {
	for _, key := range [][32]byte{{}, {1}, sha256.Sum256([]byte("any"))} {
		want, err := hkdf.Expand(sha256.New, key[:], ratchetInfo, 32)
		must(t, err)
		if got := expandKey(key); !bytes.Equal(got[:], want) {
			t.Fatalf("%x, want %x", got, want)
		}
	}
}

// FuzzRoundTrip writes what the input spells, and requires every byte back and a good verdict.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("\x02\x05hello\x03\x02\xff\xfe\x00\x01\x03abc"))
	f.Add([]byte("\x01\x01\xc3\x01\x01\xa4\x00\x00\x02\x00"))
	f.Add(bytes.Repeat([]byte{2, 255}, 300))
	p := newPeople(f)
	f.Fuzz(func(t *testing.T, script []byte) {
		out := &spool{}
		w := newWriter(t, out, p.config())
		want := runScript(t, w, script)
		head, err := w.Close("end")
		must(t, err)
		var got []Frame
		for _, fr := range readAll(t, out.Bytes(), io.EOF, p.recovery) {
			got = append(got, Frame{Channel: fr.Channel, Stream: fr.Stream, Data: fr.Data})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		v := verify(t, out.Bytes(), w.Announce(), nil, &End{Head: head, Verdict: StatusComplete})
		if v.Status != StatusComplete {
			t.Fatalf("%+v", v)
		}
	})
}

// runScript reads script as (stream, length, bytes)…, where stream 0 seals, and returns the frames.
func runScript(t *testing.T, w *Writer, script []byte) []Frame {
	t.Helper()
	var want []Frame
	for len(script) >= 2 {
		s, n := Stream(script[0]%4), min(int(script[1]), len(script)-2)
		data := script[2 : 2+n]
		script = script[2+n:]
		if s == 0 {
			must(t, w.Seal())
			continue
		}
		must(t, w.Write(uint32(n), s, data))
		if n > 0 {
			want = append(want, Frame{Channel: uint32(n), Stream: s, Data: data})
		}
	}
	return want
}

// TestReaderKnowsItsAnnouncement: who shows frames before the end has been verified holds at least
// the header against the log.
func TestReaderKnowsItsAnnouncement(t *testing.T) {
	s, other := newSample(t), newSample(t)
	r, err := Open(bytes.NewReader(s.raw), s.people.reviewer)
	must(t, err)
	must(t, r.Announced(s.announce))
	for {
		if _, err := r.Next(); err != nil {
			break
		}
	}
	must(t, r.Announced(s.announce)) // still, when heads have moved on
	key, digest := s.announce, s.announce
	key.PublicKey, digest.HeaderDigest = other.announce.PublicKey, other.announce.HeaderDigest
	for name, a := range map[string]Announcement{"another": other.announce, "another key": key, "another digest": digest, "none": {}} {
		if err := r.Announced(a); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestReaderSaysWhatItOpens(t *testing.T) {
	s := newSample(t)
	for name, c := range map[string]struct {
		id      age.Identity
		out, in bool
	}{
		"reviewer": {s.people.reviewer, true, false}, "input's": {s.people.inputReviewer, false, true}, "recovery": {s.people.recovery, true, true},
	} {
		r, err := Open(bytes.NewReader(s.raw), c.id)
		must(t, err)
		if r.Opens(StreamOut) != c.out || r.Opens(StreamErr) != c.out || r.Opens(StreamEvent) != c.out || r.Opens(StreamIn) != c.in {
			t.Errorf("%s: out %v, in %v", name, r.Opens(StreamOut), r.Opens(StreamIn))
		}
	}
}
