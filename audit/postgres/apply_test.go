package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"sega/audit"
	"sega/audit/store"
)

var errRevoked = errors.New("revoked meanwhile")

// insertState is a change of state that succeeds once for each name.
func insertState(ctx context.Context, tx store.Tx, name string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO storetest_state (name, n) VALUES (?, ?)`, name, 1)
	return err
}

// misbehaviours are changes of state that fail.
func misbehaviours() map[string]func(ctx context.Context, tx store.Tx) error {
	return map[string]func(ctx context.Context, tx store.Tx) error{
		"returns an error": func(context.Context, store.Tx) error { return errRevoked },
		"a statement that fails": func(ctx context.Context, tx store.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO nowhere VALUES (1)`)
			return err
		},
		"goes on after a statement that failed": func(ctx context.Context, tx store.Tx) error {
			_, _ = tx.ExecContext(ctx, `SELECT 1/0`)
			return nil
		},
		"a constraint": func(ctx context.Context, tx store.Tx) error {
			return errors.Join(insertState(ctx, tx, "twice"), insertState(ctx, tx, "twice"))
		},
		"NUL in a text": func(ctx context.Context, tx store.Tx) error { return insertState(ctx, tx, "a\x00b") },
		"a wrong type": func(ctx context.Context, tx store.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO storetest_state (name, n) VALUES (?, ?)`, "x", "no number")
			return err
		},
		"too few arguments": func(ctx context.Context, tx store.Tx) error {
			_, err := tx.ExecContext(ctx, `SELECT ?, ?`, 1)
			return err
		},
		"panics": func(context.Context, store.Tx) error { panic("no") },
		"panics with rows": func(ctx context.Context, tx store.Tx) error {
			_, _ = tx.QueryContext(ctx, `SELECT generate_series(1, 100000)`)
			panic("no")
		},
		"ends with an error and rows": func(ctx context.Context, tx store.Tx) error {
			_, _ = tx.QueryContext(ctx, `SELECT generate_series(1, 100000)`)
			return errRevoked
		},
		"is cancelled by itself": func(ctx context.Context, tx store.Tx) error {
			if err := insertState(ctx, tx, "cancelled"); err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return insertState(ctx, tx, "cancelled too")
		},
	}
}

// TestApplyMisbehaves runs changes of state that fail in every way beside others that do not, in
// the same batches: each fails alone.
func TestApplyMisbehaves(t *testing.T) {
	s := server(t)
	l := openTest(t, config(t, s.URL(s.NewDatabase(t))))
	for name, apply := range misbehaviours() {
		t.Run(name, func(t *testing.T) {
			o := newTold()
			var wg sync.WaitGroup
			for i := range 30 {
				wg.Go(func() {
					if i%3 > 0 {
						if err := o.append(l, testEvent(i), i%3 == 1); err != nil {
							t.Error(err)
						}
						return
					}
					first, err := l.Append(context.Background(), []audit.Event{testEvent(i)}, func(ctx context.Context, tx store.Tx) error {
						if err := insertState(ctx, tx, fmt.Sprint("gone", i)); err != nil {
							return err
						}
						return apply(ctx, tx)
					})
					if err == nil {
						t.Errorf("it succeeded, at %d", first)
					}
				})
			}
			wg.Wait()
			names := stateNames(t, l)
			for i := range 30 {
				if names[fmt.Sprint("gone", i)] {
					t.Errorf("the state of failed append %d stayed", i)
				}
			}
			for id := range names {
				if len(id) != len(audit.NewID()) {
					t.Errorf("state %q stayed", id)
				}
			}
			if len(o.acked) != 20 {
				t.Errorf("%d of the others succeeded, want 20", len(o.acked))
			}
		})
	}
	newTold().judge(t, l, true)
}

// TestOpenRows lets a change of state succeed with rows that it did not close.
func TestOpenRows(t *testing.T) {
	s := server(t)
	l := openTest(t, config(t, s.URL(s.NewDatabase(t))))
	o := newTold()
	for i := range 3 {
		_, err := l.Append(t.Context(), []audit.Event{testEvent(i)}, func(ctx context.Context, tx store.Tx) error {
			rows, err := tx.QueryContext(ctx, `SELECT generate_series(1, 100000)`)
			if err == nil && !rows.Next() {
				err = rows.Err()
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		if err := o.append(l, testEvent(i), true); err != nil {
			t.Error(err)
		}
	}
	o.judge(t, l, true)
}

// TestDuplicates puts duplicates of all kinds into one batch.
func TestDuplicates(t *testing.T) {
	s := server(t)
	l := openTest(t, config(t, s.URL(s.NewDatabase(t))))
	known := testEvent(0)
	if _, err := l.Append(t.Context(), []audit.Event{known}, nil); err != nil {
		t.Fatal(err)
	}
	inside, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // holds the committer until the rest is queued
		_, _ = l.Append(context.Background(), nil, func(context.Context, store.Tx) error { close(inside); <-release; return errRevoked })
	})
	<-inside
	same, fresh := testEvent(1), testEvent(2)
	results := make([]error, 6)
	run := func(i int, apply func(context.Context, store.Tx) error, events ...audit.Event) {
		wg.Go(func() { _, results[i] = l.Append(context.Background(), events, apply) })
	}
	run(0, nil, same)
	run(1, nil, same)
	run(2, nil, known, fresh)
	run(3, func(context.Context, store.Tx) error { t.Error("the change of a duplicate ran"); return nil }, known)
	run(4, nil, fresh, fresh)
	run(5, nil, testEvent(3))
	eventually(t, "the queue", func() error {
		if n := l.committer.Queued(); n != len(results) {
			return fmt.Errorf("%d appends are queued", n)
		}
		return nil
	})
	close(release)
	wg.Wait()
	if (results[0] == nil) == (results[1] == nil) {
		t.Errorf("of two with one ID: %v, %v", results[0], results[1])
	}
	for _, i := range []int{2, 3, 4} {
		if !errors.Is(results[i], store.ErrDuplicate) || !errors.Is(results[i], store.ErrUnavailable) {
			t.Errorf("append %d: %v", i, results[i])
		}
	}
	if results[5] != nil {
		t.Error(results[5])
	}
	if _, err := l.Append(t.Context(), []audit.Event{fresh}, nil); err != nil {
		t.Errorf("an ID of a refused append is taken: %v", err)
	}
	newTold().judge(t, l, true)
	if _, tree := l.Head(); tree.N != 4 {
		t.Errorf("%d events, want 4", tree.N)
	}
}
