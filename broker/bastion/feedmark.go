package bastion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sega/broker/api"
)

// feedMark is how far the feed has been handled, and the last checkpoint that the witness accepted.
type feedMark struct {
	Index      int64  `json:"index"`
	Checkpoint []byte `json:"checkpoint,omitempty"`
}

// feedStore keeps a feedMark in a file. A mark that is lost costs a replay, nothing else.
type feedStore struct{ path string }

func (s feedStore) load() (feedMark, error) {
	var m feedMark
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("feed position: %w", err)
	}
	if err := json.Unmarshal(raw, &m); err != nil || m.Index < 0 {
		return feedMark{}, fmt.Errorf("feed position %s cannot be read; remove the file to replay the feed from its start", s.path)
	}
	return m, nil
}

func (s feedStore) save(m feedMark) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return writeAtomically(s.path, raw, false)
}

// writeAtomically replaces a file by rename, mode 0600. With durable set it returns when file and
// name are on disk.
func writeAtomically(path string, data []byte, durable bool) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil || !durable {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
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
