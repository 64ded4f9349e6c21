package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store/storetest"
)

// asked are questions that every cube answers.
func asked() map[string]query.Query {
	field := func(name query.Name, op query.Op, value string) query.Expr {
		return query.Field{Name: name, Op: op, Value: value}
	}
	since := query.Since{At: time.Date(2025, 2, 1, 11, 0, 0, 0, time.UTC)}
	all := map[string]query.Expr{
		"everything": nil, "user": field(query.User, query.Equal, "ada.abel@corp.example"), "user's part": field(query.User, query.Contains, "ABEL"),
		"role": field(query.Role, query.Prefix, "billing-"), "host's part": field(query.Host, query.Contains, "prod"),
		"not denied": query.Not{X: field(query.Outcome, query.Equal, "denied")}, "since": since,
		"until":   query.And{field(query.Kind, query.Prefix, "session."), query.Until(since)},
		"nothing": field(query.User, query.Equal, "nobody"),
		"either":  query.Or{field(query.Host, query.Prefix, "web-"), field(query.Outcome, query.Equal, "intent")},
	}
	questions := map[string]query.Query{}
	for name, x := range all {
		questions[name] = query.Query{Where: x, After: -1, Intents: name == "everything"}
	}
	return questions
}

// checkMemory holds counts of the memory against those of SQL.
func checkMemory(t *testing.T, l *Log, questions map[string]query.Query) {
	t.Helper()
	memory, none := l.cube, newMemory()
	none.large = true
	for name, q := range questions {
		for _, by := range [][]query.Dimension{{query.ByUser, query.ByRole}, {query.ByUser, query.ByHost, query.ByDay}, {}} {
			l.cube = none
			want, err := l.Count(t.Context(), q, by)
			l.cube = memory
			if err != nil {
				t.Fatal(err)
			}
			got, err := l.Count(t.Context(), q, by)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s by %v: %s", name, by, diff)
			}
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		maxCells, fewSegments int64
		filled                bool
	}{
		"extended":  {maxCells, fewSegments, true},
		"anew":      {maxCells, 0, true},
		"too large": {1000, fewSegments, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.db")
			l, other := openTest(t, Config{Path: path}), openTest(t, Config{Path: path})
			l.cube.maxCells, l.cube.fewSegments = c.maxCells, c.fewSegments
			g := storetest.NewGenerator(8)
			for i := range 3 {
				from := []*Log{l, other, l}[i] // what another process appended is counted as well
				if _, err := from.Append(t.Context(), g.Events(audit.SegmentSize+100), nil); err != nil {
					t.Fatal(err)
				}
				checkMemory(t, l, map[string]query.Query{"everything": query.All()})
			}
			checkMemory(t, l, asked())
			_, tree := l.Head()
			if upTo := l.cube.upTo; (upTo == audit.RolledUp(tree.N)) != c.filled || l.cube.large == c.filled {
				t.Errorf("the memory covers %d of %d events, large %v", upTo, tree.N, l.cube.large)
			}
		})
	}
}

// TestMemoryOfTampered: a stored rollup that no log writes is an error, and no memory of it stays.
func TestMemoryOfTampered(t *testing.T) {
	path := filled(t, audit.SegmentSize)
	for name, statement := range map[string]string{
		"mark in a text": `UPDATE rollup_full SET kind = kind || x'ff'`, "cell mark": `UPDATE rollup_full SET target = target || x'fe'`,
		"negative": `UPDATE rollup_full SET n = -1`, "too many": `UPDATE rollup_full SET n = 1 << 40`,
	} {
		t.Run(name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "audit.db")
			copyFile(t, path, copied)
			meddle(t, copied, statement)
			l := openTest(t, Config{Path: copied})
			if got, err := l.Count(t.Context(), query.All(), []query.Dimension{query.ByUser, query.ByRole}); err == nil {
				t.Errorf("got %v", got)
			}
			if l.cube.upTo != 0 || l.cube.large || len(l.cube.turn) != 0 {
				t.Errorf("left as %+v", l.cube)
			}
		})
	}
}

// TestMemoryWaits: who waits for the memory goes when its context ends.
func TestMemoryWaits(t *testing.T) {
	l := openTest(t, Config{Path: filled(t, 1)})
	if err := l.cube.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.cube.reading.Store(true) // a question that needs little does not wait
	if got, err := l.Count(t.Context(), query.All(), []query.Dimension{query.ByKind}); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := l.Count(ctx, query.All(), []query.Dimension{query.ByUser, query.ByRole}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	l.cube.reading.Store(false)
	l.cube.give()
	if _, err := l.Count(t.Context(), query.All(), nil); err != nil {
		t.Error(err)
	}
}
