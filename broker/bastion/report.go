package bastion

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sega/audit"
	"sega/broker/api"
	"sega/keychain/atomicfile"
)

const (
	reportBatch   = 64
	reportWriters = 64 // that wait for the disk at once: it makes durable in one go what is asked of it together
	reportTimeout = 10 * time.Second
	reportFirst   = 200 * time.Millisecond
	reportMost    = 3 * time.Second
	quarantineDir = "quarantine"
)

func newEventID() string { return audit.NewID() }

// ErrNoSession is in errors of a Control that has no session of its own at the broker: they say nothing of what was asked.
var ErrNoSession = errors.New("no session at the broker")

// permanent reports whether the broker will never take what it has refused with err.
func permanent(err error) bool {
	if errors.Is(err, ErrNoSession) {
		return false
	}
	var p *api.Problem
	return errors.As(err, &p) && slices.Contains([]api.Kind{api.KindInvalid, api.KindNotFound, api.KindConflict, api.KindDenied}, p.Kind)
}

// queued is a report on its way.
type queued struct {
	report  api.Report
	path    string        // its file; empty where it could not be written
	written chan struct{} // closed when path stands; nil where that was before it was queued
	settled chan struct{} // closed when the broker has taken it, or refused it for good
	refused error         // stands when settled is closed
}

// reportQueue delivers reports that must not be lost: each is a file until the broker has taken it
// under its ID. A report that the broker refuses for good goes to quarantine and blocks no other.
//
// Without dir it holds at most most reports, in memory alone: those that may be lost.
type reportQueue struct {
	dir        string
	most       int
	quarantine string
	control    Control
	log        *slog.Logger
	replace    func(path string, data []byte, mode os.FileMode) error // atomicfile.Replace; tests make it hang

	mu      sync.Mutex
	queue   []*queued
	arrive  chan struct{} // of capacity 1
	writing sync.WaitGroup
}

// openReports loads what an earlier process has left in dir.
func openReports(dir, quarantine string, c Control, log *slog.Logger) (*reportQueue, error) {
	q := &reportQueue{dir: dir, quarantine: quarantine, control: c, log: log, replace: atomicfile.Replace, arrive: make(chan struct{}, 1)}
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		q.load(name)
	}
	slices.SortFunc(q.queue, func(a, b *queued) int { return cmp.Compare(a.report.ID, b.report.ID) })
	q.kick()
	return q, nil
}

// newReports returns a queue in memory.
func newReports(most int, c Control, log *slog.Logger) *reportQueue {
	return &reportQueue{most: most, control: c, log: log, arrive: make(chan struct{}, 1)}
}

func (q *reportQueue) load(path string) {
	raw, err := os.ReadFile(path)
	item := &queued{path: path, settled: make(chan struct{})}
	if err == nil {
		err = json.Unmarshal(raw, &item.report)
	}
	if err != nil || item.report.ID != strings.TrimSuffix(filepath.Base(path), ".json") {
		q.setAside(path, fmt.Errorf("not a report: %v", err))
		return
	}
	q.queue = append(q.queue, item)
}

// setAside moves a file to quarantine, for people to look at.
func (q *reportQueue) setAside(path string, why error) {
	q.log.Error("report set aside", "file", filepath.Base(path), "error", why)
	if err := os.Rename(path, filepath.Join(q.quarantine, filepath.Base(path))); err != nil {
		q.log.Error("report not moved to quarantine", "file", path, "error", err)
	}
}

// put makes a report durable and queues it. It is queued even where the disk fails: the broker may
// still take it. A queue in memory that is full returns nil.
func (q *reportQueue) put(r api.Report) *queued {
	item := &queued{report: r, settled: make(chan struct{})}
	if q.dir != "" {
		item.path = q.write(r)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dir == "" && len(q.queue) >= q.most {
		return nil
	}
	q.queue = append(q.queue, item)
	q.kick()
	return item
}

// putAll is put of many, in their order. It takes little longer than put of one.
func (q *reportQueue) putAll(reports []api.Report) {
	items := make([]*queued, len(reports))
	for i, r := range reports {
		items[i] = &queued{report: r, settled: make(chan struct{})}
	}
	q.writeAll(items)
	q.enqueue(items)
}

// post is putAll that waits for no disk: they have their place in the queue when it returns, and are durable some time
// later. It is for what must not wait, and may be lost with the machine where the disk hangs.
func (q *reportQueue) post(reports []api.Report) {
	if len(reports) == 0 {
		return
	}
	items := make([]*queued, len(reports))
	written := make(chan struct{})
	for i, r := range reports {
		items[i] = &queued{report: r, settled: make(chan struct{}), written: written}
	}
	q.enqueue(items)
	q.writing.Go(func() {
		defer close(written)
		q.writeAll(items)
	})
}

func (q *reportQueue) enqueue(items []*queued) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, items...)
	q.kick()
}

func (q *reportQueue) writeAll(items []*queued) {
	var writing errgroup.Group
	writing.SetLimit(reportWriters)
	for _, item := range items {
		writing.Go(func() error { item.path = q.write(item.report); return nil })
	}
	_ = writing.Wait()
}

// write returns the file of a report that is durable now, or "".
func (q *reportQueue) write(r api.Report) string {
	path := filepath.Join(q.dir, r.ID+".json")
	raw, err := json.Marshal(r)
	if err == nil {
		err = q.replace(path, raw, 0o600)
	}
	if err != nil {
		q.log.Error("report not durable", "kind", r.Kind, "session", r.SessionID, "error", err)
		return ""
	}
	return path
}

// find returns the waiting report of that ID, or nil.
func (q *reportQueue) find(id string) *queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, item := range q.queue {
		if item.report.ID == id {
			return item
		}
	}
	return nil
}

func (q *reportQueue) kick() {
	select {
	case q.arrive <- struct{}{}:
	default:
	}
}

// run delivers until ctx ends. What is left then waits on disk.
func (q *reportQueue) run(ctx context.Context) error {
	wait := reportFirst
	for {
		for {
			sent, err := q.flush(ctx)
			if sent {
				wait = reportFirst
			}
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(wait):
			}
			wait = min(2*wait, reportMost)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-q.arrive:
		}
	}
}

// flush delivers everything that waits, or returns why it cannot.
func (q *reportQueue) flush(ctx context.Context) (sent bool, err error) {
	for {
		batch := q.batch()
		if len(batch) == 0 {
			return sent, nil
		}
		if err := q.send(ctx, batch); err != nil {
			return sent, err
		}
		sent = true
	}
}

func (q *reportQueue) batch() []*queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.queue[:min(len(q.queue), reportBatch)])
}

// send delivers a batch. If one of it is refused for good, each goes alone, so that only that one
// is set aside.
func (q *reportQueue) send(ctx context.Context, batch []*queued) error {
	reports := make([]api.Report, len(batch))
	for i, item := range batch {
		reports[i] = item.report
	}
	call, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	err := q.control.Report(call, reports)
	switch {
	case err == nil:
		q.settle(batch, nil)
		return nil
	case permanent(err) && len(batch) == 1:
		q.settle(batch, err)
		return nil
	case permanent(err):
		for i := range batch {
			if err := q.send(ctx, batch[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	return err
}

// settle takes items off the queue, and their files off the disk or into quarantine.
func (q *reportQueue) settle(batch []*queued, refused error) {
	for _, item := range batch {
		if item.written != nil {
			<-item.written // else its file would come after it was taken off
		}
		switch {
		case item.path == "" && refused != nil:
			q.log.Warn("report refused", "kind", item.report.Kind, "reason", item.report.Reason, "error", refused)
		case item.path == "":
		case refused != nil:
			q.setAside(item.path, refused)
		default:
			if err := os.Remove(item.path); err != nil {
				q.log.Warn("delivered report not removed: it will be repeated", "file", item.path, "error", err)
			}
		}
		item.refused = refused
		close(item.settled)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = slices.DeleteFunc(q.queue, func(item *queued) bool { return slices.Contains(batch, item) })
}
