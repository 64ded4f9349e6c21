package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
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
	manyFound = 20_000 // candidates of a span from which on spans grow no more
)

// Search implements store.Log, over the log as it is when the iteration begins.
func (l *Log) Search(ctx context.Context, q query.Query) iter.Seq2[audit.Row, error] {
	return func(yield func(audit.Row, error) bool) {
		err := l.search(ctx, q, func(row audit.Row, _ audit.Event) bool { return yield(row, nil) })
		if err != nil {
			yield(audit.Row{}, fmt.Errorf("audit store: search: %w", err))
		}
	}
}

// Event implements store.Log.
func (l *Log) Event(ctx context.Context, id string) (audit.Row, error) {
	page, _, err := l.page(ctx, `SELECT `+sqlRowList+` FROM events WHERE id = ?`, id)
	if err != nil {
		return audit.Row{}, fmt.Errorf("audit store: event: %w", err)
	}
	if len(page) == 0 {
		return audit.Row{}, store.ErrNoEvent
	}
	return page[0], l.leaves(ctx, page)
}

// searcher is one search on its way through the log.
type searcher struct {
	l      *Log
	q      query.Query
	where  predicate
	window window
	arms   []arm // of events
	texts  []arm // of the text index
	walk   bool
	from   int64 // what is left of the log: from..to-1
	to     int64
	left   int // rows that may still be yielded; -1 for any number
	page   int // rows to read at a time
	yield  func(audit.Row, audit.Event) bool
}

// search yields what q selects until yield has had enough.
func (l *Log) search(ctx context.Context, q query.Query, yield func(audit.Row, audit.Event) bool) error {
	return l.spans(ctx, q, func(s *searcher, r run) (int, bool, error) {
		s.yield = yield
		return s.run(ctx, r)
	})
}

// spans calls visit for one range of the log after the other, in the order that q asks for, until
// it returns false. visit also returns how many candidates it has found.
func (l *Log) spans(ctx context.Context, q query.Query, visit func(*searcher, run) (int, bool, error)) error {
	s := l.searcher(q)
	if s.window.since >= s.window.until || !s.walk && len(s.arms)+len(s.texts) == 0 {
		return ctx.Err()
	}
	for segments := int64(1); s.from < s.to; {
		runs, err := s.timely(ctx, s.cut(segments))
		if err != nil {
			return err
		}
		found := 0
		for _, r := range runs {
			n, more, err := visit(s, r)
			if found += n; err != nil || !more {
				return err
			}
		}
		if found < manyFound {
			segments = min(segments*2, maxSpan)
		}
	}
	return ctx.Err()
}

func (l *Log) searcher(q query.Query) *searcher {
	p := planOf(q.Where, false)
	s := &searcher{l: l, q: q, where: ofEvents.where(q), window: windowOf(q.Where, false), walk: p.walk,
		from: max(q.After+1, 0), to: l.last.Load().tree.N, left: -1, page: 100}
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
	rows, err := s.l.reads.QueryContext(ctx, `WITH RECURSIVE seg (n) AS (SELECT ? UNION ALL SELECT n + 1 FROM seg WHERE n < ?)
		SELECT n FROM seg WHERE EXISTS (SELECT 1 FROM events INDEXED BY events_time WHERE (idx >> 11) = n AND time >= ? AND time < ?)`,
		r.from>>segmentBits, (r.to-1)>>segmentBits, s.window.since, s.window.until)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var runs []run
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
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
	return runs, rows.Err()
}

// run searches a range whose segments all count.
func (s *searcher) run(ctx context.Context, r run) (found int, more bool, err error) {
	if s.walk {
		return s.walkRows(ctx, r)
	}
	ids, err := s.candidates(ctx, r)
	if err != nil {
		return 0, false, err
	}
	found = len(ids)
	for len(ids) > 0 {
		n := min(len(ids), s.pageSize())
		more, err := s.rows(ctx, ids[:n])
		if err != nil || !more {
			return found, false, err
		}
		ids = ids[n:]
	}
	return found, true, nil
}

// pageSize is how many rows to read next: few at first, many where many are wanted.
func (s *searcher) pageSize() int {
	n := s.page
	s.page = min(s.page*2, pageRows)
	return n
}

// candidates returns indexes in the order of the search.
func (s *searcher) candidates(ctx context.Context, r run) ([]int64, error) {
	var ids []int64
	if len(s.arms) > 0 {
		p := statement(s.arms, s.where, s.q.Newest)
		args := append([]any{r.from, r.to, r.from >> segmentBits, (r.to - 1) >> segmentBits}, p.args...)
		var err error
		if ids, err = queryIDs(ctx, s.l.reads, p.text, args...); err != nil {
			return nil, err
		}
	}
	if len(s.texts) == 0 {
		return ids, nil
	}
	more, err := s.textual(ctx, r)
	if err != nil {
		return nil, err
	}
	ids = append(ids, more...)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if s.q.Newest {
		slices.Reverse(ids)
	}
	return ids, nil
}

// textual asks the text index as far as it goes, and the rows behind it.
func (s *searcher) textual(ctx context.Context, r run) ([]int64, error) {
	var ids []int64
	if s.l.text.upTo.Load() < r.to {
		s.l.text.appended() // by another process, perhaps
	}
	indexed := min(max(s.l.text.upTo.Load(), r.from), r.to)
	if indexed > r.from {
		for _, a := range s.texts {
			more, err := s.l.text.find(ctx, a.pieces, r.from, indexed)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				s.l.text.spoiled(err)
				ids, indexed = nil, r.from
				break
			}
			ids = append(ids, more...)
		}
	}
	if indexed == r.to {
		return ids, nil
	}
	args := append([]any{indexed, r.to}, s.where.args...)
	rest, err := queryIDs(ctx, s.l.reads, `SELECT idx FROM events WHERE idx >= ? AND idx < ? AND (`+s.where.text+`)`, args...)
	return append(ids, rest...), err
}

// queryIDs runs a statement that selects indexes.
func queryIDs(ctx context.Context, db querier, text string, args ...any) ([]int64, error) {
	rows, err := db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// rows yields what matches among the rows of ids; more is false where the consumer has had enough.
func (s *searcher) rows(ctx context.Context, ids []int64) (more bool, err error) {
	for len(ids) > 0 {
		list, err := json.Marshal(ids)
		if err != nil {
			return false, err
		}
		args := append([]any{string(list)}, s.where.args...)
		page, whole, err := s.l.page(ctx, `SELECT `+sqlRowList+` FROM events WHERE idx IN (SELECT value FROM json_each(?)) AND (`+s.where.text+`) ORDER BY idx`+order(s.q.Newest), args...)
		if err != nil {
			return false, err
		}
		if more, err := s.match(page); err != nil || !more {
			return false, err
		}
		if whole {
			return true, nil
		}
		ids = ids[slices.Index(ids, page[len(page)-1].Index)+1:]
	}
	return true, nil
}

// walkRows yields what matches among all rows of a range.
func (s *searcher) walkRows(ctx context.Context, r run) (found int, more bool, err error) {
	for r.from < r.to {
		n := s.pageSize()
		args := append(append([]any{r.from, r.to}, s.where.args...), n)
		page, whole, err := s.l.page(ctx, `SELECT `+sqlRowList+` FROM events NOT INDEXED WHERE idx >= ? AND idx < ? AND (`+s.where.text+`) ORDER BY idx`+order(s.q.Newest)+` LIMIT ?`, args...)
		if err != nil {
			return found, false, err
		}
		found += len(page)
		if more, err := s.match(page); err != nil || !more {
			return found, false, err
		}
		if whole && len(page) < n {
			break
		}
		if last := page[len(page)-1].Index; s.q.Newest {
			r.to = last
		} else {
			r.from = last + 1
		}
	}
	return found, true, nil
}

// match yields the rows of a page that the query selects.
func (s *searcher) match(page []audit.Row) (more bool, err error) {
	for _, row := range page {
		e, err := audit.Parse(row.Body)
		if err != nil {
			return false, fmt.Errorf("event %d: %w", row.Index, err)
		}
		if e.Details = row.Details; !s.q.Match(row.Index, e) {
			continue
		}
		if !s.yield(row, e) {
			return false, nil
		}
		if s.left--; s.left == 0 {
			return false, nil
		}
	}
	return true, nil
}
