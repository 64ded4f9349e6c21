//go:build linux

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sega/audit"
	"sega/audit/postgres"
	"sega/audit/postgres/pgtest"
	"sega/audit/sqlite"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/audit/store/storetest"
)

// Budgets of audit.append (design.md §7) at the highest number of writers, and at one.
const (
	manyWriters    = 256
	appendSQLite   = 25_000
	appendPostgres = 12_000
	appendP99      = 25 // ms
	appendOneP99   = 1  // ms, SQLite
)

// appender makes one event durable before it returns.
type appender interface {
	append(ctx context.Context, e audit.Event) error
	close() error
}

// rival is a way to make events durable, opened anew for each number of writers.
type rival struct {
	name   string
	events map[int]int // how many, by number of writers
	open   func(dir string) (appender, error)
}

// appends measures durable events a second: the backends with tree, indexes and rollups, beside what
// they cannot be faster than (a plain file that many callers share a sync of) and what a caller
// without a committer does (an INSERT in a transaction of its own).
func (b *bench) appends() (err error) {
	rivals, closing, err := b.rivals()
	defer func() { err = errors.Join(err, closing()) }()
	if err != nil {
		return err
	}
	for _, writers := range []int{1, 16, manyWriters} {
		var limit Result // the file's rate
		for _, r := range rivals {
			l, err := b.appendTo(r, writers)
			if err != nil {
				return fmt.Errorf("%s, %d writers: %w", r.name, writers, err)
			}
			name := fmt.Sprintf("audit.append.%s.writers-%d", r.name, writers)
			rate := l.rate(name)
			if r.name == "file" {
				limit = rate
			} else {
				rate = rate.against("file", limit.Value)
			}
			b.add(budgeted(r.name, writers, rate, l.p50(name), l.p99(name))...)
		}
	}
	return nil
}

func budgeted(rival string, writers int, rate, p50, p99 Result) []Result {
	switch {
	case rival == "sqlite" && writers == manyWriters:
		rate, p99 = rate.atLeast(appendSQLite), p99.atMost(appendP99)
	case rival == "postgres" && writers == manyWriters:
		rate, p99 = rate.atLeast(appendPostgres), p99.atMost(appendP99)
	case rival == "sqlite" && writers == 1:
		p99 = p99.atMost(appendOneP99)
	}
	return []Result{rate, p50, p99}
}

// appendTo lets writers append one event after the other, all at once.
func (b *bench) appendTo(r rival, writers int) (loaded, error) {
	dir, err := os.MkdirTemp(b.dir, "append-")
	if err != nil {
		return loaded{}, err
	}
	a, err := r.open(dir)
	if err != nil {
		return loaded{}, err
	}
	var failed atomic.Pointer[error]
	write := func(n int) (calls []time.Duration, wall time.Duration) {
		var left atomic.Int64
		left.Store(int64(n))
		took := make([][]time.Duration, writers)
		var wg sync.WaitGroup
		begin := time.Now()
		for w := range writers {
			wg.Go(func() {
				for i := left.Add(-1); i >= 0 && failed.Load() == nil; i = left.Add(-1) {
					e := storetest.BenchEvent(w, i)
					from := time.Now()
					if err := a.append(b.ctx, e); err != nil {
						failed.CompareAndSwap(nil, &err)
						return
					}
					took[w] = append(took[w], time.Since(from))
				}
			})
		}
		wg.Wait()
		return slices.Concat(took...), time.Since(begin)
	}
	write(r.events[writers] / 10) // the first pages, connections and statements
	calls, wall := write(r.events[writers])
	err = a.close()
	if e := failed.Load(); e != nil {
		err = errors.Join(*e, err)
	}
	return loaded{calls: calls, wall: wall}, errors.Join(err, os.RemoveAll(dir))
}

// rivals lists what is compared. closing ends the servers that it started.
func (b *bench) rivals() (list []rival, closing func() error, err error) {
	key, err := audit.GenerateLogKey("bench.sega.invalid/audit")
	if err != nil {
		return nil, func() error { return nil }, err
	}
	server, err := pgtest.Run("", "min_wal_size=1GB")
	if err != nil {
		return nil, func() error { return nil }, err
	}
	if err := server.Warm(b.ctx); err != nil {
		return nil, server.Close, err
	}
	number := 0
	database := func() (string, error) {
		number++
		name := fmt.Sprintf("append_%d", number)
		return name, server.Exec(b.ctx, "postgres", `CREATE DATABASE `+name)
	}
	list = []rival{
		{"file", map[int]int{1: 10_000, 16: 100_000, manyWriters: 400_000}, openFileAppender},
		{"sqlite-insert", map[int]int{1: 10_000, 16: 20_000, manyWriters: 20_000}, openSQLiteInserter},
		{"sqlite", map[int]int{1: 10_000, 16: 60_000, manyWriters: 150_000}, func(dir string) (appender, error) {
			l, err := sqlite.Open(b.ctx, sqlite.Config{Path: filepath.Join(dir, "log.db"), Options: backend.Options{Signer: key, Verifier: key.Verifier()}})
			return logAppender{l}, err
		}},
		{"postgres-insert", map[int]int{1: 5_000, 16: 20_000, manyWriters: 20_000}, func(string) (appender, error) {
			name, err := database()
			if err != nil {
				return nil, err
			}
			return openPostgresInserter(server.URL(name))
		}},
		{"postgres", map[int]int{1: 5_000, 16: 30_000, manyWriters: 100_000}, func(string) (appender, error) {
			name, err := database()
			if err != nil {
				return nil, err
			}
			l, err := postgres.Open(b.ctx, postgres.Config{URL: server.URL(name), Options: backend.Options{Signer: key, Verifier: key.Verifier()}})
			return logAppender{l}, err
		}},
	}
	return list, server.Close, nil
}

// logAppender is a backend.
type logAppender struct{ l store.Log }

func (a logAppender) append(ctx context.Context, e audit.Event) error {
	_, err := a.l.Append(ctx, []audit.Event{e}, nil)
	return err
}

func (a logAppender) close() error { return a.l.Close() }

// fileAppender writes envelopes to a plain file and syncs once for all who wait.
type fileAppender struct {
	f     *os.File
	queue chan *line
	done  chan struct{}
}

type line struct {
	body []byte
	err  chan error
}

func openFileAppender(dir string) (appender, error) {
	f, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	a := &fileAppender{f: f, queue: make(chan *line, 1024), done: make(chan struct{})}
	go a.run()
	return a, nil
}

func (a *fileAppender) run() {
	defer close(a.done)
	for first := range a.queue {
		batch := []*line{first}
		for more := true; more && len(batch) < cap(a.queue); {
			select {
			case l, ok := <-a.queue:
				if more = ok; ok {
					batch = append(batch, l)
				}
			default:
				more = false
			}
		}
		var all []byte
		for _, l := range batch {
			all = append(append(all, l.body...), '\n')
		}
		_, err := a.f.Write(all)
		if err == nil {
			err = a.f.Sync()
		}
		for _, l := range batch {
			l.err <- err
		}
	}
}

func (a *fileAppender) append(_ context.Context, e audit.Event) error {
	row, err := audit.Seal(e)
	if err != nil {
		return err
	}
	l := &line{body: row.Body, err: make(chan error, 1)}
	a.queue <- l
	return <-l.err
}

func (a *fileAppender) close() error {
	close(a.queue)
	<-a.done
	return a.f.Close()
}

// inserter inserts the envelope alone, in a transaction of its own, without tree or indexes.
type inserter struct {
	db   *sql.DB
	text string
}

func openSQLiteInserter(dir string) (appender, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "plain.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return inserter{db, `INSERT INTO events (id, body) VALUES (?, ?)`}, createPlain(db)
}

// openPostgresInserter lets sixteen connections insert at a time: more only wait for each other.
func openPostgresInserter(url string) (appender, error) {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	return inserter{db, `INSERT INTO events (id, body) VALUES ($1, $2)`}, createPlain(db)
}

func createPlain(db *sql.DB) error {
	_, err := db.Exec(`CREATE TABLE events (id TEXT PRIMARY KEY, body TEXT NOT NULL)`)
	return err
}

func (a inserter) append(ctx context.Context, e audit.Event) error {
	row, err := audit.Seal(e)
	if err != nil {
		return err
	}
	_, err = a.db.ExecContext(ctx, a.text, e.ID, string(row.Body))
	return err
}

func (a inserter) close() error { return a.db.Close() }
