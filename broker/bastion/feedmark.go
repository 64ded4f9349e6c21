package bastion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"sega/broker/api"
	"sega/keychain/atomicfile"
)

// feedMark is how far the feed has been handled, and the last checkpoint that the witness accepted.
type feedMark struct {
	Index      int64  `json:"index"`
	Checkpoint []byte `json:"checkpoint,omitempty"`
}

const fromStart = -1 // the mark before the first event of the log

// feedStore keeps a feedMark in a file. A mark that is lost costs a replay, nothing else: what the
// witness has accepted is kept by the witness itself.
type feedStore struct{ path string }

// errNoMark means that the file holds no mark: the feed is replayed from its start.
var errNoMark = errors.New("the position in the feed is unknown")

func (s feedStore) load() (feedMark, error) {
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return feedMark{Index: fromStart}, nil
	}
	if err != nil {
		return feedMark{}, fmt.Errorf("feed position: %w", err)
	}
	m := feedMark{Index: fromStart - 1}
	if err := json.Unmarshal(raw, &m); err != nil || m.Index < fromStart {
		return feedMark{Index: fromStart}, fmt.Errorf("%w: %s (%d bytes) cannot be read", errNoMark, s.path, len(raw))
	}
	return m, nil
}

func (s feedStore) save(m feedMark) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return atomicfile.Replace(s.path, raw, 0o600)
}

// keepMark saves the mark while it moves, and once more at the end.
func (f *feed) keepMark(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			f.saveMark()
			return nil
		case <-f.moved:
			f.saveMark()
		}
	}
}

func (f *feed) saveMark() {
	f.saving.Lock()
	defer f.saving.Unlock()
	f.mu.Lock()
	mark := f.mark
	f.mu.Unlock()
	if err := f.store.save(mark); err != nil {
		f.log.Error("feed position not saved: revocations will be repeated after a restart", "error", err)
	}
}

// ackQueue sends acknowledgements in order, and repeats what the broker did not take.
type ackQueue struct {
	control Control
	log     *slog.Logger

	mu     sync.Mutex
	queue  []api.Ack
	arrive chan struct{} // of capacity 1
}

const (
	ackTimeout = 5 * time.Second
	ackRetry   = 500 * time.Millisecond
)

func newAckQueue(c Control, log *slog.Logger) *ackQueue {
	return &ackQueue{control: c, log: log, arrive: make(chan struct{}, 1)}
}

func (q *ackQueue) put(a api.Ack) {
	q.mu.Lock()
	q.queue = append(q.queue, a)
	q.mu.Unlock()
	select {
	case q.arrive <- struct{}{}:
	default:
	}
}

func (q *ackQueue) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-q.arrive:
		}
		for a, ok := q.first(); ok && ctx.Err() == nil; a, ok = q.first() {
			q.send(ctx, a)
		}
	}
}

func (q *ackQueue) first() (api.Ack, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		return api.Ack{}, false
	}
	return q.queue[0], true
}

func (q *ackQueue) send(ctx context.Context, a api.Ack) {
	call, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	err := q.control.Ack(call, a)
	if err == nil || permanent(err) {
		q.mu.Lock()
		q.queue = q.queue[1:]
		q.mu.Unlock()
	}
	if err == nil {
		return
	}
	q.log.Warn("acknowledgement not taken", "index", a.Index, "error", err)
	select {
	case <-ctx.Done():
	case <-time.After(ackRetry):
	}
}
