package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"sega/audit/store/backend"
)

// Pace of the text index.
const (
	textBatch = 2048                   // events that it takes at a time at most,
	textBytes = 8 << 20                // and bytes of their texts, beyond the first
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

	upTo   atomic.Int64  // events that it covers; 0 while it cannot be used. Changed under mu
	bad    atomic.Bool   // it must be built anew
	moving atomic.Bool   // another process has replaced the file: it must be opened anew
	wake   chan struct{} // holds one word: there is something to do
	cancel context.CancelFunc
	done   chan struct{} // closed when run has ended

	mu    sync.Mutex
	db    *sql.DB       // nil while closed
	era   int           // of db: changes when the index is closed, opened or found broken
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
	if err := t.swap(nil, 0); err != nil {
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

// spoiled tells the index that it gave an error where it should have given an answer, in an era that
// may be over.
func (t *textIndex) spoiled(err error, era int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if era != t.era {
		return
	}
	switch {
	case errors.Is(err, errMoved):
		t.moving.Store(true)
	case passing(err):
		return
	case !t.bad.Swap(true):
		t.log.Warn("audit store: the text index is broken, it will be built anew", "error", err)
	}
	t.era++
	t.covers(0)
	t.appended()
}

func (t *textIndex) cover(size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.covers(size)
}

// covers is cover under mu.
func (t *textIndex) covers(size int64) {
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
			return backend.ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// errSpare means that the disk has too little left for the text index.
var errSpare = errors.New("the disk is nearly full; what is left is the log's")

// errLog means that the log could not be read, which says nothing of the index.
var errLog = errors.New("read the log")

// errMoved means that the index's file is not the one that was opened, or was written anew by another process.
var errMoved = errors.New("it covers less than it did")

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
			t.breaks()
		}
		if !again && !t.pause(ctx, textRetry) {
			return
		}
		t.appended()
	}
}

// breaks marks the index as broken.
func (t *textIndex) breaks() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bad.Store(true)
	t.era++
	t.covers(0)
}

// passing reports whether a failure says nothing against the index: it goes on where it is.
func passing(err error) bool {
	if errors.Is(err, errSpare) || errors.Is(err, errLog) {
		return true
	}
	switch code(err) & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM,
		sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT:
		return code(err) != -1
	}
	return false
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
		began, size := time.Now(), t.l.known.Head().Tree.N
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
		if t.l.known.Head().Tree.N > size && !t.pause(ctx, textYield*time.Since(began)) {
			return nil
		}
	}
}
