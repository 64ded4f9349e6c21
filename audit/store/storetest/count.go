package storetest

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
)

// manyEvents is how many events the tests of counts and rollups append: two segments and a half.
const manyEvents = audit.SegmentSize*5/2 + 7

// someDays is how many days events are spread over where days matter.
const someDays = 6

// spread returns a varied event on one of some days, often at the very edge of one.
func spread(r *rand.Rand) audit.Event {
	e := varied(r)
	e.Time = spreadTime(r)
	return e
}

func spreadTime(r *rand.Rand) time.Time {
	at := time.Unix(1_770_000_000, 0).UTC().Truncate(24 * time.Hour).Add(time.Duration(r.IntN(someDays)) * 24 * time.Hour)
	switch r.IntN(4) {
	case 0:
		return at
	case 1:
		return at.Add(-time.Nanosecond)
	}
	return at.Add(time.Duration(r.Int64N(int64(24 * time.Hour))))
}

// fillSpread appends n spread events in appends of many sizes and returns them.
func fillSpread(t *testing.T, l store.Log, r *rand.Rand, n int) []audit.Event {
	t.Helper()
	var events []audit.Event
	for len(events) < n {
		var batch []audit.Event
		for range min(1+r.IntN(700), n-len(events)) {
			batch = append(batch, spread(r))
		}
		mustAppend(t, l, batch...)
		events = append(events, batch...)
	}
	return events
}

// counted counts with Match what Count is asked for.
func counted(events []audit.Event, q query.Query, by []query.Dimension) []query.Group {
	counts := map[string]int64{}
	for i, e := range events {
		if !q.Match(int64(i), e) {
			continue
		}
		var key []string
		for _, d := range by {
			key = append(key, d.Of(e))
		}
		counts[strings.Join(key, "\x1f")]++
	}
	var groups []query.Group
	for key, n := range counts {
		g := query.Group{Count: n}
		if len(by) > 0 {
			g.Key = strings.Split(key, "\x1f")
		}
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b query.Group) int { return slices.Compare(a.Key, b.Key) })
	return groups
}

// testCount holds the backend's counts against counting with Match.
func testCount(t *testing.T, b Backend) {
	l := b.Open(t)
	r := rand.New(rand.NewPCG(3, 4))
	events := fillSpread(t, l, r, manyEvents)
	matched := 0
	for n := range 400 {
		if n == 200 {
			b.settle(t, l)
		}
		q, by := variedQuery(r), variedDimensions(r)
		if r.IntN(3) > 0 { // what rollups answer
			q.After, q.Before = -1, 0
			q.Where = overTime(r)
		}
		got, err := l.Count(t.Context(), q, by)
		if err != nil {
			t.Fatal(err)
		}
		want := counted(events, q, by)
		for i := range got {
			if len(got[i].Key) != len(by) {
				t.Fatalf("a key of %d dimensions: %q", len(by), got[i].Key)
			}
			if len(by) == 0 {
				got[i].Key = nil
			}
		}
		if len(got) > 0 || len(want) > 0 {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("query %#v by %v: %s", q, by, diff)
			}
		}
		matched += len(want)
	}
	if matched < 2000 {
		t.Errorf("the counts have only %d groups in all: they test little", matched)
	}
}

func variedDimensions(r *rand.Rand) []query.Dimension {
	by := query.Dimensions()
	r.Shuffle(len(by), func(i, j int) { by[i], by[j] = by[j], by[i] })
	return by[:r.IntN(4)]
}

// overTime is a question as rollups may answer it: fields that they know, within bounds of time.
func overTime(r *rand.Rand) query.Expr {
	x := query.And{}
	for range r.IntN(3) {
		part := rolledField(r)
		if r.IntN(4) == 0 {
			part = query.Or{part, rolledField(r)}
		}
		if r.IntN(4) == 0 {
			part = query.Not{X: part}
		}
		x = append(x, part)
	}
	if r.IntN(2) == 0 {
		x = append(x, query.Since{At: spreadTime(r)})
	}
	if r.IntN(2) == 0 {
		x = append(x, query.Until{At: spreadTime(r)})
	}
	return x
}

func rolledField(r *rand.Rand) query.Expr {
	known := []query.Name{query.User, query.Kind, query.Role, query.Host, query.Outcome, query.Resource}
	for {
		if f, ok := variedField(r).(query.Field); ok && slices.Contains(known, f.Name) {
			return f
		}
	}
}

func testCountNothing(t *testing.T, b Backend) {
	l := b.Open(t)
	if got, err := l.Count(t.Context(), query.All(), []query.Dimension{query.ByUser}); err != nil || len(got) != 0 {
		t.Errorf("an empty log by user: %v, %v", got, err)
	}
	mustAppend(t, l, event(1), event(2))
	got, err := l.Count(t.Context(), query.All(), nil)
	if err != nil || len(got) != 1 || got[0].Count != 2 || len(got[0].Key) != 0 {
		t.Errorf("by nothing: %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Count(ctx, query.All(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// testTooManyGroups has one group more than an answer may have, and asks the rollups and the rows.
func testTooManyGroups(t *testing.T, b Backend) {
	l := b.Open(t)
	for n := 0; n <= store.MaxGroups; {
		var events []audit.Event
		for ; n <= store.MaxGroups && len(events) < 5000; n++ {
			events = append(events, event(n))
		}
		mustAppend(t, l, events...)
	}
	by := []query.Dimension{query.ByUser}
	for name, where := range map[string]query.Expr{"all": nil, "a reason": query.Not{X: query.Field{Name: query.Reason, Op: query.Contains, Value: "nothing"}}} {
		if _, err := l.Count(t.Context(), query.Query{After: -1, Where: where}, by); !errors.Is(err, store.ErrTooManyGroups) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	got, err := l.Count(t.Context(), query.Query{After: -1, Where: query.Not{X: query.Field{Name: query.User, Value: "user7@corp.example"}}}, by)
	if err != nil || len(got) != store.MaxGroups {
		t.Errorf("%d groups, %v", len(got), err)
	}
}

// testRollups holds the rollups against audit.RollupKeys at every size of the log that matters.
func testRollups(t *testing.T, b Backend) {
	l := b.Open(t)
	r := rand.New(rand.NewPCG(5, 6))
	CheckRollups(t, l)
	fillSpread(t, l, r, audit.SegmentSize-1)
	CheckRollups(t, l)
	no := errors.New("no")
	if _, err := l.Append(t.Context(), []audit.Event{spread(r), spread(r)}, func(context.Context, store.Tx) error { return no }); err != no {
		t.Fatal(err)
	}
	duplicate := spread(r)
	if _, err := l.Append(t.Context(), []audit.Event{duplicate, duplicate}, nil); !errors.Is(err, store.ErrDuplicate) {
		t.Fatal(err)
	}
	CheckRollups(t, l)
	for range 3 {
		mustAppend(t, l, spread(r))
		CheckRollups(t, l)
	}
	var events []audit.Event
	for range audit.SegmentSize*2 + 5 { // two segments in one append
		events = append(events, spread(r))
	}
	mustAppend(t, l, events...)
	CheckRollups(t, l)
	l = b.Reopen(t, l)
	CheckRollups(t, l)
	fillSpread(t, l, r, audit.SegmentSize)
	CheckRollups(t, l)
	_, rollups := l.Rollups(t.Context())
	for range rollups {
		break
	}
	Verify(t, l, b.Verifier)
}

// CheckRollups derives the rollups anew from the log's rows and compares.
func CheckRollups(t *testing.T, l store.Log) {
	t.Helper()
	upTo, rollups := l.Rollups(t.Context())
	if _, tree := l.Head(); upTo != audit.RolledUp(tree.N) {
		t.Fatalf("rollups cover %d events of %d, want %d", upTo, tree.N, audit.RolledUp(tree.N))
	}
	got, want := map[audit.RollupKey]int64{}, map[audit.RollupKey]int64{}
	for rollup, err := range rollups {
		if err != nil {
			t.Fatal(err)
		}
		if _, again := got[rollup.RollupKey]; again {
			t.Fatalf("%+v comes twice", rollup)
		}
		got[rollup.RollupKey] = rollup.N
	}
	for _, row := range collect(t, l.Rows(t.Context(), 0, upTo)) {
		e, err := audit.Parse(row.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range audit.RollupKeys(e) {
			want[key]++
		}
	}
	if !maps.Equal(want, got) {
		t.Fatalf("rollups of %d events: %s", upTo, cmp.Diff(want, got))
	}
}

// testEventByID finds events by their ID as Rows gives them.
func testEventByID(t *testing.T, b Backend) {
	l := b.Open(t)
	if _, err := l.Event(t.Context(), event(0).ID); !errors.Is(err, store.ErrNoEvent) {
		t.Errorf("in an empty log: %v", err)
	}
	mustAppend(t, l, event(1), details(event(2), `{"command":"id"}`), event(3))
	for _, want := range collect(t, l.Rows(t.Context(), 0, 3)) {
		got, err := l.Event(t.Context(), want.Columns["id"])
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
	}
	for _, id := range []string{"", event(4).ID, "%", "' OR ''='"} {
		if _, err := l.Event(t.Context(), id); !errors.Is(err, store.ErrNoEvent) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// testHashes compares every stored hash with the tree computed from the rows.
func testHashes(t *testing.T, b Backend) {
	l := b.Open(t)
	const n = 200
	for i := range n {
		mustAppend(t, l, event(i))
	}
	var edge audit.Frontier
	var want []tlog.Hash
	for _, row := range collect(t, l.Rows(t.Context(), 0, n)) {
		want = edge.Add(tlog.RecordHash(row.Body), want)
	}
	var indexes []int64
	for i := range want {
		indexes = append(indexes, int64(len(want)-1-i))
	}
	got, err := l.Hashes(t.Context(), indexes)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d hashes, %v", len(got), err)
	}
	for i, index := range indexes {
		if got[i] != want[index] {
			t.Errorf("hash %d is %v", index, got[i])
		}
	}
	for _, beyond := range []int64{int64(len(want)), 1 << 40, -1} {
		if _, err := l.Hashes(t.Context(), []int64{0, beyond}); err == nil {
			t.Errorf("gave the hash %d of %d", beyond, len(want))
		}
	}
	if got, err := l.Hashes(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("no hashes: %v, %v", got, err)
	}
}
