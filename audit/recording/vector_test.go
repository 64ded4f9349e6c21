package recording_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/blake2b"

	"sega/audit/recording"
)

// vector is testdata/v1.json: what testdata/v1.rec holds, for other implementations too.
type vector struct {
	Identity      string                 `json:"identity"` // of a test, opens output and events
	InputIdentity string                 `json:"input_identity"`
	Announcement  recording.Announcement `json:"announcement"`
	Heads         []recording.Head       `json:"heads"` // after the header and after each seal
	End           recording.End          `json:"end"`
	Reason        string                 `json:"reason"`
	Frames        []vectorFrame          `json:"frames"`
}

type vectorFrame struct {
	Channel uint32 `json:"channel"`
	Stream  string `json:"stream"`
	Nanos   int64  `json:"nanos"`
	Data    []byte `json:"data"`
}

func readVector(t *testing.T) (vector, []byte, []age.Identity) {
	t.Helper()
	raw, err := os.ReadFile("testdata/v1.rec")
	check(t, err)
	text, err := os.ReadFile("testdata/v1.json")
	check(t, err)
	var v vector
	check(t, json.Unmarshal(text, &v))
	var ids []age.Identity
	for _, s := range []string{v.Identity, v.InputIdentity} {
		id, err := age.ParseX25519Identity(s)
		check(t, err)
		ids = append(ids, id)
	}
	return v, raw, ids
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestVector: recordings of version 1 stay readable and verifiable.
func TestVector(t *testing.T) {
	want, raw, ids := readVector(t)
	v, err := recording.Verify(bytes.NewReader(raw), want.Announcement, want.Heads, &want.End)
	check(t, err)
	if v.Status != recording.StatusComplete {
		t.Fatalf("%+v", v)
	}
	r, err := recording.Open(bytes.NewReader(raw), ids...)
	check(t, err)
	var got []vectorFrame
	for {
		f, err := r.Next()
		if err == io.EOF {
			break
		}
		check(t, err)
		got = append(got, vectorFrame{f.Channel, f.Stream.String(), int64(f.Offset), f.Data})
	}
	if diff := cmp.Diff(want.Frames, got); diff != "" {
		t.Fatal(diff)
	}
	if reason, _ := r.Reason(); reason != want.Reason {
		t.Fatalf("reason %q", reason)
	}
}

// TestStranger reads the vector with a reader that was written from doc.go alone and shares
// nothing with this package: were text and code to part, it would fail.
func TestStranger(t *testing.T) {
	want, raw, ids := readVector(t)
	s := &stranger{raw: raw, segment: 1}
	check(t, s.header(ids))
	if err := s.records(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Frames, s.frames); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff(want.Heads, s.heads); diff != "" {
		t.Fatal(diff)
	}
	if s.reason != want.Reason {
		t.Fatalf("reason %q", s.reason)
	}
}

type stranger struct {
	raw      []byte
	at       int
	session  string
	public   []byte
	out, in  []byte
	segment  uint64
	counter  uint32
	segStart int
	prev     [32]byte
	heads    []recording.Head
	frames   []vectorFrame
	reason   string
}

func (s *stranger) header(ids []age.Identity) error {
	const magic = "sega-recording/1\n"
	n := len(magic) + 4 + int(binary.BigEndian.Uint32(s.raw[len(magic):]))
	var h struct {
		SessionID string `json:"session_id"`
		Hash      string `json:"hash"`
		PublicKey []byte `json:"public_key"`
		OutputKey []byte `json:"output_key"`
		InputKey  []byte `json:"input_key"`
	}
	if err := json.Unmarshal(s.raw[len(magic)+4:n], &h); err != nil {
		return err
	}
	if string(s.raw[:len(magic)]) != magic || h.Hash != "blake2b-256" {
		return errors.New("another format")
	}
	s.session, s.public, s.at, s.segStart = h.SessionID, h.PublicKey, n, n
	s.head(0, s.raw[:n])
	var err error
	if s.out, err = unwrap(h.OutputKey, ids); err != nil {
		return err
	}
	s.in, err = unwrap(h.InputKey, ids)
	return err
}

func unwrap(file []byte, ids []age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(file), ids...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func (s *stranger) head(segments int64, record []byte) {
	s.prev = blake2b.Sum256(record)
	s.heads = append(s.heads, recording.Head{Segments: segments, Bytes: int64(s.at), Hash: hex.EncodeToString(s.prev[:])})
}

func (s *stranger) records() error {
	for s.at < len(s.raw) {
		start := s.at
		s.at += 4 + int(binary.BigEndian.Uint32(s.raw[start:]))
		record := s.raw[start:s.at]
		if record[4] == 3 {
			if err := s.seal(start, record); err != nil {
				return err
			}
			continue
		}
		if err := s.open(record[4], record[5:]); err != nil {
			return fmt.Errorf("record at %d: %w", start, err)
		}
	}
	return nil
}

func (s *stranger) seal(start int, record []byte) (err error) {
	signed, signature := record[5:5+84], record[5+84:]
	if !ed25519.Verify(s.public, append([]byte("sega recording seal v1\x00"), signed...), signature) {
		return errors.New("signature")
	}
	content := s.raw[s.segStart:start]
	sum := blake2b.Sum256(content)
	want := binary.BigEndian.AppendUint64(nil, s.segment)
	want = binary.BigEndian.AppendUint32(want, s.counter)
	want = binary.BigEndian.AppendUint64(want, uint64(len(content)))
	want = append(append(want, sum[:]...), s.prev[:]...)
	if !bytes.Equal(want, signed) {
		return fmt.Errorf("seal of segment %d", s.segment)
	}
	s.head(int64(s.segment), record)
	s.segment, s.counter, s.segStart = s.segment+1, 0, s.at
	for _, key := range []*[]byte{&s.out, &s.in} {
		if *key, err = hkdf.Expand(sha256.New, *key, "sega recording ratchet v1", 32); err != nil {
			return err
		}
	}
	return nil
}

func (s *stranger) open(typ byte, body []byte) error {
	place := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, s.segment), s.counter)
	key := s.out
	if typ == 2 {
		key = s.in
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	plain, err := gcm.Open(nil, place, body, append(append([]byte{typ}, place...), s.session...))
	if err != nil {
		return err
	}
	s.counter++
	if typ == 4 {
		s.reason = string(plain[8:])
		return nil
	}
	names := []string{1: "in", 2: "out", 3: "err", 4: "event"}
	s.frames = append(s.frames, vectorFrame{
		Channel: binary.BigEndian.Uint32(plain), Stream: names[plain[4]],
		Nanos: int64(binary.BigEndian.Uint64(plain[5:])), Data: plain[13:],
	})
	return nil
}
