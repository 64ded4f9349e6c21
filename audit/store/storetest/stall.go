package storetest

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"testing"
	"time"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
)

// testStalled keeps consumers of rollups, rows and searches waiting: nobody else waits with them,
// and what the rollups' consumers get in the end is what there was when they asked.
func testStalled(t *testing.T, b Backend) {
	l := b.Open(t)
	r := rand.New(rand.NewPCG(9, 9))
	fillSpread(t, l, r, audit.SegmentSize+20)
	var rest []func() map[audit.RollupKey]int64
	for range 6 {
		upTo, rollups := l.Rollups(t.Context())
		if upTo != audit.SegmentSize {
			t.Fatalf("rollups cover %d events", upTo)
		}
		next, stop := iter.Pull2(rollups)
		defer stop()
		got := map[audit.RollupKey]int64{}
		take := func() bool {
			rollup, err, ok := next()
			if err != nil {
				t.Error(err)
			}
			if ok {
				got[rollup.RollupKey] = rollup.N
			}
			return ok && err == nil
		}
		take()
		rest = append(rest, func() map[audit.RollupKey]int64 {
			for take() {
			}
			return got
		})
	}
	for range 6 {
		for _, rows := range []iter.Seq2[audit.Row, error]{l.Rows(t.Context(), 0, 100), l.Search(t.Context(), query.All())} {
			next, stop := iter.Pull2(rows)
			defer stop()
			if _, err, ok := next(); err != nil || !ok {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := l.Read(ctx, func(context.Context, store.Querier) error { return nil }); err != nil {
		t.Errorf("state cannot be read: %v", err)
	}
	if _, err := l.Hashes(ctx, []int64{0}); err != nil {
		t.Errorf("hashes cannot be read: %v", err)
	}
	if _, err := l.Count(ctx, query.All(), []query.Dimension{query.ByKind}); err != nil {
		t.Errorf("nobody can count: %v", err)
	}
	for _, err := range l.Search(ctx, query.Query{After: -1, Where: query.Field{Name: query.Kind, Value: audit.KindSSHHop}}) {
		if err != nil {
			t.Errorf("nobody can search: %v", err)
		}
		break
	}
	want := rest[0]()
	fillSpread(t, l, r, audit.SegmentSize)
	for _, rest := range rest[1:] {
		var n int64
		got := rest()
		for key, count := range got {
			if n += count; want[key] != count {
				t.Fatalf("%+v counts %d, then %d", key, want[key], count)
			}
		}
		if len(got) != len(want) || n != 3*audit.SegmentSize {
			t.Fatalf("%d rollups of %d, which count %d", len(got), len(want), n)
		}
	}
	CheckRollups(t, l)
}

// testGivenUp: whoever waits for what others hold leaves when their context ends.
func testGivenUp(t *testing.T, b Backend) {
	l := b.Open(t)
	fillSpread(t, l, rand.New(rand.NewPCG(9, 10)), audit.SegmentSize)
	ctx, cancel := context.WithCancelCause(t.Context())
	no := errors.New("no longer wanted")
	cancel(no)
	_, rollups := l.Rollups(ctx)
	for _, err := range rollups {
		if !errors.Is(err, no) && !errors.Is(err, context.Canceled) {
			t.Errorf("rollups: %v", err)
		}
	}
	if _, err := l.Count(ctx, query.All(), nil); !errors.Is(err, no) && !errors.Is(err, context.Canceled) {
		t.Errorf("count: %v", err)
	}
	for _, err := range l.Search(ctx, query.All()) {
		if !errors.Is(err, no) && !errors.Is(err, context.Canceled) {
			t.Errorf("search: %v", err)
		}
	}
	for range 20 { // nothing was kept
		stopped, stop := context.WithCancel(t.Context())
		_, _ = l.Rollups(stopped) // and never iterated
		stop()
	}
	CheckRollups(t, l)
}
