package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
)

// tally counts by key. Keys are of values that may hold any byte.
type tally struct {
	groups map[string]*query.Group
}

// add counts n more of a key.
func (t *tally) add(key []string, n int64) error {
	var name strings.Builder
	for _, k := range key {
		fmt.Fprintf(&name, "%d:%s", len(k), k)
	}
	if g := t.groups[name.String()]; g != nil {
		g.Count += n
		return nil
	}
	if len(t.groups) == store.MaxGroups {
		return store.ErrTooManyGroups
	}
	t.groups[name.String()] = &query.Group{Key: slices.Clone(key), Count: n}
	return nil
}

// sorted returns the groups by key.
func (t *tally) sorted() []query.Group {
	var groups []query.Group
	for _, g := range t.groups {
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b query.Group) int { return slices.Compare(a.Key, b.Key) })
	return groups
}

// Count implements store.Log.
func (l *Log) Count(ctx context.Context, q query.Query, by []query.Dimension) ([]query.Group, error) {
	t := tally{groups: map[string]*query.Group{}}
	if err := l.countRows(ctx, q, by, &t); err != nil {
		return nil, fmt.Errorf("audit store: count: %w", err)
	}
	return t.sorted(), nil
}

// countRows counts what a search finds.
func (l *Log) countRows(ctx context.Context, q query.Query, by []query.Dimension, t *tally) error {
	q.Limit, q.Newest = 0, false
	key := make([]string, len(by))
	for row, err := range l.Search(ctx, q) {
		if err != nil {
			return err
		}
		e, err := audit.Parse(row.Body)
		if err != nil {
			return err
		}
		for i, d := range by {
			key[i] = d.Of(e)
		}
		if err := t.add(key, 1); err != nil {
			return err
		}
	}
	return nil
}
