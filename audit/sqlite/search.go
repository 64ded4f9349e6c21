package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
	"sega/audit/store/backend"
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

// search yields what q selects until yield has had enough.
func (l *Log) search(ctx context.Context, q query.Query, yield func(audit.Row, audit.Event) bool) error {
	return l.spans(ctx, q, func(s *searcher, r run) (int, bool, error) {
		s.yield = yield
		return s.run(ctx, r)
	})
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
	s.page = min(s.page*2, backend.PageRows)
	return n
}

// candidates returns indexes in the order of the search.
func (s *searcher) candidates(ctx context.Context, r run) ([]int64, error) {
	var ids []int64
	if len(s.arms) > 0 {
		p := statement(s.arms, s.where, s.q.Newest)
		args := append([]any{r.from, r.to, r.from >> segmentBits, (r.to - 1) >> segmentBits}, p.args...)
		var err error
		if ids, err = s.ids(ctx, p.text, args...); err != nil {
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
	t := s.l.text
	view := t.view()
	if view.upTo < r.to {
		t.appended() // by another process, perhaps
	}
	var ids []int64
	indexed := min(max(view.upTo, r.from), r.to)
	for _, a := range s.texts {
		if indexed == r.from {
			break
		}
		more, err := view.find(ctx, a.pieces, r.from, indexed)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			t.spoiled(err, view.era)
			ids, indexed = nil, r.from
		}
		ids = append(ids, more...)
	}
	if t.view().era != view.era { // what was asked has been found broken, or is being built anew
		ids, indexed = nil, r.from
	}
	if indexed == r.to {
		return ids, nil
	}
	args := append([]any{indexed, r.to}, s.where.args...)
	rest, err := s.ids(ctx, `SELECT idx FROM events WHERE idx >= ? AND idx < ? AND (`+s.where.text+`)`, args...)
	return append(ids, rest...), err
}

// ids is queryIDs in a turn.
func (s *searcher) ids(ctx context.Context, text string, args ...any) (ids []int64, err error) {
	err = s.l.scans.run(ctx, func(db *sql.DB) (err error) {
		ids, err = queryIDs(ctx, db, text, args...)
		return err
	})
	return ids, err
}

// queryIDs runs a statement that selects indexes.
func queryIDs(ctx context.Context, db backend.Querier, text string, args ...any) ([]int64, error) {
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
		s.barren = 0
		if !s.yield(row, e) {
			return false, nil
		}
		if s.left--; s.left == 0 {
			return false, nil
		}
	}
	return true, nil
}
