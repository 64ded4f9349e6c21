package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"sega/audit"
	"sega/audit/store"
)

// Pace of the text index.
const (
	textBatch = 2048                   // events that it takes at a time
	textDelay = 200 * time.Millisecond // that it waits for more after an append
	textRetry = 30 * time.Second       // after a failure
	textYield = 9                      // times as long as it has worked it rests while events are appended
	textConns = 3                      // to its file
	textSpare = 64 << 20               // bytes of the disk that it leaves to the log
)

// textIndex is the index of what is searched as free text: reason, ticket and content of each
// event. It is derived from the log and may be deleted at any time: it lives in a file of its own
// and is filled behind the committer, in order. What it does not cover yet is searched in the rows. None
// of its failures is the log's: it is built anew where it is broken, and rests where the disk is full.
type textIndex struct {
	l    *Log
	path string
	log  *slog.Logger

	upTo   atomic.Int64  // events that it covers; 0 while it cannot be used
	bad    atomic.Bool   // it must be built anew
	wake   chan struct{} // holds one word: there is something to do
	cancel context.CancelFunc
	done   chan struct{} // closed when run has ended

	mu    sync.Mutex
	db    *sql.DB       // nil while closed
	moved chan struct{} // closed and replaced when upTo changes
}

func startText(l *Log) *textIndex {
	ctx, cancel := context.WithCancel(context.Background())
	t := &textIndex{l: l, path: l.cfg.Path + textSuffix, log: l.cfg.Log, wake: make(chan struct{}, 1), cancel: cancel,
		done: make(chan struct{}), moved: make(chan struct{})}
	go t.run(ctx)
	return t
}

// close ends the index's goroutine and closes its file.
func (t *textIndex) close() {
	t.cancel()
	<-t.done
	if err := t.swap(nil); err != nil {
		t.log.Warn("audit store: close the text index", "error", err)
	}
}

// appended tells the index that the log has grown. It never blocks.
func (t *textIndex) appended() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// spoiled tells the index that it gave an error where it should have given an answer.
func (t *textIndex) spoiled(err error) {
	if t.upTo.Load() > 0 && !t.bad.Swap(true) {
		t.log.Warn("audit store: the text index is broken, it will be built anew", "error", err)
	}
	t.cover(0)
	t.appended()
}

func (t *textIndex) cover(size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.upTo.Swap(size) != size {
		close(t.moved)
		t.moved = make(chan struct{})
	}
}

// Indexed waits until the text index covers the first size events. Searches need not wait for it:
// they look at the rows that it does not cover.
func (l *Log) Indexed(ctx context.Context, size int64) error {
	for {
		l.text.mu.Lock()
		moved := l.text.moved
		l.text.mu.Unlock()
		if l.text.upTo.Load() >= size {
			return nil
		}
		select {
		case <-moved:
		case <-l.text.done:
			return errClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// errSpare means that the disk has too little left for the text index.
var errSpare = errors.New("the disk is nearly full; what is left is the log's")

// run keeps the index behind the log until the log is closed.
func (t *textIndex) run(ctx context.Context) {
	defer close(t.done)
	t.appended() // what was appended before
	for failed := false; t.rest(ctx); {
		err := t.catchUp(ctx)
		if err == nil {
			failed = false
			continue
		}
		if ctx.Err() != nil {
			return
		}
		t.log.Warn("audit store: the text index does not follow; searches read rows instead", "covered", t.upTo.Load(), "error", explain(err))
		again := !failed && !passing(err) // anew, at once
		if failed = true; !passing(err) {
			t.bad.Store(true)
			t.cover(0)
		}
		if !again && !t.pause(ctx, textRetry) {
			return
		}
		t.appended()
	}
}

// passing reports whether a failure says nothing against the index: it goes on where it is.
func passing(err error) bool {
	c := code(err) & 0xff
	return errors.Is(err, errSpare) || c == sqlite3.SQLITE_FULL || c == sqlite3.SQLITE_BUSY
}

// rest waits for something to do, and then a little for more of it.
func (t *textIndex) rest(ctx context.Context) bool {
	select {
	case <-t.wake:
		return t.pause(ctx, textDelay)
	case <-ctx.Done():
		return false
	}
}

func (t *textIndex) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// catchUp indexes what the log has and the index has not.
func (t *textIndex) catchUp(ctx context.Context) error {
	if err := t.ready(ctx); err != nil {
		return err
	}
	for {
		began, size := time.Now(), t.l.last.Load().tree.N
		from := t.upTo.Load()
		if t.bad.Load() || from >= size {
			return nil
		}
		if free, known := freeBytes(t.path); known && free < textSpare {
			return errSpare
		}
		if err := t.batch(ctx, from, min(from+textBatch, size)); err != nil {
			return err
		}
		if t.l.last.Load().tree.N > size && !t.pause(ctx, textYield*time.Since(began)) {
			return nil
		}
	}
}

// batch indexes the events from..to-1.
func (t *textIndex) batch(ctx context.Context, from, to int64) error {
	texts, err := t.texts(ctx, from, to)
	if err != nil {
		return err
	}
	root, err := store.Root(ctx, t.l, to)
	if err != nil {
		return err
	}
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if size, _, err := textMark(ctx, tx); err != nil || size != from {
		t.cover(size) // another process has been here
		return err
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO texts (rowid, text) VALUES (?, ?)`)
	if err != nil {
		return err
	}
	for _, x := range texts {
		if _, err := insert.ExecContext(ctx, x.idx, x.text); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO mark (one, size, root) VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE SET size = excluded.size, root = excluded.root`, to, root[:]); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	t.cover(to)
	return nil
}

// text is what an event has for free-text search.
type text struct {
	idx  int64
	text string
}

// texts reads what the events from..to-1 have, leaving out those that have nothing.
func (t *textIndex) texts(ctx context.Context, from, to int64) ([]text, error) {
	rows, err := t.l.reads.QueryContext(ctx, `SELECT idx, kind, body, details FROM events WHERE idx >= ? AND idx < ?`, from, to)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []text
	for rows.Next() {
		var idx int64
		var body sql.RawBytes
		var e audit.Event
		if err := rows.Scan(&idx, &e.Kind, &body, (*[]byte)(&e.Details)); err != nil {
			return nil, err
		}
		if err := said(&e, body); err != nil {
			continue // the row was tampered with, as a verifier will say
		}
		if s := strings.Trim(e.Reason+"\n"+e.Ticket+"\n"+audit.Content(e), "\n"); s != "" {
			out = append(out, text{idx, strings.ReplaceAll(s, "\x00", "\x01")}) // the tokenizer ends at a zero byte
		}
	}
	return out, rows.Err()
}
