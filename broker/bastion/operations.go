package bastion

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"sega/audit"
	"sega/broker/api"
)

const (
	operationsSuffix  = ".ops"
	maxOperations     = 1024    // of a session, that have ended and wait for the broker
	maxOperationBytes = 4 << 20 // of their details
	batchDetails      = 128 << 10
	keepOperations    = 64 << 10 // a longer journal is written anew without what the broker has
	maxReportLine     = 1 << 20
	lastOperations    = 2 * time.Second // for what is left when a session ends, before it waits as reports
)

// operations reports what a session does to files, each operation once. What has begun and what has
// ended stands in a journal beside the spool before put returns, as frames stand in the spool: handed
// to the operating system, so that a bastion that is killed loses none. The broker takes them in
// batches behind that, so that no operation waits for a round trip; while too many wait for the broker
// nothing goes on.
type operations struct {
	b  *Bastion
	id string // of the session

	mu      sync.Mutex
	room    *sync.Cond
	file    SpoolFile
	size    int                   // of the journal
	least   int                   // size when it was last written anew
	begun   map[string]api.Report // by ID
	ended   []api.Report          // and not with the broker
	bytes   int                   // of their details
	arrived chan struct{}         // of capacity 1
	over    bool                  // the session has ended: nobody waits
	err     error                 // sticky
}

func newOperations(b *Bastion, id string) *operations {
	o := &operations{b: b, id: id, begun: map[string]api.Report{}, arrived: make(chan struct{}, 1)}
	o.room = sync.NewCond(&o.mu)
	return o
}

// onFiles returns where the session reports what it does to files.
func (s *session) onFiles() *operations {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.operations == nil {
		o := newOperations(s.b, s.hop.SessionID)
		s.operations = o
		s.wg.Go(func() { o.run(s.ctx) })
	}
	return s.operations
}

// put takes reports of what begins, whose outcome is unknown and comes under the same ID, and of what
// has ended. It waits for the broker where too many have not reached it.
func (o *operations) put(reports []api.Report) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var lines bytes.Buffer
	for _, r := range reports {
		if err := o.take(&lines, r); err != nil {
			return err
		}
	}
	if err := o.append(lines.Bytes()); err != nil {
		return err
	}
	select {
	case o.arrived <- struct{}{}:
	default:
	}
	for !o.over && o.err == nil && (len(o.ended) > maxOperations || o.bytes > maxOperationBytes) {
		o.room.Wait()
	}
	return o.err
}

func (o *operations) take(lines *bytes.Buffer, r api.Report) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("operations: %w", err)
	}
	lines.Write(append(line, '\n'))
	if _, twice := o.begun[r.ID]; !twice && r.Outcome == string(audit.Unknown) && r.Reason == begunReason {
		o.begun[r.ID] = r
		return nil
	}
	delete(o.begun, r.ID)
	o.ended, o.bytes = append(o.ended, r), o.bytes+len(r.Details)
	return nil
}

// append writes lines to the journal, which begins with the first of them.
func (o *operations) append(lines []byte) error {
	if o.err == nil && o.file == nil {
		o.file, o.err = o.b.spool.journal(o.id)
	}
	if o.err == nil {
		var n int
		if n, o.err = o.file.Write(lines); o.err == nil && n < len(lines) {
			o.err = io.ErrShortWrite
		}
		o.size += n
	}
	if o.err != nil {
		o.room.Broadcast()
		return fmt.Errorf("operations: %w", o.err)
	}
	return nil
}

// run delivers until the session ends.
func (o *operations) run(ctx context.Context) {
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.over = true
		o.room.Broadcast()
	}()
	wait := reportFirst
	for {
		err := o.flush(ctx)
		if err == nil {
			wait = reportFirst
			select {
			case <-ctx.Done():
				return
			case <-o.arrived:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, reportMost)
	}
}

// flush delivers what has ended, batch by batch. What the broker refuses for good goes the way of all
// reports, into quarantine at last.
func (o *operations) flush(ctx context.Context) error {
	for {
		batch := o.batch()
		if len(batch) == 0 {
			return nil
		}
		call, cancel := context.WithTimeout(ctx, reportTimeout)
		err := o.b.cfg.Control.Report(call, batch)
		cancel()
		switch {
		case permanent(err):
			o.b.reports.putAll(batch)
		case err != nil:
			return err
		}
		if err := o.delivered(len(batch)); err != nil {
			return err
		}
	}
}

// batch returns what goes in one request, whose size the broker limits.
func (o *operations) batch() []api.Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, bytes := 0, 0
	for n < min(len(o.ended), reportBatch) && (n == 0 || bytes+len(o.ended[n].Details) <= batchDetails) {
		bytes += len(o.ended[n].Details)
		n++
	}
	return o.ended[:n:n]
}

// delivered forgets the first n, and writes a journal anew that has grown long.
func (o *operations) delivered(n int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.ended[:n] {
		o.bytes -= len(r.Details)
	}
	o.ended = append([]api.Report(nil), o.ended[n:]...)
	o.room.Broadcast()
	if o.err == nil && o.size > keepOperations+2*o.least {
		o.err = o.rewrite()
	}
	return o.err
}

// rewrite leaves in the journal what the broker does not have.
func (o *operations) rewrite() error {
	var lines bytes.Buffer
	for _, r := range o.begun {
		lines.Write(append(details(r), '\n'))
	}
	for _, r := range o.ended {
		lines.Write(append(details(r), '\n'))
	}
	f, err := o.b.spool.newJournal(o.id, lines.Bytes())
	if err != nil {
		return err
	}
	_ = o.file.Close()
	o.file, o.size, o.least = f, lines.Len(), lines.Len()
	return nil
}

// settleFiles leaves nothing of the session's operations behind but in the queue of reports.
func (s *session) settleFiles() {
	s.mu.Lock()
	o := s.operations
	s.mu.Unlock()
	if o != nil {
		o.close()
	}
}

// close leaves everything to the durable queue of reports, in front of the session's end, and drops the
// journal. Nothing is put any more.
func (o *operations) close() {
	ctx, cancel := context.WithTimeout(context.Background(), lastOperations)
	defer cancel()
	if err := o.flush(ctx); err != nil {
		o.b.cfg.Log.Warn("operations on files wait as reports", "session", o.id, "error", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.reports.putAll(slices.AppendSeq(o.ended, maps.Values(o.begun))) // of what has begun no end was ever put
	o.ended = nil
	if o.file == nil {
		return
	}
	if err := errors.Join(o.file.Close(), o.b.spool.removeJournal(o.id)); err != nil {
		o.b.cfg.Log.Warn("journal of operations not removed: they will be repeated", "session", o.id, "error", err)
	}
}

// journal makes the journal of a session.
func (s *spool) journal(id string) (SpoolFile, error) {
	f, err := s.root.OpenFile(id+operationsSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if s.wrap != nil {
		return s.wrap(f), nil
	}
	return f, nil
}

// newJournal replaces the journal of a session.
func (s *spool) newJournal(id string, lines []byte) (SpoolFile, error) {
	name := id + operationsSuffix + ".new"
	if err := s.root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := s.writeNew(name, lines); err != nil {
		return nil, err
	}
	if err := s.root.Rename(name, id+operationsSuffix); err != nil {
		return nil, err
	}
	f, err := s.root.OpenFile(id+operationsSuffix, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	if s.wrap != nil {
		return s.wrap(f), nil
	}
	return f, nil
}

func (s *spool) removeJournal(id string) error {
	var errs []error
	for _, name := range []string{id + operationsSuffix + ".new", id + operationsSuffix} {
		if err := s.root.Remove(name); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// recoverOperations queues what a killed process had in a session's journal, and drops the journal.
// What was with the broker already is no second event there, and what is queued already stays so.
func (b *Bastion) recoverOperations(id string) {
	raw, err := b.spool.root.ReadFile(id + operationsSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		b.cfg.Log.Error("journal of operations not read", "session", id, "error", err)
		return
	}
	b.reports.putAll(slices.DeleteFunc(lastReports(raw), func(r api.Report) bool {
		return r.SessionID != id || b.reports.find(r.ID) != nil
	}))
	if err := b.spool.removeJournal(id); err != nil {
		b.cfg.Log.Warn("journal of operations not removed: they will be repeated", "session", id, "error", err)
	}
}

// lastReports reads a journal, whose last line may be torn: of each ID the last report, in the order in
// which they began.
func lastReports(raw []byte) []api.Report {
	var out []api.Report
	at := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, maxReportLine)
	for lines.Scan() {
		var r api.Report
		if json.Unmarshal(lines.Bytes(), &r) != nil || r.ID == "" {
			continue
		}
		if i, known := at[r.ID]; known {
			out[i] = r
			continue
		}
		at[r.ID] = len(out)
		out = append(out, r)
	}
	return out
}
