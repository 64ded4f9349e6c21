package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"sega/audit"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/audit/store/storetest"
)

var errInjected = errors.New("injected I/O error")

// faults fails operations first..first+count-1 of all connections; where after is set the
// operation is carried out and its result lost. With only, operations before the first that fails
// count if they are of that text.
type faults struct {
	n            atomic.Int64
	first, count int64
	after        bool
	only         string
	reached      atomic.Bool
}

// run wraps one operation.
func (f *faults) run(text string, op func() error) error {
	if f.only != "" && text != f.only && f.n.Load() <= f.first {
		return op()
	}
	n := f.n.Add(1) - 1
	hit := n >= f.first && n < f.first+f.count
	if hit {
		f.reached.Store(true)
	}
	if hit && !f.after {
		return errInjected
	}
	err := op()
	if hit {
		return errInjected
	}
	return err
}

type faultConn struct {
	conn
	f *faults
}

func (c *faultConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	s, err := c.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	return &faultStmt{Stmt: s, f: c.f, text: text}, nil
}

func (c *faultConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (r driver.Result, err error) {
	err = c.f.run(text, func() error { r, err = c.conn.ExecContext(ctx, text, args); return err })
	return r, err
}

type faultStmt struct {
	driver.Stmt
	f    *faults
	text string
}

func (s *faultStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (r driver.Result, err error) {
	err = s.f.run(s.text, func() error { r, err = s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args); return err })
	return r, err
}

func (s *faultStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.f.run(s.text, func() error { return nil }); err != nil {
		return nil, err
	}
	return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}

// load is what is appended under faults, and how many operations are between two that fail.
type load struct{ writers, appends, events, stride int }

// TestFaults fails every operation of the writing connection in turn, once before it is carried out
// and once after, alone and with those that follow, and judges the log each time: what was
// acknowledged is there, the tree verifies, and the log goes on by itself. Where the database could
// be asked after the failure, what was refused is not there.
func TestFaults(t *testing.T) {
	t.Parallel()
	// Each round completes a segment under faults, some of whose rollups are written with the events behind it.
	testFaults(t, filledBy(t, audit.SegmentSize-5, rollupsPerStatement+2), load{writers: 4, appends: 3, events: 1, stride: 1})
}

// TestFaultsRolling is TestFaults while the rollups of a segment of many people are written: by statements of
// many of them and of one.
func TestFaultsRolling(t *testing.T) {
	t.Parallel()
	stride := 61
	if soak {
		stride = 7
	}
	testFaults(t, filled(t, audit.SegmentSize-1), load{writers: 1, appends: 2, events: 20, stride: stride})
}

func testFaults(t *testing.T, almost string, what load) {
	for _, count := range []int64{1, 4} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d operations, after %v", count, after), func(t *testing.T) {
				// How many operations there are depends on who shares a commit: it ends when none were left to fail.
				hits, missed := 0, 0
				for first := int64(0); missed < 4; first += count * int64(what.stride) {
					path := filepath.Join(t.TempDir(), fmt.Sprint(first, ".db"))
					copyFile(t, almost, path)
					f := &faults{first: first, count: count, after: after}
					if faultRound(t, path, f, what) {
						hits++
					}
					if !f.reached.Load() {
						missed++
					}
				}
				if hits < max(1, 20/(int(count)*what.stride)) {
					t.Errorf("only %d rounds saw a failure: the faults hit nothing", hits)
				}
			})
		}
	}
}

// copyFile copies a closed database.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// faultRound appends under faults to a database and reports whether any append failed.
func faultRound(t *testing.T, path string, f *faults, what load) (failed bool) {
	t.Helper()
	key := testKey(t)
	cfg := Config{Path: path, Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: []string{storetest.Schema}}}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	armed := atomic.Bool{}
	l, err := open(t.Context(), cfg, func(ctx context.Context) (conn, error) {
		if !armed.Load() {
			f.n.Store(-1 << 40) // opening is not what is tested here
		}
		c, err := dial(ctx, path)
		return &faultConn{c, f}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	armed.Store(true)
	f.n.Store(0)

	var mu sync.Mutex
	acked, refused := map[string]int64{}, map[string]bool{}
	var wg sync.WaitGroup
	for w := range what.writers {
		wg.Go(func() {
			for i := range what.appends {
				var events []audit.Event
				for n := range what.events {
					events = append(events, testEvent(i*what.events+n))
				}
				e := events[0]
				var apply func(context.Context, store.Tx) error
				if w%2 == 0 {
					apply = func(ctx context.Context, tx store.Tx) error {
						_, err := tx.ExecContext(ctx, `INSERT INTO storetest_state (name, n) VALUES (?, 1)`, e.ID)
						return err
					}
				}
				first, err := l.Append(context.Background(), events, apply)
				mu.Lock()
				if err != nil {
					refused[e.ID] = true
				} else {
					acked[e.ID] = first
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	f.n.Store(1 << 40) // healed
	e := testEvent(9)
	first, err := l.Append(t.Context(), []audit.Event{e}, nil)
	if err != nil {
		t.Fatalf("fault %d: the log does not go on: %v", f.first, err)
	}
	acked[e.ID] = first
	judge(t, l, acked, refused, f.count == 1)
	return len(refused) > 0
}

// judge compares what callers were told with what is stored, state included.
func judge(t *testing.T, l *Log, acked map[string]int64, refused map[string]bool, strict bool) {
	t.Helper()
	storetest.Verify(t, l, testKey(t).Verifier())
	stored := map[string]int64{}
	for row, err := range l.Rows(t.Context(), 0, 1<<40) {
		if err != nil {
			t.Fatal(err)
		}
		stored[row.Columns["id"]] = row.Index
	}
	for id, index := range acked {
		if got, ok := stored[id]; !ok || got != index {
			t.Errorf("event %s was acknowledged at %d, found %v at %d", id, index, ok, got)
		}
	}
	for id := range refused {
		if index, ok := stored[id]; ok && strict {
			t.Errorf("event %s was refused, but is stored at %d", id, index)
		}
	}
	rows, err := l.reads.QueryContext(t.Context(), `SELECT name FROM storetest_state`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		if _, ok := stored[id]; !ok {
			t.Errorf("the state of event %s is there without it", id)
		}
	}
}

func TestSignerFails(t *testing.T) {
	s := &storetest.FailingKey{LogKey: testKey(t)}
	l, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "audit.db"), Options: backend.Options{Signer: s, Verifier: s.Verifier(), Schema: []string{storetest.Schema}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s.Fail.Store(true)
	e := testEvent(1)
	_, err = l.Append(t.Context(), []audit.Event{e}, func(ctx context.Context, tx store.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO storetest_state (name, n) VALUES ('x', 1)`)
		return err
	})
	if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, storetest.ErrSigner) {
		t.Errorf("got %v", err)
	}
	s.Fail.Store(false)
	if first, err := l.Append(t.Context(), []audit.Event{e}, nil); err != nil || first != 0 {
		t.Errorf("got %d, %v", first, err)
	}
	judge(t, l, map[string]int64{e.ID: 0}, nil, true)
}
