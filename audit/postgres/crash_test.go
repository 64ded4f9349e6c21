package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sega/audit"
	"sega/audit/postgres/pgtest"
	"sega/audit/store"
)

// TestTwoLogs appends to one log from two processes' worth of committers (design R9).
func TestTwoLogs(t *testing.T) {
	s := server(t)
	url := s.URL(s.NewDatabase(t))
	var logs [2]*Log
	var wg sync.WaitGroup
	for i := range logs { // they open, and make the tables, at once
		wg.Go(func() {
			var err error
			if logs[i], err = Open(context.Background(), config(t, url)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	defer logs[0].Close()
	defer logs[1].Close()
	o := newTold()
	const writers, each = 16, 30
	for _, l := range logs {
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					if err := o.append(l, testEvent(i), w%4 == 0); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	want := int64(2 * writers * each)
	for i, l := range logs {
		eventually(t, "the head of what the other has appended", func() error {
			if _, tree := l.Head(); tree.N != want {
				return fmt.Errorf("log %d has its head at %d, want %d", i, tree.N, want)
			}
			return nil
		})
		o.judge(t, l, true)
	}
	if int64(len(o.acked)) != want {
		t.Errorf("%d events were acknowledged, want %d", len(o.acked), want)
	}
}

// TestStateOfOthers lets two brokers count in one row: each apply sees all that was committed before.
func TestStateOfOthers(t *testing.T) {
	s := server(t)
	url := s.URL(s.NewDatabase(t))
	logs := []*Log{openTest(t, config(t, url)), openTest(t, config(t, url))}
	count := func(ctx context.Context, tx store.Tx) error {
		var n int64
		if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(n), 0) FROM storetest_state WHERE name = ?`, "count").Scan(&n); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO storetest_state (name, n) VALUES ('count', ?) ON CONFLICT (name) DO UPDATE SET n = excluded.n`, n+1)
		return err
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 10 {
				if _, err := logs[i%2].Append(context.Background(), nil, count); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var n int64
	err := logs[0].Read(t.Context(), func(ctx context.Context, q store.Querier) error {
		return q.QueryRowContext(ctx, `SELECT n FROM storetest_state WHERE name = 'count'`).Scan(&n)
	})
	if err != nil || n != 160 {
		t.Errorf("counted %d, %v, want 160", n, err)
	}
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond) // between two looks at the condition
	}
}

// TestServerGoes takes the server away under load, in several ways, and brings it back.
func TestServerGoes(t *testing.T) {
	for name, away := range map[string]func(*testing.T, *pgtest.Server){
		"killed": func(t *testing.T, s *pgtest.Server) {
			if err := errors.Join(s.Kill(), s.Restart()); err != nil {
				t.Fatal(err)
			}
		},
		"restarted": func(t *testing.T, s *pgtest.Server) {
			if err := s.Restart(); err != nil {
				t.Fatal(err)
			}
		},
		"backends ended": func(t *testing.T, s *pgtest.Server) {
			if err := s.Exec(t.Context(), "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { serverGoes(t, away) })
	}
}

func serverGoes(t *testing.T, away func(*testing.T, *pgtest.Server)) {
	server(t) // or skip
	s := pgtest.Start(t)
	l := openTest(t, config(t, s.URL(s.NewDatabase(t))))
	o := newTold()
	var done atomic.Bool
	var acked atomic.Int64
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := 0; !done.Load(); i++ {
				switch err := o.append(l, testEvent(i), w%4 == 0); {
				case err == nil:
					acked.Add(1)
				case !errors.Is(err, store.ErrUnavailable):
					t.Errorf("got %v", err)
				}
			}
		})
	}
	more := func() {
		seen := acked.Load()
		eventually(t, "appends go on", func() error {
			if n := acked.Load(); n < seen+200 {
				return fmt.Errorf("%d appends", n-seen)
			}
			return nil
		})
	}
	more()
	for range 3 / every(3) {
		away(t, s)
		more()
	}
	done.Store(true)
	wg.Wait()
	o.judge(t, l, false)
	t.Logf("%d acknowledged, %d refused", len(o.acked), len(o.refused))
}

// TestUnavailable appends while the server is away: each is told so, and what holds a context ends
// with it. When the server is back the log goes on by itself.
func TestUnavailable(t *testing.T) {
	server(t) // or skip
	s := pgtest.Start(t)
	l := openTest(t, config(t, s.URL(s.NewDatabase(t))))
	o := newTold()
	if err := o.append(l, testEvent(1), true); err != nil {
		t.Fatal(err)
	}
	checkpoint, tree := l.Head()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := o.append(l, testEvent(i), true); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrDuplicate) {
			t.Errorf("got %v", err)
		}
	}
	if msg, now := l.Head(); now != tree || string(msg) != string(checkpoint) {
		t.Errorf("the head moved to %v", now)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := o.append(l, testEvent(9), true); err != nil {
		t.Errorf("after the server came back: %v", err)
	}
	o.judge(t, l, true)
}

// TestHangs holds the head's lock on another connection, as a broker would that was cut off in the
// middle of a transaction: the server frees it.
func TestHangs(t *testing.T) {
	s := server(t)
	db := s.NewDatabase(t)
	l, other := openTest(t, config(t, s.URL(db))), openTest(t, config(t, s.URL(db, "idle_in_transaction_session_timeout=500")))
	inside, release := make(chan struct{}), make(chan struct{})
	hung := make(chan error, 1)
	go func() {
		_, err := other.Append(context.Background(), []audit.Event{testEvent(1)}, func(ctx context.Context, tx store.Tx) error {
			close(inside)
			<-release
			return nil
		})
		hung <- err
	}()
	<-inside
	o := newTold()
	if err := o.append(l, testEvent(2), true); err != nil {
		t.Errorf("a broker that hangs holds the log up: %v", err)
	}
	close(release)
	if err := <-hung; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the broker that hung was told %v", err)
	}
	o.judge(t, l, true)
}
