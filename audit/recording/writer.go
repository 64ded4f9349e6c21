package recording

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	segmentBytes = 1 << 20 // a segment is sealed when it has grown to this
	batchBytes   = 1 << 20 // more than this goes to the spool in several calls
	keepBytes    = 4 << 10 // in a segment of so few bytes a larger buffer is given back
	sealInterval = time.Second
)

// ErrClosed is what a Writer returns after Close.
var ErrClosed = errors.New("recording: is closed")

// Writer writes one recording. Its methods may be called concurrently.
type Writer struct {
	f        File
	now      func() time.Time
	header   Header
	announce Announcement

	syncing sync.Mutex // held from a seal to the end of its fsync; taken before mu

	mu      sync.Mutex
	err     error               // sticky
	key     *ed25519.PrivateKey // behind a pointer, so that printing a Writer shows none of it
	out, in *ratchet
	segment uint64
	records uint32
	bytes   uint64 // of the open segment on the spool
	hash    hash.Hash
	last    time.Duration
	buf     []byte
	nonce   [12]byte
	aad     []byte
	omitted bool                 // bytes of a stream were left out
	sealed  mark                 // after the last seal
	synced  mark                 // what has reached the disk
	shown   atomic.Pointer[mark] // synced, for who does not wait for a write
}

// mark is a Head in the form that the Writer works with.
type mark struct {
	segments uint64
	bytes    uint64
	hash     [32]byte
}

func (m mark) head() Head {
	return Head{Segments: int64(m.segments), Bytes: int64(m.bytes), Hash: hexDigest(m.hash)}
}

// New writes and syncs the header of a new recording to f, which must be empty. It returns an
// error for fewer than two distinct recipients.
func New(f File, cfg Config) (*Writer, error) {
	if cfg.SessionID == "" {
		return nil, errors.New("recording: no session ID")
	}
	w := &Writer{f: f, now: cfg.Now, segment: 1}
	if w.now == nil {
		w.now = time.Now
	}
	if err := w.prepare(cfg); err != nil {
		w.wipe()
		return nil, err
	}
	if err := w.begin(); err != nil {
		w.wipe()
		return nil, err
	}
	return w, nil
}

// prepare makes keys and header.
func (w *Writer) prepare(cfg Config) (err error) {
	w.header = Header{V: 1, SessionID: cfg.SessionID, Started: w.now().UTC(), Hash: cmp.Or(cfg.Hash, BLAKE2b)}
	if w.hash, err = w.header.Hash.new(); err != nil {
		return err
	}
	if err := w.makeRatchets(cfg); err != nil {
		return err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("recording: session key: %w", err)
	}
	w.key, w.header.PublicKey = &private, public
	w.aad = append(make([]byte, 1+8+4), cfg.SessionID...)
	return nil
}

func (w *Writer) makeRatchets(cfg Config) (err error) {
	if cfg.InputRecipients == nil {
		cfg.InputRecipients, cfg.InputRecipientNames = cfg.Recipients, cfg.RecipientNames
	}
	h := &w.header
	if h.Recipients, err = checkRecipients("recipients", cfg.Recipients, cfg.RecipientNames); err != nil {
		return err
	}
	if h.InputRecipients, err = checkRecipients("input recipients", cfg.InputRecipients, cfg.InputRecipientNames); err != nil {
		return err
	}
	if w.out, err = randomRatchet(); err != nil {
		return err
	}
	if w.in, err = randomRatchet(); err != nil {
		return err
	}
	if h.OutputKey, err = wrapKey(w.out.key[:], cfg.Recipients); err != nil {
		return err
	}
	h.InputKey, err = wrapKey(w.in.key[:], cfg.InputRecipients)
	return err
}

// begin writes the header.
func (w *Writer) begin() error {
	raw, err := w.header.encode()
	if err != nil {
		return err
	}
	w.sealed = mark{bytes: uint64(len(raw)), hash: w.header.Hash.sum(raw)}
	w.announce = Announcement{
		PublicKey:    w.header.PublicKey,
		HeaderDigest: hexDigest(w.sealed.hash),
		Recipients:   w.header.Recipients,
	}
	if err := writeAll(w.f, raw); err != nil {
		return fmt.Errorf("recording: write header: %w", err)
	}
	if err := w.f.Sync(); err != nil {
		return fmt.Errorf("recording: sync header: %w", err)
	}
	w.synced = w.sealed
	head := w.sealed
	w.shown.Store(&head)
	return nil
}

// Format implements fmt.Formatter for every verb and shows no key: fmt's complaint about a wrong
// verb would print what the fields point to.
func (w *Writer) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "recording of %s", w.header.SessionID) }

// Announce returns what must be in the log before the first frame is forwarded.
func (w *Writer) Announce() Announcement { return w.announce }

// Head returns the last seal that has reached the disk: what to witness in the log, and how far
// the spool may be copied. It does not wait for a write that is under way.
func (w *Writer) Head() Head { return w.shown.Load().head() }

// Write records data of a stream: encrypted and written to the spool before it returns, by one
// call of the spool's Write up to 1 MiB. After any error the caller must end the session; after a
// failed write every later call returns the same error.
func (w *Writer) Write(channel uint32, s Stream, data []byte) error {
	if s < StreamIn || s > StreamErr {
		return fmt.Errorf("recording: %s takes no bytes", s)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(data) > 0 && w.err == nil {
		n := min(len(data), MaxData)
		w.appendFrame(channel, s, data[:n])
		data = data[n:]
		if len(w.buf) > batchBytes {
			w.flush()
		}
	}
	w.flush()
	return w.err
}

// Omit records that n bytes of a stream went by which are left out, under the same contract as Write. A
// recording with such a record is never complete.
func (w *Writer) Omit(channel uint32, s Stream, n int) error {
	if s < StreamIn || s > StreamErr {
		return fmt.Errorf("recording: %s takes no bytes", s)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && n > 0 {
		w.omitted = true
		w.appendRecord(typeOmit, channel, s, binary.BigEndian.AppendUint64(nil, uint64(n)))
		w.flush()
	}
	return w.err
}

// End returns what to report of a recording that Close has closed at head.
func (w *Writer) End(head Head) End {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.omitted {
		return End{Head: head, Verdict: StatusOmitted}
	}
	return Complete(head)
}

// WriteEvent records an event under the same contract as Write.
func (w *Writer) WriteEvent(channel uint32, e Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("recording: event: %w", err)
	}
	if len(data) > MaxEvent {
		return fmt.Errorf("recording: %s event has %d bytes, at most %d may be recorded", e.Type, len(data), MaxEvent)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.appendFrame(channel, StreamEvent, data)
	w.flush()
	return w.err
}

// Seal closes the open segment, if it has frames, and syncs the spool. The sync does not hold up
// concurrent writes.
func (w *Writer) Seal() error {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.mu.Lock()
	calm := w.bytes <= keepBytes
	if w.err == nil && w.records > 0 {
		w.appendSeal()
		w.flush()
	}
	if calm && cap(w.buf) > keepBytes {
		w.buf = nil
	}
	sealed, err, clean := w.sealed, w.err, w.sealed == w.synced
	w.mu.Unlock()
	if err != nil || clean {
		return err
	}
	return w.sync(sealed)
}

// sync makes everything up to m durable. The caller holds syncing, not mu.
func (w *Writer) sync(m mark) error {
	err := w.f.Sync()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.fail(fmt.Errorf("recording: sync: %w", err))
		return w.err
	}
	w.synced = m
	w.shown.Store(&m)
	return nil
}

// Run seals each second until ctx ends, and then returns nil; or earlier the Writer's error, upon
// which the session must end.
func (w *Writer) Run(ctx context.Context) error {
	tick := time.NewTicker(sealInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := w.Seal(); err != nil {
				return err
			}
		}
	}
}

// Close ends the recording with a reason, syncs it and forgets its keys. After a failure the spool
// is not complete: Recover says how much of it is good.
func (w *Writer) Close(reason string) (Head, error) {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.mu.Lock()
	if w.err == nil {
		w.appendEnd(reason)
		w.appendSeal()
		w.flush()
	}
	sealed, err := w.sealed, w.err
	w.mu.Unlock()
	if err == nil {
		err = w.sync(sealed)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail(ErrClosed)
	return w.synced.head(), err
}

// fail makes err sticky, unless there is one, and forgets the keys.
func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
	w.wipe()
}

func (w *Writer) wipe() {
	if w.key != nil {
		clear(*w.key)
	}
	for _, r := range []*ratchet{w.out, w.in} {
		if r != nil {
			r.wipe()
		}
	}
}
