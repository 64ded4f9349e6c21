package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
	"sega/audit/store/backend"
)

// keySeparator stands between the values of a group's key while it is counted: no UTF-8.
const keySeparator = "\xff"

// counter adds groups up.
type counter struct {
	by     []query.Dimension
	groups map[string]int64
}

func (c *counter) add(key []string, n int64) error {
	if n == 0 {
		return nil
	}
	c.groups[strings.Join(key, keySeparator)] += n
	if len(c.groups) > store.MaxGroups {
		return store.ErrTooManyGroups
	}
	return nil
}

func (c *counter) sorted() []query.Group {
	var out []query.Group
	for key, n := range c.groups {
		g := query.Group{Key: []string{}, Count: n}
		if len(c.by) > 0 {
			g.Key = strings.Split(key, keySeparator)
		}
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b query.Group) int { return slices.Compare(a.Key, b.Key) })
	return out
}

// Count implements store.Log. Where a query asks for no more than rollups know, it adds up those of
// whole days and the events that they leave out. What SQL can tell exactly is grouped at the server,
// and the rest is searched.
func (l *Log) Count(ctx context.Context, q query.Query, by []query.Dimension) ([]query.Group, error) {
	q.Limit, q.Newest = 0, false
	c := &counter{by: by, groups: map[string]int64{}}
	for _, d := range by {
		if !slices.Contains(query.Dimensions(), d) {
			return nil, fmt.Errorf("audit store: count by %q: there is no such dimension", d)
		}
	}
	err := l.scans.turns.Count(ctx, func() error {
		if _, exact := new(statement).where(q); !exact {
			return c.search(ctx, l, q)
		}
		return l.scan(ctx, func(ctx context.Context, tx *sql.Tx) error { return c.server(ctx, tx, q) })
	})
	switch {
	case errors.Is(err, store.ErrTooManyGroups):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("audit store: count: %w", err)
	}
	return c.sorted(), nil
}

// search counts what a search finds.
func (c *counter) search(ctx context.Context, l *Log, q query.Query) error {
	for row, err := range l.Search(ctx, q) {
		if err != nil {
			return err
		}
		var e audit.Event
		if err := json.Unmarshal(row.Body, &e); err != nil {
			return err
		}
		key := make([]string, len(c.by))
		for i, d := range c.by {
			key[i] = d.Of(e)
		}
		if err := c.add(key, 1); err != nil {
			return err
		}
	}
	return nil
}

// server lets the server count, in a transaction that sees one moment.
func (c *counter) server(ctx context.Context, tx *sql.Tx, q query.Query) error {
	since, until := times(q.Where)
	since = max(since, 0) // no event is older
	days := interval{(since + nanosPerDay - 1) / nanosPerDay, max(until, 0) / nanosPerDay}
	where, ok := timeless(q.Where)
	if !ok || q.After >= 0 || q.Before > 0 || since > math.MaxInt64-nanosPerDay || days.empty() {
		return c.events(ctx, tx, q)
	}
	h, err := backend.ScanHead(tx.QueryRowContext(ctx, sqlHead).Scan)
	if err != nil {
		return err
	}
	upTo := audit.RolledUp(h.Tree.N)
	if err := c.rollups(ctx, tx, query.Query{Where: where, Intents: q.WithIntents()}, days); err != nil {
		return err
	}
	open := q
	open.After = upTo - 1
	if err := c.events(ctx, tx, open); err != nil {
		return err
	}
	for _, cut := range []interval{{since, days.from * nanosPerDay}, {days.to * nanosPerDay, until}} {
		rest := q
		rest.Before, rest.Where = upTo, query.And{where, query.Since{At: time.Unix(0, cut.from)}, query.Until{At: time.Unix(0, cut.to)}}
		if cut.empty() || cut.to == math.MaxInt64 || upTo == 0 { // the last day that a time can be in has no events
			continue
		}
		if err := c.events(ctx, tx, rest); err != nil {
			return err
		}
	}
	return nil
}

// timeless returns a query without the bounds that it sets to the time of all that it selects; ok
// is false where the rest asks for what no rollup knows.
func timeless(x query.Expr) (rest query.Expr, ok bool) {
	switch x := x.(type) {
	case nil:
		return query.And{}, true
	case query.Since, query.Until:
		return query.And{}, true
	case query.And:
		var parts query.And
		for _, p := range x {
			t, ok := timeless(p)
			if !ok {
				return nil, false
			}
			parts = append(parts, t)
		}
		return parts, true
	}
	return x, rollable(x)
}

// rollable reports whether rollups can tell what a query selects.
func rollable(x query.Expr) bool {
	switch x := x.(type) {
	case query.And:
		return !slices.ContainsFunc(x, func(p query.Expr) bool { return !rollable(p) })
	case query.Or:
		return !slices.ContainsFunc(x, func(p query.Expr) bool { return !rollable(p) })
	case query.Not:
		return rollable(x.X)
	case query.Screen:
		return true
	case query.Field:
		return slices.Contains([]query.Name{query.User, query.Kind, query.Outcome, query.Role, query.Host}, x.Name)
	}
	return false
}

// names collects what fields and dimensions a count is about.
func names(x query.Expr, into map[string]bool) {
	switch x := x.(type) {
	case query.And:
		for _, p := range x {
			names(p, into)
		}
	case query.Or:
		for _, p := range x {
			names(p, into)
		}
	case query.Not:
		names(x.X, into)
	case query.Field:
		into[string(x.Name)] = true
	}
}

// cubeFor returns the smallest cube that knows all that a count is about.
func cubeFor(x query.Expr, by []query.Dimension) cube {
	about := map[string]bool{}
	names(x, about)
	for _, d := range by {
		about[string(d)] = true
	}
	target := about[string(query.ByRole)] || about[string(query.ByHost)]
	switch user := about[string(query.ByUser)]; {
	case user && target:
		return cubes[2]
	case user:
		return cubes[0]
	}
	return cubes[1]
}

// dimensionColumns are the dimensions as expressions over a table with a column of resources and one
// of days.
func dimensionColumns(d query.Dimension, resource, day string) string {
	switch d {
	case query.ByUser:
		return "CASE WHEN email <> '' THEN email ELSE sub END"
	case query.ByRole:
		return fmt.Sprintf("CASE WHEN starts_with(%s, 'role/') THEN substr(%[1]s, 6) ELSE '' END", resource)
	case query.ByHost:
		return fmt.Sprintf("CASE WHEN starts_with(%s, 'host/') THEN substr(%[1]s, 6) ELSE '' END", resource)
	case query.ByDay:
		return day
	}
	return string(d) // kind, outcome
}

// rollups adds the rollups of whole days: of whole periods where no day is asked for, of the days
// besides, and those that are not folded yet.
func (c *counter) rollups(ctx context.Context, tx *sql.Tx, q query.Query, days interval) error {
	whole := interval{(days.from + periodDays - 1) / periodDays, days.to / periodDays}
	if whole.empty() || slices.Contains(c.by, query.ByDay) {
		whole = interval{days.to / periodDays, days.to / periodDays}
	}
	besides := cubeFor(q.Where, c.by).table()
	for _, part := range []struct {
		table, column string
		interval
	}{
		{periods.table(), "period", whole},
		{besides, "day", interval{days.from, min(whole.from*periodDays, days.to)}},
		{besides, "day", interval{max(whole.to*periodDays, days.from), days.to}},
		{sqlParts, "day", days},
	} {
		if part.empty() {
			continue
		}
		var s statement
		k := compiler{statement: &s, resource: "target"}
		where := k.condition(q.Where, true)
		if !q.Intents {
			where += " AND outcome <> 'intent'"
		}
		where += fmt.Sprintf(" AND %s >= %s AND %[1]s < %[3]s", part.column, s.param(part.from), s.param(part.to))
		if err := c.group(ctx, tx, &s, "sum(n)::bigint", part.table+" AS r", where, "target", "day"); err != nil {
			return err
		}
	}
	return nil
}

// events groups events.
func (c *counter) events(ctx context.Context, tx *sql.Tx, q query.Query) error {
	span, err := timeSpan(ctx, tx, q)
	if err != nil || span.empty() {
		return err
	}
	var s statement
	where, _ := s.where(q)
	where = fmt.Sprintf("idx >= %s AND idx < %s AND %s", s.param(span.from), s.param(span.to), where)
	return c.group(ctx, tx, &s, "count(*)", "events", where, "resource", eventColumns["day"])
}

// group adds the groups of a table's rows.
func (c *counter) group(ctx context.Context, tx *sql.Tx, s *statement, sum, table, where, resource, day string) error {
	list, group := sum, ""
	for i, d := range c.by {
		list += ", " + dimensionColumns(d, resource, day)
		group += fmt.Sprintf(", %d", i+2)
	}
	text := fmt.Sprintf("SELECT %s FROM %s WHERE %s", list, table, where)
	if group != "" {
		text += fmt.Sprintf(" GROUP BY %s LIMIT %d", group[2:], store.MaxGroups+1)
	}
	rows, err := tx.QueryContext(ctx, text, s.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := c.scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// scan adds one group.
func (c *counter) scan(rows *sql.Rows) error {
	var n sql.NullInt64
	dest := []any{&n}
	key, days := make([]text, len(c.by)), make([]int64, len(c.by))
	for i, d := range c.by {
		if d == query.ByDay {
			dest = append(dest, &days[i])
		} else {
			dest = append(dest, &key[i])
		}
	}
	if err := rows.Scan(dest...); err != nil {
		return err
	}
	out := make([]string, len(c.by))
	for i, d := range c.by {
		if out[i] = string(key[i]); d == query.ByDay {
			out[i] = dayText(days[i])
		}
	}
	return c.add(out, n.Int64)
}
