package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/store"
)

func testAppend(t *testing.T, b Backend) {
	l := b.Open(t)
	events := []audit.Event{event(1), details(event(2), `{"command":"id"}`), event(3)}
	if first := mustAppend(t, l, events[:1]...); first != 0 {
		t.Errorf("first index is %d", first)
	}
	if first := mustAppend(t, l, events[1:]...); first != 1 {
		t.Errorf("second index is %d", first)
	}
	rows := collect(t, l.Rows(t.Context(), 0, 3))
	if _, tree := l.Head(); tree.N != 3 || len(rows) != 3 {
		t.Fatalf("%d rows, head at %d", len(rows), tree.N)
	}
	for i, row := range rows {
		got, err := audit.Parse(row.Body)
		if err != nil {
			t.Fatal(err)
		}
		got.Details, got.DetailsDigest = row.Details, ""
		if diff := cmp.Diff(events[i], got); diff != "" {
			t.Errorf("event %d: %s", i, diff)
		}
		if diff := cmp.Diff(audit.Columns(int64(i), got), row.Columns); diff != "" {
			t.Errorf("columns of event %d: %s", i, diff)
		}
	}
	if got := collect(t, l.Rows(t.Context(), 1, 2)); len(got) != 1 || got[0].Index != 1 {
		t.Errorf("rows 1 to 2 are %v", got)
	}
	Verify(t, l, b.Verifier)
}

func testEmpty(t *testing.T, b Backend) {
	l := b.Open(t)
	if _, tree := l.Head(); tree.N != 0 || tree.Hash != audit.EmptyRoot() {
		t.Errorf("head of the empty log is %v", tree)
	}
	Verify(t, l, b.Verifier)
	mustAppend(t, l, event(1))
	if first, err := l.Append(t.Context(), nil, nil); err != nil || first != 1 {
		t.Errorf("an append of nothing: %d, %v", first, err)
	}
	if _, err := l.Append(t.Context(), nil, set("quiet", 1)); err != nil || state(t, l, "quiet") != "1" {
		t.Errorf("a change without events: %v", err)
	}
	if report := Verify(t, l, b.Verifier); report.Rows != 1 {
		t.Errorf("%d rows", report.Rows)
	}
}

func testInvalid(t *testing.T, b Backend) {
	l := b.Open(t)
	bad := event(1)
	bad.Kind = "user.fly"
	_, err := l.Append(t.Context(), []audit.Event{event(2), bad}, set("bad", 1))
	wantUnavailable(t, err, audit.ErrInvalid)
	if _, tree := l.Head(); tree.N != 0 || state(t, l, "bad") != "" {
		t.Error("an invalid append left something behind")
	}
}

func testDuplicate(t *testing.T, b Backend) {
	l := b.Open(t)
	e := event(1)
	mustAppend(t, l, e)
	_, err := l.Append(t.Context(), []audit.Event{e}, nil)
	wantUnavailable(t, err, store.ErrDuplicate)
	_, err = l.Append(t.Context(), []audit.Event{event(2), e}, set("dup", 1))
	wantUnavailable(t, err, store.ErrDuplicate)
	if state(t, l, "dup") != "" {
		t.Error("the state of a refused append stayed")
	}
	if first := mustAppend(t, l, event(3)); first != 1 {
		t.Errorf("next index is %d, want 1", first)
	}
	Verify(t, l, b.Verifier)
}

func testState(t *testing.T, b Backend) {
	l := b.Open(t)
	if _, err := l.Append(t.Context(), []audit.Event{event(1)}, set("a", 7)); err != nil {
		t.Fatal(err)
	}
	if got := state(t, l, "a"); got != "7" {
		t.Errorf("state is %q", got)
	}
}

func testApplyFails(t *testing.T, b Backend) {
	l := b.Open(t)
	no := errors.New("revoked meanwhile")
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			name := fmt.Sprint("n", i)
			_, err := l.Append(context.Background(), []audit.Event{event(i)}, func(ctx context.Context, tx store.Tx) error {
				if err := set(name, i)(ctx, tx); err != nil || i%2 == 0 {
					return err
				}
				return no
			})
			if i%2 == 1 && err != no {
				t.Errorf("got %v, want the error of apply as it is", err)
			}
			if i%2 == 0 && err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 40 {
		if got := state(t, l, fmt.Sprint("n", i)); (got != "") != (i%2 == 0) {
			t.Errorf("state n%d is %q", i, got)
		}
	}
	if report := Verify(t, l, b.Verifier); report.Rows != 20 {
		t.Errorf("%d rows, want 20", report.Rows)
	}
}

func testApplyNext(t *testing.T, b Backend) {
	l := b.Open(t)
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			var next int64
			first, err := l.Append(context.Background(), []audit.Event{event(i), event(i)}, func(_ context.Context, tx store.Tx) error {
				next = tx.Next
				return nil
			})
			if err != nil || first != next {
				t.Errorf("first is %d, apply was told %d, %v", first, next, err)
			}
		})
	}
	wg.Wait()
	Verify(t, l, b.Verifier)
}

func testPanic(t *testing.T, b Backend) {
	l := b.Open(t)
	_, err := l.Append(t.Context(), []audit.Event{event(1)}, func(ctx context.Context, tx store.Tx) error {
		if err := set("panic", 1)(ctx, tx); err != nil {
			return err
		}
		panic("sega_ses_canary")
	})
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v, want an error without what was panicked with", err)
	}
	if state(t, l, "panic") != "" {
		t.Error("the state of a panic stayed")
	}
	mustAppend(t, l, event(2))
	Verify(t, l, b.Verifier)
}

func testApplyEnds(t *testing.T, b Backend) {
	l := b.Open(t)
	_, err := l.Append(t.Context(), []audit.Event{event(1)}, func(ctx context.Context, tx store.Tx) error {
		if _, ends := tx.Querier.(interface{ Commit() error }); ends {
			t.Error("an apply could commit by itself")
		}
		if _, ends := tx.Querier.(interface{ Rollback() error }); ends {
			t.Error("an apply could roll back by itself")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// testCancelled holds the committer in an apply, cancels an append behind it, and one that has begun.
func testCancelled(t *testing.T, b Backend) {
	l := b.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	inside, release, first := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := l.Append(ctx, []audit.Event{event(1)}, func(actx context.Context, tx store.Tx) error {
			close(inside)
			<-release
			return errors.Join(actx.Err(), set("begun", 1)(actx, tx))
		})
		first <- err
	}()
	<-inside
	behind := make(chan error, 1)
	go func() {
		_, err := l.Append(ctx, []audit.Event{event(2)}, set("behind", 1))
		behind <- err
	}()
	cancel()
	wantUnavailable(t, <-behind, context.Canceled)
	close(release)
	if err := <-first; err != nil {
		t.Errorf("an append that had begun was told %v", err)
	}
	mustAppend(t, l, event(3))
	if state(t, l, "begun") != "1" || state(t, l, "behind") != "" {
		t.Error("state does not match what the callers were told")
	}
	if report := Verify(t, l, b.Verifier); report.Rows != 2 {
		t.Errorf("%d rows, want 2", report.Rows)
	}
}

func testWriters(t *testing.T, b Backend) {
	l := b.Open(t)
	const writers, each = 64, 40
	placed := make([]map[string]int64, writers)
	var wg sync.WaitGroup
	for w := range writers {
		placed[w] = map[string]int64{}
		wg.Go(func() {
			for i := range each {
				events := []audit.Event{event(w), details(event(w), `{"i":1}`)}[:1+i%2]
				first, err := l.Append(context.Background(), events, nil)
				if err != nil {
					t.Error(err)
					return
				}
				for j, e := range events {
					placed[w][e.ID] = first + int64(j)
				}
			}
		})
	}
	wg.Wait()
	want := map[string]int64{}
	for _, m := range placed {
		for id, index := range m {
			want[id] = index
		}
	}
	got := map[string]int64{}
	for _, row := range collect(t, l.Rows(t.Context(), 0, 1<<40)) {
		got[row.Columns["id"]] = row.Index
	}
	if len(want) != writers*each*3/2 {
		t.Errorf("%d events acknowledged", len(want))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("acknowledged and stored differ: %s", diff)
	}
	Verify(t, l, b.Verifier)
}
