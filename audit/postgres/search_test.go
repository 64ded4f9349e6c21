package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store/storetest"
)

// waitIndexed waits until the text index covers all complete segments.
func waitIndexed(tb testing.TB, l *Log) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Minute) // of millions of events in a benchmark
	defer cancel()
	_, tree := l.Head()
	if err := l.Indexed(ctx, tree.N); err != nil {
		tb.Fatal(err)
	}
}

// TestTextIndex searches events of which most are in the text index and some are not yet, with the
// trigram index and without it, and holds the answers against query.Query.Match.
func TestTextIndex(t *testing.T) {
	s := server(t)
	for _, trigrams := range []bool{true, false} {
		t.Run(fmt.Sprintf("trigrams %v", trigrams), func(t *testing.T) {
			db := s.NewDatabase(t)
			l := openTest(t, config(t, s.URL(db)))
			if !trigrams {
				eventually(t, "no trigrams", func() error { // the indexer that begins may be in its way: a deadlock
					return s.Exec(t.Context(), db, `DROP EXTENSION IF EXISTS pg_trgm CASCADE`)
				})
			}
			g := storetest.NewGeneratorOf(7, 3*audit.SegmentSize)
			var events []audit.Event
			for range 2*audit.SegmentSize + 500 {
				events = append(events, g.Next())
			}
			odd := []string{"Ünïcode ÄRGER", "a\x00b", "100%_\\", "line\nbreak", "<&>\u2028", "İstanbul ΟΔΟΣ"}
			for i := range events {
				if i%97 == 0 {
					events[i].Reason, events[i].PolicyIDs = odd[i/97%len(odd)], append([]string{"a]b", "q\"q", "É", "x\\"}[:i%5], "b")
				}
				if i%211 == 0 {
					events[i].Kind, events[i].Details = audit.KindSessionCommand, []byte([]string{`{"command":"r\u006d -rf \/tmp"}`, `{"raw":"cm0gLXJmIP8="}`, `{"COMMAND":"RM -RF É"}`}[i/211%3])
				}
			}
			if _, err := l.Append(t.Context(), events, nil); err != nil {
				t.Fatal(err)
			}
			waitIndexed(t, l)
			r := rand.New(rand.NewPCG(3, 4))
			matched := 0
			for range 150 {
				q := textQuery(r)
				var want, got []int64
				for n := range events {
					i := n
					if q.Newest {
						i = len(events) - 1 - n
					}
					if q.Match(int64(i), events[i]) && (q.Limit == 0 || len(want) < q.Limit) {
						want = append(want, int64(i))
					}
				}
				for row, err := range l.Search(t.Context(), q) {
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, row.Index)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("query %#v: %s", q, diff)
				}
				matched += len(want)
			}
			if matched < 500 {
				t.Errorf("the queries match %d rows in all: they test little", matched)
			}
		})
	}
}

// TestSparser: of a person with many events and a text, whichever is the rarer leads the search.
func TestSparser(t *testing.T) {
	s := server(t)
	l := openTest(t, config(t, s.URL(s.NewDatabase(t))))
	const size = 6 * audit.SegmentSize
	for from := 0; from < size; from += audit.SegmentSize {
		var events []audit.Event
		for i := from; i < from+audit.SegmentSize; i++ {
			e := testEvent(i)
			if e.Reason = "a word that many write"; i%4000 == 7 {
				e.Reason = "what hardly anybody writes"
			}
			if i%2 == 1 {
				e.Actor.Email = "busy@corp.example"
			}
			events = append(events, e)
		}
		if _, err := l.Append(t.Context(), events, nil); err != nil {
			t.Fatal(err)
		}
	}
	waitIndexed(t, l)
	for text, c := range map[string]struct {
		blocks bool
		found  int
	}{"many write": {false, size/2 - 4}, "hardly anybody": {true, 4}, "nobody at all": {true, 0}} {
		for _, newest := range []bool{false, true} {
			q := query.Query{After: -1, Newest: newest, Where: query.And{query.Text{Value: text}, query.Field{Name: query.User, Op: query.Equal, Value: "busy@corp.example"}}}
			p, err := l.plan(t.Context(), q)
			if err != nil || slices.ContainsFunc(p.parts, func(x part) bool { return x.blocks != nil }) != c.blocks {
				t.Errorf("%q, newest %v: the plan is %+v, %v", text, newest, p, err)
			}
			found := 0
			for _, err := range l.Search(t.Context(), q) {
				if err != nil {
					t.Fatal(err)
				}
				found++
			}
			if found != c.found {
				t.Errorf("%q, newest %v: found %d, want %d", text, newest, found, c.found)
			}
		}
	}
}

// textQuery asks for some text in some way.
func textQuery(r *rand.Rand) query.Query {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	text := func() query.Expr {
		v := pick("rm -rf", "RM -rf", "Ärger", "ÄRGER", "ünï", "Ünï", "b", "a\x00b", "\x00", "%_", "\\", "e\nb", "<&", "\u2028", "οδος", "ΟΔΟΣ", "İst", "incident", "OPS", "a", "-rf /tmp", "-RF É", "no such text", "\xff")
		if r.IntN(3) == 0 {
			return query.Field{Name: query.Name(pick("reason", "ticket")), Op: query.Op(r.IntN(3)), Value: v}
		} else if r.IntN(3) == 0 {
			return query.Field{Name: query.Name(pick("source", "node", "policy")), Op: query.Op(r.IntN(3)),
				Value: pick("198.51.100.7", "198.51.10", "broker-1", "BASTION-1", "default-deny", "ssh-by-", "a]b", "\"", "É", "b", "x\\", "\xff")}
		}
		return query.Text{Value: v, Envelope: r.IntN(3) == 0}
	}
	q := query.Query{After: -1, Intents: r.IntN(2) == 0, Newest: r.IntN(2) == 0, Limit: []int{0, 1, 10, 200}[r.IntN(4)]}
	q.Where = text()
	switch r.IntN(5) {
	case 0:
		q.Where = query.And{q.Where, text()}
	case 1:
		q.Where = query.Or{q.Where, text()}
	case 2:
		q.Where = query.And{q.Where, query.Field{Name: query.Kind, Op: query.Prefix, Value: pick("ssh.", "session.", "aws")}}
	case 3:
		q.Where = query.And{query.Not{X: text()}, q.Where}
	}
	if r.IntN(4) == 0 {
		q.After = int64(r.IntN(5000))
	}
	if r.IntN(4) == 0 {
		q.Before = int64(r.IntN(5000))
	}
	return q
}

// FuzzPlain holds what the indexer reads of a body against the event that it was made of.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{"", "deploy", "\"", "\\", "\n", "é", ",\"ticket\":\"x", "<&>", "\u2028", "\x00", "]", "[", ",\"policy_ids\":["} {
		f.Add(s, s, s, "default-deny")
		f.Add("a", "b", "], \"", s)
	}
	f.Fuzz(func(t *testing.T, reason, source, one, two string) {
		e := testEvent(1)
		e.Reason, e.RequestID, e.Resource, e.Source, e.Node, e.PolicyIDs = reason, source, reason, source, one, []string{one, two}
		row, err := audit.Seal(e)
		if err != nil {
			return // not UTF-8, or too long
		}
		got, want := blockText{seen: map[string]bool{}}, blockText{seen: map[string]bool{}}
		for _, s := range []string{reason, source, one, two} {
			want.line([]byte(s))
			if jsonText(s) != s { // written with an escape: the whole is parsed
				want.opaque = true
			}
		}
		if ok := got.plain(row.Body); !ok {
			if !want.opaque && !strings.ContainsAny(one+two, "]") {
				t.Errorf("%s was not read", row.Body)
			}
			return
		}
		if want.opaque || *got.text() != *want.text() {
			t.Errorf("%s was read as %q, want %q", row.Body, *got.text(), *want.text())
		}
	})
}
