package recording

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// faulty fails at its nth call, and from then on works again: what is sticky is the Writer.
type faulty struct {
	bytes.Buffer
	call, failAt int
	short        bool // the failing write takes half and reports that much
}

var errDisk = errors.New("disk is full")

func (f *faulty) fails() bool {
	f.call++
	return f.call == f.failAt
}

func (f *faulty) Write(p []byte) (int, error) {
	if !f.fails() {
		return f.Buffer.Write(p)
	}
	n, _ := f.Buffer.Write(p[:len(p)/2])
	if f.short {
		return n, nil
	}
	return n, errDisk
}

func (f *faulty) Sync() error {
	if f.fails() {
		return errDisk
	}
	return nil
}

// acts are what a session does to its recording.
var acts = []func(w *Writer) error{
	func(w *Writer) error { return w.WriteEvent(0, Event{Type: EventShell}) },
	func(w *Writer) error { return w.Write(0, StreamOut, []byte("one")) },
	func(w *Writer) error { return w.Seal() },
	func(w *Writer) error { return w.Write(0, StreamIn, []byte("two")) },
	func(w *Writer) error { return w.Write(0, StreamErr, make([]byte, 3<<20)) },
	func(w *Writer) error { return w.Seal() },
	func(w *Writer) error { return w.Write(0, StreamOut, []byte("last")) },
	func(w *Writer) error { _, err := w.Close("done"); return err },
}

// TestFailuresStick lets every single call of the spool fail in turn. From then on every method
// returns that failure, nothing more is written, the keys are gone, and what is on the spool
// is an interrupted recording that holds each frame whose Write had succeeded.
func TestFailuresStick(t *testing.T) {
	p := newPeople(t)
	calls := countCalls(t, p)
	for failAt := 1; failAt <= calls; failAt++ {
		for _, short := range []bool{false, true} {
			t.Run(fmt.Sprintf("call %d short %t", failAt, short), func(t *testing.T) {
				f := &faulty{failAt: failAt, short: short}
				w, err := New(f, p.config())
				if failAt <= 2 {
					if !short && !errors.Is(err, errDisk) || err == nil {
						t.Fatalf("New: %v", err)
					}
					return
				}
				must(t, err)
				written := runUntilFailure(t, w)
				checkSticky(t, w, f)
				checkRecovered(t, f.Bytes(), p, written)
			})
		}
	}
}

func countCalls(t *testing.T, p people) int {
	f := &faulty{failAt: -1}
	w := newWriter(t, f, p.config())
	for _, act := range acts {
		must(t, act(w))
	}
	return f.call
}

// runUntilFailure returns how many acts that write frames had succeeded.
func runUntilFailure(t *testing.T, w *Writer) int {
	t.Helper()
	isFrame := []int{1, 1, 0, 1, 3 << 20 / MaxData, 0, 1, 0}
	frames := 0
	for i, act := range acts {
		if err := act(w); err != nil {
			return frames
		}
		frames += isFrame[i]
	}
	t.Fatal("nothing failed")
	return 0
}

func checkSticky(t *testing.T, w *Writer, f *faulty) {
	t.Helper()
	size := f.Len()
	want := w.Write(0, StreamOut, []byte("x"))
	if want == nil || !errors.Is(want, errDisk) && !errors.Is(want, io.ErrShortWrite) && !errors.Is(want, ErrClosed) {
		t.Fatalf("after a failure: %v", want)
	}
	for range 2 {
		for i, act := range acts {
			if err := act(w); err != want {
				t.Fatalf("act %d: %v, want %v", i, err, want)
			}
		}
	}
	if f.Len() != size {
		t.Fatal("wrote on after a failure")
	}
	if w.out.aead != nil || w.in.aead != nil || w.out.key != [32]byte{} || !bytes.Equal(*w.key, make([]byte, len(*w.key))) {
		t.Fatal("keys outlive the failure")
	}
}

func checkRecovered(t *testing.T, raw []byte, p people, written int) {
	t.Helper()
	_, n, err := Recover(bytes.NewReader(raw))
	must(t, err)
	r, err := Open(bytes.NewReader(raw[:n]), p.recovery)
	must(t, err)
	frames := 0
	for err == nil {
		if _, err = r.Next(); err == nil {
			frames++
		}
	}
	if err != ErrInterrupted && err != io.EOF || frames < written {
		t.Fatalf("%d frames of %d, then %v", frames, written, err)
	}
}

func TestRunReturnsTheFailure(t *testing.T) {
	f := &faulty{failAt: 4}
	w := newWriter(t, f, newPeople(t).config())
	must(t, w.Write(0, StreamOut, []byte("x"))) // call 3; the seal of Run is call 4
	if err := w.Run(t.Context()); !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
}

// TestRatchet seizes the Writer's memory after a seal: no key that it holds opens a record of a
// sealed segment, and the ciphers that it held before are overwritten.
func TestRatchet(t *testing.T) {
	f := &spool{}
	w := newWriter(t, f, newPeople(t).config())
	oldOut, oldIn, oldKey := w.out.aead, w.in.aead, w.out.key
	must(t, w.Write(0, StreamOut, []byte("earlier")))
	must(t, w.Write(0, StreamIn, []byte("typed")))
	if !opens(w.out, f.Bytes(), 0, 1) || !opens(w.in, f.Bytes(), 1, 1) {
		t.Fatal("the test cannot open the open segment: it would prove nothing")
	}
	must(t, w.Seal())
	for name, r := range map[string]*ratchet{"output": w.out, "input": w.in} {
		for counter := range uint32(2) {
			if opens(r, f.Bytes(), counter, 1) {
				t.Errorf("%s opens record %d of a sealed segment", name, counter)
			}
		}
	}
	for _, old := range []any{oldOut, oldIn} {
		if !reflect.ValueOf(old).Elem().IsZero() {
			t.Errorf("the old %T is not wiped", old)
		}
	}
	if w.out.key == oldKey || w.out.key != expandKey(oldKey) {
		t.Error("the key did not step")
	}
	must(t, w.Write(0, StreamOut, []byte("later")))
	if !opens(w.out, f.Bytes(), 0, 2) {
		t.Error("the new key does not open the new segment")
	}
}

// TestPrintingShowsNoKey: a Writer or Reader that ends up in a log shows none of its keys.
func TestPrintingShowsNoKey(t *testing.T) {
	p, f := newPeople(t), &spool{}
	w := newWriter(t, f, p.config())
	r, err := Open(bytes.NewReader(f.Bytes()), p.recovery)
	must(t, err)
	keys := [][]byte{(*w.key)[:8], w.out.key[:8], w.in.key[:8]}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
		held := struct {
			w *Writer
			r *Reader
		}{w, r}
		text := fmt.Sprintf(verb+verb+verb+verb, w, r, held, &held)
		for i, key := range keys {
			for _, form := range []string{"%x", "%d", "%s", "%#v"} {
				if strings.Contains(text, strings.Trim(fmt.Sprintf(form, key), "[]byte{}")) {
					t.Errorf("%s shows key %d as %s", verb, i, form)
				}
			}
		}
	}
}

// opens reports whether r decrypts a record of the recording.
func opens(r *ratchet, raw []byte, counter uint32, segment int) bool {
	var n uint32
	for _, s := range spans(raw)[1:] {
		if s.segment != segment || s.typ == typeSeal {
			continue
		}
		if n++; n-1 != counter {
			continue
		}
		var nonce [12]byte
		aad := append(make([]byte, 13), testSession...)
		putNonce(&nonce, uint64(segment), counter)
		putAAD(aad, s.typ, uint64(segment), counter)
		_, err := r.aead.Open(nil, nonce[:], raw[s.from+prefixLen:s.to], aad)
		return err == nil
	}
	return false
}

const (
	childSpool     = "RECORDING_TEST_SPOOL"
	childRecipient = "RECORDING_TEST_RECIPIENTS"
)

func TestMain(m *testing.M) {
	if os.Getenv(childSpool) != "" {
		if err := recordForever(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// recordForever is the bastion of TestKill: it records numbers and says of each on standard output
// that it was forwarded, as soon as Write has returned. It ends by being killed.
func recordForever() error {
	to, err := age.ParseRecipients(strings.NewReader(os.Getenv(childRecipient)))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(os.Getenv(childSpool), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	w, err := New(f, Config{SessionID: testSession, Recipients: to})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() { cancel(w.Run(context.Background())) }()
	for i := 0; ctx.Err() == nil; i++ {
		if err := w.Write(0, Stream(1+i%3), []byte(strconv.Itoa(i))); err != nil {
			return err
		}
		if i%1000 == 999 {
			if err := w.Seal(); err != nil {
				return err
			}
		}
		if _, err := fmt.Println(i); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// TestKill kills a bastion with SIGKILL: every frame that it had forwarded is on the spool.
func TestKill(t *testing.T) {
	for _, after := range []int{1, 500, 1500, 4321} {
		t.Run(strconv.Itoa(after), func(t *testing.T) {
			p := newPeople(t)
			path := filepath.Join(t.TempDir(), "spool")
			forwarded := killAfter(t, p, path, after)
			raw, err := os.ReadFile(path)
			must(t, err)
			end, n, err := Recover(bytes.NewReader(raw))
			must(t, err)
			if end.Verdict != StatusInterrupted {
				t.Fatalf("%+v", end)
			}
			frames := readAll(t, raw[:n], ErrInterrupted, p.recovery)
			for i, f := range frames {
				if string(f.Data) != strconv.Itoa(i) {
					t.Fatalf("frame %d holds %q", i, f.Data)
				}
			}
			if len(frames) <= forwarded {
				t.Fatalf("%d frames, and number %d was forwarded", len(frames), forwarded)
			}
			checkKilled(t, raw[:n], end)
		})
	}
}

// checkKilled verifies what Recover reports, under an announcement taken from the header.
func checkKilled(t *testing.T, raw []byte, end End) {
	t.Helper()
	h, head, err := readHeader(bytes.NewReader(raw))
	must(t, err)
	a := Announcement{PublicKey: h.PublicKey, HeaderDigest: hexDigest(h.Hash.sum(head))}
	if v := verify(t, raw, a, nil, &end); v.Status != StatusInterrupted || v.Head != end.Head {
		t.Fatalf("%+v, want %+v", v, end)
	}
}

// killAfter runs the bastion until it has forwarded number n, kills it and returns the last number
// that came out.
func killAfter(t *testing.T, p people, path string, n int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	recipients := p.reviewer.Recipient().String() + "\n" + p.recovery.Recipient().String()
	cmd.Env = append(os.Environ(), childSpool+"="+path, childRecipient+"="+recipients)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	last, lines := -1, bufio.NewScanner(out)
	for lines.Scan() {
		i, err := strconv.Atoi(lines.Text())
		if err != nil {
			break // the last line may be torn
		}
		if last = i; i == n {
			must(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); err == nil || last < n {
		t.Fatalf("the bastion ended by itself after number %d: %v", last, err)
	}
	return last
}

// TestRecoverCutsTornAndZeroedRecords holds what a kill or a loss of power leaves at the end.
func TestRecoverCutsTornAndZeroedRecords(t *testing.T) {
	raw, _, end := interrupted(t)
	tests := map[string][]byte{
		"whole":                       raw,
		"torn length":                 join(raw, []byte{0, 0}),
		"torn record":                 join(raw, raw[len(raw)-30:][:12]),
		"zeroes":                      join(raw, make([]byte, 4096)),
		"zeroes, not a whole record":  join(raw, make([]byte, 3)),
		"absurd length":               join(raw, []byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3}),
		"seal that signs nothing":     join(raw, appendPrefix(nil, typeSeal, sealLen), make([]byte, sealLen)),
		"seal of the segment before":  join(raw, firstSeal(raw)),
		"a good record cut by a hole": join(raw, []byte{0, 0, 1, 0, typeOutput}),
	}
	for name, spool := range tests {
		t.Run(name, func(t *testing.T) {
			got, n, err := Recover(bytes.NewReader(spool))
			must(t, err)
			if got != end || n != int64(len(raw)) {
				t.Fatalf("%+v and %d bytes, want %+v and %d", got, n, end, len(raw))
			}
		})
	}
	s := newSample(t)
	if got, n, err := Recover(bytes.NewReader(s.raw)); err != nil || got != s.end || n != int64(len(s.raw)) {
		t.Fatalf("closed: %+v, %d, %v", got, n, err)
	}
	for _, none := range [][]byte{nil, s.raw[:20], []byte("something else entirely")} {
		if got, n, err := Recover(bytes.NewReader(none)); !errors.Is(err, ErrNoHeader) || n != 0 || got.Verdict != StatusMissing {
			t.Fatalf("no header: %+v, %d, %v", got, n, err)
		}
	}
}

func firstSeal(raw []byte) []byte {
	for _, s := range spans(raw) {
		if s.typ == typeSeal {
			return raw[s.from:s.to]
		}
	}
	return nil
}
