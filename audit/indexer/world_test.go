package indexer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"sega/audit/recording"
	"sega/broker/api"
)

// session is a recorded session, and what the log says of it.
type session struct {
	api.IndexSession
	raw []byte
}

type spool struct{ bytes.Buffer }

func (*spool) Sync() error { return nil }

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func marshal(t testing.TB, v any) json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// recorded makes a session that printed a text, for a reviewer: without a terminal, unless there are
// sequences for one in it. Of an interrupted one the bastion died.
func recorded(t testing.TB, index int64, id, text string, reviewer age.Recipient, interrupted bool) session {
	t.Helper()
	f := &spool{}
	at := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	w, err := recording.New(f, recording.Config{SessionID: id, Recipients: []age.Recipient{reviewer, identity(t).Recipient()}, Now: func() time.Time {
		at = at.Add(time.Millisecond)
		return at
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := session{IndexSession: api.IndexSession{Index: index, SessionID: id, Start: marshal(t, map[string]any{"host": "web-1", "recording": w.Announce()})}}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(text, "\x1b[") {
		check(w.WriteEvent(0, recording.Event{Type: recording.EventPty, Cols: 200, Rows: 1000}))
	}
	check(w.WriteEvent(0, recording.Event{Type: recording.EventExec, Command: "x"}))
	check(w.Write(0, recording.StreamIn, []byte("typed secret\n")))
	for data := []byte(text); len(data) > 0; {
		n := min(len(data), recording.MaxData)
		check(w.Write(0, recording.StreamOut, data[:n]))
		data = data[n:]
	}
	check(w.Seal())
	s.Heads = []json.RawMessage{marshal(t, map[string]any{"id": id, "segments": w.Head().Segments, "bytes": w.Head().Bytes, "hash": w.Head().Hash})}
	end := recording.End{Head: w.Head(), Verdict: recording.StatusInterrupted}
	if !interrupted {
		head, err := w.Close("closed by the person")
		check(err)
		end = recording.Complete(head)
	}
	s.End, s.raw = marshal(t, map[string]any{"recording": end}), f.Bytes()
	return s
}

// fakeBroker has a log of sessions that grows.
type fakeBroker struct {
	mu       sync.Mutex
	sessions []session
	refuse   map[string]error // by session, of Recording
	down     error            // of every call
	fetched  map[string]int
	searches chan api.IndexSearch
	hits     chan api.IndexHits
}

func newBroker(sessions ...session) *fakeBroker {
	return &fakeBroker{sessions: sessions, refuse: map[string]error{}, fetched: map[string]int{}, searches: make(chan api.IndexSearch), hits: make(chan api.IndexHits, 100)}
}

func (b *fakeBroker) with(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *fakeBroker) times(id string) (n int) {
	b.with(func() { n = b.fetched[id] })
	return n
}

func (b *fakeBroker) Sessions(_ context.Context, after int64) iter.Seq2[api.IndexSession, error] {
	return func(yield func(api.IndexSession, error) bool) {
		var page []api.IndexSession
		var down error
		b.with(func() {
			down = b.down
			for _, s := range b.sessions {
				if s.Index > after && len(page) < 2 {
					page = append(page, s.IndexSession)
				}
			}
		})
		for _, s := range page {
			if down == nil && !yield(s, nil) {
				return
			}
		}
		if down != nil {
			yield(api.IndexSession{}, down)
		}
	}
}

// broken fails after some bytes, as a connection does.
type broken struct{ io.Reader }

func (r broken) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *fakeBroker) Recording(_ context.Context, id string) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fetched[id]++
	if b.down != nil {
		return nil, b.down
	}
	for _, s := range b.sessions {
		switch err := b.refuse[id]; {
		case s.SessionID != id:
		case err == io.ErrUnexpectedEOF:
			return io.NopCloser(broken{bytes.NewReader(s.raw[:len(s.raw)/2])}), nil
		case err != nil:
			return nil, err
		default:
			return io.NopCloser(bytes.NewReader(s.raw)), nil
		}
	}
	return nil, api.Errorf(api.KindNotFound, "there is no recording of %q", id)
}

func (b *fakeBroker) Searches(ctx context.Context, handle func(api.IndexSearch) error) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case q := <-b.searches:
			if err := handle(q); err != nil {
				return err
			}
		}
	}
}

func (b *fakeBroker) Hits(_ context.Context, hits api.IndexHits) error {
	b.hits <- hits
	return nil
}

// clock is the wall clock of a test.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// world is an indexer's folder, and the broker that it asks.
type world struct {
	t        testing.TB
	dir      string
	broker   *fakeBroker
	clock    *clock
	reviewer *age.X25519Identity
	index    *Index
	logs     *bytes.Buffer
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), broker: newBroker(), clock: &clock{t: time.Date(2030, 1, 2, 13, 0, 0, 0, time.UTC)}, reviewer: identity(t), logs: &bytes.Buffer{}}
	w.open()
	t.Cleanup(func() { _ = w.index.Close() })
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.index, err = OpenIndex(w.t.Context(), filepath.Join(w.dir, "index.db")); err != nil {
		w.t.Fatal(err)
	}
}

// add lets a session end, and returns its place among the broker's.
func (w *world) add(id, text string) int {
	w.t.Helper()
	n := len(w.broker.sessions)
	s := recorded(w.t, int64(10*(n+1)), id, text, w.reviewer.Recipient(), false)
	w.broker.with(func() { w.broker.sessions = append(w.broker.sessions, s) })
	return n
}

func (w *world) indexer(identities ...age.Identity) *Indexer {
	w.t.Helper()
	if len(identities) == 0 {
		identities = []age.Identity{w.reviewer}
	}
	x, err := New(w.t.Context(), Config{Broker: w.broker, Index: w.index, Identities: identities, Spool: filepath.Join(w.dir, "spool"), Poll: 10 * time.Millisecond,
		Now: w.clock.now, Log: slog.New(slog.NewTextHandler(w.logs, nil))})
	if err != nil {
		w.t.Fatal(err)
	}
	return x
}

// look indexes what there is.
func (w *world) look() error { return w.indexer().look(w.t.Context()) }

func (w *world) found(text string) []string {
	w.t.Helper()
	ids, more, err := w.index.Search(w.t.Context(), text, 100)
	if err != nil || more {
		w.t.Fatalf("search %q: more %v, %v", text, more, err)
	}
	return ids
}

// missing are the sessions without text: "id state verdict tries".
func (w *world) missing() []string {
	w.t.Helper()
	list, err := w.index.Missing(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	out := []string{}
	for _, e := range list {
		out = append(out, fmt.Sprintf("%s %s %s %d", e.ID, e.State, e.Verdict, e.Tries))
	}
	return out
}

func (w *world) mark() int64 {
	w.t.Helper()
	upTo, err := w.index.Mark(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return upTo
}
