package sqlite

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
)

// Search implements store.Log.
func (l *Log) Search(ctx context.Context, q query.Query) iter.Seq2[audit.Row, error] {
	return func(yield func(audit.Row, error) bool) {
		size := l.last.Load().tree.N
		var found []audit.Row
		for row, err := range l.Rows(ctx, max(q.After+1, 0), size) {
			if err != nil {
				yield(audit.Row{}, err)
				return
			}
			e, err := audit.Parse(row.Body)
			if err != nil {
				yield(audit.Row{}, err)
				return
			}
			if e.Details = row.Details; !q.Match(row.Index, e) {
				continue
			}
			if found = append(found, row); !q.Newest {
				if !yield(row, nil) || q.Limit > 0 && len(found) == q.Limit {
					return
				}
			}
		}
		if q.Newest {
			slices.Reverse(found)
			for i, row := range found {
				if q.Limit > 0 && i == q.Limit || !yield(row, nil) {
					return
				}
			}
		}
	}
}

// Event implements store.Log.
func (l *Log) Event(ctx context.Context, id string) (audit.Row, error) {
	page, err := l.page(ctx, `SELECT `+sqlRowList+` FROM events WHERE id = ?`, id)
	if err != nil {
		return audit.Row{}, fmt.Errorf("audit store: event: %w", err)
	}
	if len(page) == 0 {
		return audit.Row{}, store.ErrNoEvent
	}
	return page[0], l.leaves(ctx, page)
}
