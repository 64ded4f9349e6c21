package recording

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	magic       = "sega-recording/1\n"
	sealContext = "sega recording seal v1\x00"

	prefixLen  = 5 // length and type of a record
	tagLen     = 16
	frameLen   = 13 // channel, stream and offset of a frame
	omittedLen = 8  // of the number of bytes that were left out
	signedLen  = 8 + 4 + 8 + 32 + 32
	sealLen    = signedLen + ed25519.SignatureSize

	// MaxData is the most bytes that a frame of a stream carries; more is split. Events are one
	// frame each, up to MaxEvent.
	MaxData = 32 << 10
	// MaxEvent is the most bytes that an event's JSON may have.
	MaxEvent = maxRecord - prefixLen - frameLen - tagLen

	maxRecord = 1 << 20
	maxHeader = 1 << 20
)

// Types of records.
const (
	typeOutput byte = 1
	typeInput  byte = 2
	typeSeal   byte = 3
	typeEnd    byte = 4
	typeOmit   byte = 5
)

// Stream says what the bytes of a frame are.
type Stream byte

// Streams of a channel.
const (
	StreamIn    Stream = 1 // person → host
	StreamOut   Stream = 2 // host's output
	StreamErr   Stream = 3 // host's standard error
	StreamEvent Stream = 4 // JSON of an Event
)

// String returns the stream's name: "in", "out", "err" or "event".
func (s Stream) String() string {
	names := [...]string{StreamIn: "in", StreamOut: "out", StreamErr: "err", StreamEvent: "event"}
	if s < StreamIn || int(s) >= len(names) {
		return fmt.Sprintf("stream(%d)", byte(s))
	}
	return names[s]
}

// recordType returns the type of record that carries frames of s.
func (s Stream) recordType() byte {
	if s == StreamIn {
		return typeInput
	}
	return typeOutput
}

// Frame is a piece of a session: bytes of one stream of one channel, at an offset from the start. Where
// bytes were left out it has no data, and Omitted is their number.
type Frame struct {
	Channel uint32
	Stream  Stream
	Offset  time.Duration
	Data    []byte
	Omitted uint64
}

// Event decodes the event of a frame of StreamEvent.
func (f Frame) Event() (Event, error) {
	if f.Stream != StreamEvent {
		return Event{}, fmt.Errorf("recording: a frame of stream %s holds no event", f.Stream)
	}
	var e Event
	if err := json.Unmarshal(f.Data, &e); err != nil {
		return Event{}, fmt.Errorf("recording: event: %w", err)
	}
	return e, nil
}

// parseFrame takes a plaintext of a record of type typ apart. Data aliases plain.
func parseFrame(typ byte, plain []byte) (Frame, error) {
	if len(plain) < frameLen {
		return Frame{}, errors.New("frame is too short")
	}
	f := Frame{
		Channel: binary.BigEndian.Uint32(plain),
		Stream:  Stream(plain[4]),
		Offset:  time.Duration(binary.BigEndian.Uint64(plain[5:])),
		Data:    plain[frameLen:],
	}
	if f.Stream < StreamIn || f.Stream > StreamEvent || f.Stream.recordType() != typ && (typ != typeOmit || f.Stream == StreamEvent) {
		return Frame{}, fmt.Errorf("%s in a record of type %d", f.Stream, typ)
	}
	if typ == typeOmit {
		if len(f.Data) != omittedLen {
			return Frame{}, fmt.Errorf("what is left out is told in %d bytes", len(f.Data))
		}
		f.Omitted, f.Data = binary.BigEndian.Uint64(f.Data), nil
	}
	if f.Offset < 0 {
		return Frame{}, errors.New("frame's offset is out of range")
	}
	return f, nil
}

// Head is the state of a recording's chain after a seal.
type Head struct {
	Segments int64  `json:"segments"` // sealed so far
	Bytes    int64  `json:"bytes"`    // of the spool, up to and including the seal
	Hash     string `json:"hash"`     // hex hash of the seal record, or of the header before the first
}

// Header stands at the beginning of a recording, in the clear.
type Header struct {
	V               int       `json:"v"` // 1
	SessionID       string    `json:"session_id"`
	Started         time.Time `json:"started"`
	Hash            Hash      `json:"hash"`       // chains the recording
	PublicKey       []byte    `json:"public_key"` // Ed25519, of this recording alone
	OutputKey       []byte    `json:"output_key"` // age file of 32 bytes
	InputKey        []byte    `json:"input_key"`  // age file of 32 bytes
	Recipients      []string  `json:"recipients"`
	InputRecipients []string  `json:"input_recipients"`
}

// encode returns the header's bytes on the spool.
func (h Header) encode() ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("recording: header: %w", err)
	}
	if len(body) > maxHeader {
		return nil, fmt.Errorf("recording: header has %d bytes, at most %d may be: configure fewer recipients", len(body), maxHeader)
	}
	out := append([]byte(magic), 0, 0, 0, 0)
	binary.BigEndian.PutUint32(out[len(magic):], uint32(len(body)))
	return append(out, body...), nil
}

var errNoRecording = errors.New("not a recording of version 1")

// readHeader reads a header and returns its raw bytes too. An input that ends too early is
// io.ErrUnexpectedEOF; any other error of r comes wrapped; what is no header is errNoRecording, wrapped.
func readHeader(r io.Reader) (Header, []byte, error) {
	prefix := make([]byte, len(magic)+4)
	if n, err := io.ReadFull(r, prefix); err != nil {
		if m := min(n, len(magic)); string(prefix[:m]) != magic[:m] {
			return Header{}, prefix[:n], errNoRecording
		}
		return Header{}, prefix[:n], unexpected(err)
	}
	if string(prefix[:len(magic)]) != magic {
		return Header{}, prefix, errNoRecording
	}
	size := binary.BigEndian.Uint32(prefix[len(magic):])
	if size > maxHeader {
		return Header{}, prefix, fmt.Errorf("%w: header of %d bytes", errNoRecording, size)
	}
	raw := bytes.NewBuffer(prefix)
	if _, err := io.CopyN(raw, r, int64(size)); err != nil {
		return Header{}, raw.Bytes(), unexpected(err)
	}
	h, err := parseHeader(raw.Bytes()[len(magic)+4:])
	return h, raw.Bytes(), err
}

func parseHeader(body []byte) (Header, error) {
	var h Header
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return Header{}, fmt.Errorf("%w: header: %w", errNoRecording, err)
	}
	if d.More() || h.V != 1 || h.SessionID == "" || len(h.PublicKey) != ed25519.PublicKeySize {
		return Header{}, fmt.Errorf("%w: header lacks what version 1 requires", errNoRecording)
	}
	if _, err := h.Hash.new(); err != nil {
		return Header{}, fmt.Errorf("%w: %w", errNoRecording, err)
	}
	return h, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// seal is the content of a seal record.
type seal struct {
	segment uint64
	records uint32
	bytes   uint64
	hash    [32]byte
	prev    [32]byte
}

// appendSigned appends the part that the signature covers.
func (s seal) appendSigned(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, s.segment)
	b = binary.BigEndian.AppendUint32(b, s.records)
	b = binary.BigEndian.AppendUint64(b, s.bytes)
	b = append(b, s.hash[:]...)
	return append(b, s.prev[:]...)
}

// appendRecord appends the whole record, signed by key.
func (s seal) appendRecord(b []byte, key ed25519.PrivateKey) []byte {
	b = appendPrefix(b, typeSeal, sealLen)
	b = s.appendSigned(b)
	sig := ed25519.Sign(key, s.appendSigned([]byte(sealContext)))
	return append(b, sig...)
}

// parseSeal takes a seal's body of sealLen bytes apart and checks its signature.
func parseSeal(body []byte, key ed25519.PublicKey) (seal, bool) {
	s := seal{
		segment: binary.BigEndian.Uint64(body),
		records: binary.BigEndian.Uint32(body[8:]),
		bytes:   binary.BigEndian.Uint64(body[12:]),
		hash:    [32]byte(body[20:52]),
		prev:    [32]byte(body[52:84]),
	}
	msg := append([]byte(sealContext), body[:signedLen]...)
	return s, ed25519.Verify(key, msg, body[signedLen:])
}

func appendPrefix(b []byte, typ byte, bodyLen int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(bodyLen+1))
	return append(b, typ)
}
