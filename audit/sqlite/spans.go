package sqlite

import (
	"context"
	"fmt"
	"slices"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
)

// Bounds of a search. It looks into one segment first and into twice as many each time, so that a
// search with many matches answers from the first, and one with few needs few statements. What it
// collects before it reads rows is bounded by the events of a span: a million indexes, 8 MiB.
const (
	maxSpan   = 512    // segments
	shortSpan = 32     // segments that are walked for a short text at a time
	manyFound = 20_000 // candidates of a span from which on spans grow no more
)

// searcher is one search on its way through the log.
type searcher struct {
	l      *Log
	q      query.Query
	where  predicate
	window window
	arms   []arm // of events
	texts  []arm // of the text index
	walk   bool

	short   bool  // it walks because of a text that the text index does not know
	patient int64 // events that it may walk in vain
	barren  int64 // that it has

	from  int64 // what is left of the log: from..to-1
	to    int64
	left  int // rows that may still be yielded; -1 for any number
	page  int // rows to read at a time
	yield func(audit.Row, audit.Event) bool
}

// spans calls visit for one range of the log after the other, in the order that q asks for, until
// it returns false. visit also returns how many candidates it has found.
func (l *Log) spans(ctx context.Context, q query.Query, visit func(*searcher, run) (int, bool, error)) error {
	s := l.searcher(q)
	if s.window.since >= s.window.until || !s.walk && len(s.arms)+len(s.texts) == 0 {
		return ctx.Err()
	}
	longest := int64(maxSpan)
	if s.short {
		longest = shortSpan
	}
	for segments := int64(1); s.from < s.to; {
		runs, err := s.timely(ctx, s.cut(segments))
		if err != nil {
			return err
		}
		found := 0
		for _, r := range runs {
			if err := s.patience(r); err != nil {
				return err
			}
			n, more, err := visit(s, r)
			if found += n; err != nil || !more {
				return err
			}
		}
		if found < manyFound {
			segments = min(segments*2, longest)
		}
	}
	return ctx.Err()
}

func (l *Log) searcher(q query.Query) *searcher {
	p := planOf(q.Where, false)
	s := &searcher{l: l, q: q, where: ofEvents.where(q), window: windowOf(q.Where, false), walk: p.walk, short: p.walk && short(q.Where), patient: l.cfg.patient,
		from: max(q.After+1, 0), to: l.known.Head().Tree.N, left: -1, page: 100}
	s.arms, s.texts = p.split()
	if q.Before > 0 {
		s.to = min(s.to, q.Before)
	}
	if q.Limit > 0 {
		s.left = q.Limit
	}
	return s
}

// run is a range of indexes, from..to-1.
type run struct{ from, to int64 }

// cut takes so many segments from the end of the log where the search goes on.
func (s *searcher) cut(segments int64) run {
	r := run{s.from, s.to}
	if s.q.Newest {
		r.from = max(r.from, ((r.to-1)>>segmentBits-segments+1)<<segmentBits)
		s.to = r.from
	} else {
		r.to = min(r.to, (r.from>>segmentBits+segments)<<segmentBits)
		s.from = r.to
	}
	return r
}

// timely leaves of a range the segments that have an event in the window, in the order of the search.
func (s *searcher) timely(ctx context.Context, r run) ([]run, error) {
	if s.window == always {
		return []run{r}, nil
	}
	segments, err := s.ids(ctx, `WITH RECURSIVE seg (n) AS (SELECT ? UNION ALL SELECT n + 1 FROM seg WHERE n < ?)
		SELECT n FROM seg WHERE EXISTS (SELECT 1 FROM events INDEXED BY events_time WHERE (idx >> 11) = n AND time >= ? AND time < ?)`,
		r.from>>segmentBits, (r.to-1)>>segmentBits, s.window.since, s.window.until)
	var runs []run
	for _, n := range segments {
		next := run{max(n<<segmentBits, r.from), min((n+1)<<segmentBits, r.to)}
		if last := len(runs) - 1; last >= 0 && runs[last].to == next.from {
			runs[last].to = next.to
		} else {
			runs = append(runs, next)
		}
	}
	if s.q.Newest {
		slices.Reverse(runs)
	}
	return runs, err
}

// maxBarren is how many events are walked for a short text without a match, or for a count: two seconds' worth.
const maxBarren = 1 << 18

// errShortText is what a text of fewer than three letters, which no index knows, ends with where it
// would be looked for in more than maxBarren events in vain.
var errShortText = fmt.Errorf("%w: a text of one or two letters", store.ErrTooBroad)

// patience ends a search for a short text that walks too long in vain.
func (s *searcher) patience(r run) error {
	if !s.short {
		return nil
	}
	if s.barren > s.patient {
		return errShortText
	}
	s.barren += r.to - r.from
	return nil
}

// short reports whether an expression asks for a text of fewer than three letters.
func short(x query.Expr) bool {
	switch x := x.(type) {
	case query.And:
		return slices.ContainsFunc(x, short)
	case query.Or:
		return slices.ContainsFunc(x, short)
	case query.Text:
		return x.Value != "" && len(textPieces(x.Value)) == 0
	case query.Field:
		return (x.Name == query.Reason || x.Name == query.Ticket) && x.Value != "" && len(textPieces(x.Value)) == 0
	}
	return false
}
