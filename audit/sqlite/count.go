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
	"sega/audit/store/backend"
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
	} else {
		err = l.scans.turns.Count(ctx, func() error { return l.countEvents(ctx, q, &t) })
	}
	if err != nil {
		return nil, fmt.Errorf("audit store: count: %w", err)
	}
	return t.sorted(), nil
}

// countEvents counts what no cube knows.
func (l *Log) countEvents(ctx context.Context, q query.Query, t *tally) error {
	if ofEvents.where(q).exact {
		return l.countColumns(ctx, q, t)
	}
	if n, ok := leanFor(q, t.by); ok {
		return l.countLean(ctx, q, n, t)
	}
	return l.countRows(ctx, q, t)
}

// countRolled counts by a cube. The days at whose edge since or until cut, and the segment that is
// not complete, are counted by rows. All is read in one snapshot. Who waits for the memory keeps
// nobody else from counting.
func (l *Log) countRolled(ctx context.Context, c cube, q query.Query, t *tally) error {
	timeless, w := apart(q.Where)
	q.Where = timeless
	days, edges := w.days()
	give := func() {}
	remembered := wide(c, days) || !l.cube.reading.Load()
	if remembered {
		if err := l.cube.take(ctx); err != nil {
			return err
		}
		give = sync.OnceFunc(l.cube.give)
		defer give()
	}
	return l.scans.turns.Count(ctx, func() error {
		return l.scans.run(ctx, func(db *sql.DB) error {
			tx, upTo, err := snapshot(ctx, db) // begun in turn: the memory is never beyond it
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if err := l.countDays(ctx, tx, upTo, c, q, days, t, remembered, give); err != nil {
				return err
			}
			give()
			return t.rest(ctx, tx, upTo, q, w, edges)
		})
	})
}

// rest counts what the whole days of a cube leave out.
func (t *tally) rest(ctx context.Context, tx *sql.Tx, upTo int64, q query.Query, w window, edges []window) error {
	where := ofEvents.where(q)
	for _, edge := range edges {
		if err := t.query(ctx, tx, countEdge(t.by, where, edge, upTo)); err != nil {
			return err
		}
	}
	return t.query(ctx, tx, countOpen(t.by, where, w, upTo))
}

// countDays counts whole days by a cube, in memory or, which gives the memory back, by SQL.
func (l *Log) countDays(ctx context.Context, tx *sql.Tx, upTo int64, c cube, q query.Query, days run, t *tally, remembered bool, give func()) error {
	if remembered && l.cube.wanted(c, days) {
		err := l.cube.follow(ctx, tx, upTo)
		if err == nil {
			return l.cube.count(ctx, q, days, t)
		}
		if !errors.Is(err, errLarge) {
			return err
		}
	}
	give()
	if err := t.query(ctx, tx, c.count(t.by, c.columns().where(q), days)); err != nil {
		return err
	}
	rest, err := waiting(ctx, tx, upTo)
	if err != nil {
		return err
	}
	return t.waiting(c, q, days, rest)
}

// waiting counts the rollups that the cube does not hold yet.
func (t *tally) waiting(c cube, q query.Query, days run, rest rolling) error {
	key := make([]string, len(t.by))
	for _, r := range rest.left {
		if cubes[r.cube].name != c.name || r.day < days.from || r.day >= days.to {
			continue
		}
		e := r.event()
		if !q.Match(0, e) {
			continue
		}
		for i, d := range t.by {
			if key[i] = d.Of(e); d == query.ByDay {
				key[i] = dayText(r.day)
			}
		}
		if err := t.add(key, r.n); err != nil {
			return err
		}
	}
	return nil
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
		err := l.scans.run(ctx, func(db *sql.DB) error { return t.query(ctx, db, p) })
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
func (t *tally) query(ctx context.Context, db backend.Querier, p predicate) error {
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
