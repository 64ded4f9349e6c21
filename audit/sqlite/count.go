package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
)

// tally counts by key. Keys are of values that may hold any byte.
type tally struct {
	by     []query.Dimension
	groups map[string]*query.Group
	events int64
	name   []byte // of the last key
}

// add counts n more of a key.
func (t *tally) add(key []string, n int64) error {
	t.events += n
	t.name = t.name[:0]
	for _, k := range key {
		t.name = append(append(strconv.AppendInt(t.name, int64(len(k)), 10), ':'), k...)
	}
	if g := t.groups[string(t.name)]; g != nil {
		g.Count += n
		return nil
	}
	if len(t.groups) == store.MaxGroups {
		return store.ErrTooManyGroups
	}
	t.groups[string(t.name)] = &query.Group{Key: slices.Clone(key), Count: n}
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
	t := tally{by: by, groups: map[string]*query.Group{}}
	var err error
	if c, ok := cubeFor(q, by); ok {
		err = l.countRolled(ctx, c, q, &t)
	} else if ofEvents.where(q).exact {
		err = l.countColumns(ctx, q, &t)
	} else if n, ok := leanFor(q, by); ok {
		err = l.countLean(ctx, q, n, &t)
	} else {
		err = l.countRows(ctx, q, &t)
	}
	if err != nil {
		return nil, fmt.Errorf("audit store: count: %w", err)
	}
	return t.sorted(), nil
}

// countRolled counts by a cube. The days at whose edge since or until cut, and the segment that is
// not complete, are counted by rows. All is read in one snapshot.
func (l *Log) countRolled(ctx context.Context, c cube, q query.Query, t *tally) error {
	timeless, w := apart(q.Where)
	q.Where = timeless
	days, edges := w.days()
	tx, upTo, err := l.countDays(ctx, c, q, days, t)
	if tx != nil {
		defer tx.Rollback()
	}
	if err != nil {
		return err
	}
	where := ofEvents.where(q)
	for _, edge := range edges {
		if err := t.query(ctx, tx, countEdge(t.by, where, edge, upTo)); err != nil {
			return err
		}
	}
	return t.query(ctx, tx, countOpen(t.by, where, w, upTo))
}

// countDays counts whole days by a cube, in memory or by SQL, and returns the snapshot in which it did.
func (l *Log) countDays(ctx context.Context, c cube, q query.Query, days run, t *tally) (*sql.Tx, int64, error) {
	give := func() {}
	remembered := wide(c, days) || !l.cube.reading.Load()
	if remembered {
		if err := l.cube.take(ctx); err != nil {
			return nil, 0, err
		}
		give = sync.OnceFunc(l.cube.give)
		defer give()
	}
	tx, upTo, err := l.snapshot(ctx) // begun in turn: the memory is never beyond it
	if err != nil {
		return nil, 0, err
	}
	if remembered && l.cube.wanted(c, days) {
		err := l.cube.follow(ctx, tx, upTo)
		if err == nil {
			return tx, upTo, l.cube.count(ctx, q, days, t)
		}
		if !errors.Is(err, errLarge) {
			return tx, upTo, err
		}
	}
	give()
	return tx, upTo, t.query(ctx, tx, c.count(t.by, c.columns().where(q), days))
}

// countColumns counts rows by their columns alone, a span at a time.
func (l *Log) countColumns(ctx context.Context, q query.Query, t *tally) error {
	q.Limit, q.Newest = 0, false
	return l.spans(ctx, q, func(s *searcher, r run) (int, bool, error) {
		before := t.events
		var p predicate
		if s.walk {
			p = predicate{text: `idx >= ? AND idx < ? AND (` + s.where.text + `)`, args: append([]any{r.from, r.to}, s.where.args...)}
		} else {
			p = statement(s.arms, s.where, false)
			p.text, p.args = `idx IN (`+p.text+`)`, append([]any{r.from, r.to, r.from >> segmentBits, (r.to - 1) >> segmentBits}, p.args...)
		}
		p.text = grouped("events NOT INDEXED", t.by, eventColumns, "count(*)", p.text)
		err := t.query(ctx, l.reads, p)
		return int(t.events - before), err == nil, err
	})
}

// countRows counts what a search finds.
func (l *Log) countRows(ctx context.Context, q query.Query, t *tally) error {
	q.Limit, q.Newest = 0, false
	key := make([]string, len(t.by))
	var full error
	add := func(_ audit.Row, e audit.Event) bool {
		for i, d := range t.by {
			key[i] = d.Of(e)
		}
		full = t.add(key, 1)
		return full == nil
	}
	err := l.spans(ctx, q, func(s *searcher, r run) (int, bool, error) {
		s.yield = add
		before := s.barren
		found, more, err := s.run(ctx, r)
		s.barren = before // a count goes through all of the log, matches or not
		return found, more, err
	})
	return errors.Join(err, full)
}

// query adds what a statement counts: a column for each dimension, and the number.
func (t *tally) query(ctx context.Context, db querier, p predicate) error {
	rows, err := db.QueryContext(ctx, p.text, p.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	key, dest := make([]string, len(t.by)), make([]any, len(t.by)+1)
	var n int64
	for i := range key {
		dest[i] = &key[i]
	}
	dest[len(t.by)] = &n
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		if err := t.named(key, n); err != nil {
			return err
		}
	}
	return rows.Err()
}

// named adds what a statement has counted: resources become names, days texts.
func (t *tally) named(key []string, n int64) error {
	if n == 0 {
		return nil
	}
	for i, d := range t.by {
		switch d {
		case query.ByRole:
			key[i] = strings.TrimPrefix(key[i], audit.ResourceRole)
		case query.ByHost:
			key[i] = strings.TrimPrefix(key[i], audit.ResourceHost)
		case query.ByDay:
			day, err := strconv.ParseInt(key[i], 10, 64)
			if err != nil {
				return err
			}
			key[i] = dayText(day)
		}
	}
	return t.add(key, n)
}
