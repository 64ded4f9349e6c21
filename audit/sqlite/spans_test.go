package sqlite

import (
	"errors"
	"path/filepath"
	"testing"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
	"sega/audit/store/storetest"
)

// TestShortText: texts that no index knows are looked for so far and no further, all others to the end.
func TestShortText(t *testing.T) {
	t.Parallel()
	const size = 8 * audit.SegmentSize
	l := openTest(t, Config{Path: filepath.Join(t.TempDir(), "audit.db"), patient: 2 * audit.SegmentSize})
	events := make([]audit.Event, 0, audit.SegmentSize)
	for i := 0; i < size; i++ {
		e := testEvent(i % 50)
		e.Reason = "deploy of it"
		if i == size-1 {
			e.Reason = "zq"
		}
		if events = append(events, e); len(events) == cap(events) {
			if _, err := l.Append(t.Context(), events, nil); err != nil {
				t.Fatal(err)
			}
			events = events[:0]
		}
	}
	zq, it, user := query.Text{Value: "zq"}, query.Text{Value: "it"}, query.Field{Name: query.User, Op: query.Equal, Value: "user49@corp.example"}
	_, tree := l.Head()
	if tree.N != size {
		t.Fatalf("%d events", tree.N)
	}
	for name, c := range map[string]struct {
		where  query.Expr
		after  int64
		newest bool
		found  int // by a search
		search bool
		count  bool
	}{
		"in vain":             {zq, -1, false, 0, false, false},
		"from the other end":  {zq, -1, true, 1, false, false},
		"or'd":                {query.Or{zq, user}, -1, false, size/50 + 1, true, false},
		"near":                {zq, size - audit.SegmentSize, false, 1, true, true},
		"in every event":      {it, -1, false, size - 1, true, false},
		"of a user":           {query.And{zq, user}, -1, false, 0, true, true},
		"of a field":          {query.Field{Name: query.Reason, Op: query.Contains, Value: "zq"}, -1, false, 0, false, false},
		"with another text":   {query.And{it, query.Text{Value: "deploy"}}, -1, false, size - 1, true, true},
		"no text":             {query.Field{Name: query.Node, Op: query.Equal, Value: "x"}, -1, false, 0, true, true},
		"three letters":       {query.Text{Value: "zqx"}, -1, false, 0, true, true},
		"not of two letters":  {query.Not{X: it}, -1, false, 1, true, true},
		"policy and a letter": {query.And{it, query.Not{X: query.Field{Name: query.Policy, Op: query.Equal, Value: "x"}}}, -1, false, size - 1, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			q := query.Query{Where: c.where, After: c.after, Newest: c.newest}
			found := 0
			var failed error
			for _, err := range l.Search(t.Context(), q) {
				if failed = err; err == nil {
					found++
				}
			}
			if (failed == nil) != c.search || failed != nil && !errors.Is(failed, store.ErrTooBroad) || found != c.found {
				t.Errorf("search found %d of %d, %v", found, c.found, failed)
			}
			groups, err := l.Count(t.Context(), q, nil)
			if (err == nil) != c.count || err != nil && !errors.Is(err, store.ErrTooBroad) {
				t.Errorf("count gave %v, %v", groups, err)
			}
			var n int64
			for _, g := range groups {
				n += g.Count
			}
			if c.count && n != int64(c.found) {
				t.Errorf("counted %d of %d", n, c.found)
			}
		})
	}
	storetest.CheckRollups(t, l)
}
