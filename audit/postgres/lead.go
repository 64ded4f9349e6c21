package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"sega/audit"
	"sega/audit/query"
)

// lead is an index that leads to all that a query selects, together with the others of its
// choice: the events that have one of the values in a column.
type lead struct {
	column string
	values []string // as stored
}

// partial repeats the condition of a partial index, so that the planner knows it applies.
func (d lead) partial() string {
	switch d.column {
	case "id", "kind":
		return ""
	case "outcome":
		return sqlOdd
	}
	return " AND " + d.column + " <> ''"
}

// Ranks of what may lead a search: the fewer events share a value, the lower.
const (
	rankID = iota
	rankAction
	rankSession
	rankPerson
	rankTarget
	rankOutcome
	rankPrefix
	rankKind
)

var ranks = map[string]int{"id": rankID, "action": rankAction, "session_id": rankSession, "login_id": rankSession,
	"email": rankPerson, "sub": rankPerson, "resource": rankTarget, "outcome": rankOutcome, "kind": rankKind}

// choice are leads that together lead to all that a query selects, and what they leave to ask of the
// events that they lead to: were all of the query asked again, the planner would take it for far
// more selective than it is.
type choice struct {
	rank  int
	leads []lead
	rest  query.Expr
}

// nothing is left to ask.
func nothing(x query.Expr) bool {
	all, is := x.(query.And)
	return is && !slices.ContainsFunc(all, func(p query.Expr) bool { return !nothing(p) })
}

// choose returns the best choice for a query, nil where no index leads to all of it.
func choose(ctx context.Context, tx *sql.Tx, x query.Expr) (*choice, error) {
	switch x := x.(type) {
	case query.And:
		return chooseOne(ctx, tx, x)
	case query.Or:
		return chooseAll(ctx, tx, x)
	case query.Actor:
		c := equal([]string{"sub"}, []string{x.Sub})
		if c != nil {
			c.rest = x
		}
		return c, nil
	case query.Sessions:
		return equal([]string{"session_id"}, x.IDs), nil
	case query.Field:
		return chooseField(ctx, tx, x)
	}
	return nil, nil
}

// chooseOne returns the best of the parts that all hold.
func chooseOne(ctx context.Context, tx *sql.Tx, parts []query.Expr) (best *choice, err error) {
	at := 0
	for i, x := range parts {
		c, err := choose(ctx, tx, x)
		if err != nil {
			return nil, err
		}
		if c != nil && (best == nil || c.rank < best.rank) {
			best, at = c, i
		}
	}
	if best != nil {
		rest := query.And(slices.Clone(parts))
		rest[at] = best.rest
		best.rest = rest
	}
	return best, nil
}

// maxLeads bounds how many indexes a search goes through at once.
const maxLeads = 12

// chooseAll joins the choices for parts of which one holds; each must have one.
func chooseAll(ctx context.Context, tx *sql.Tx, parts []query.Expr) (*choice, error) {
	all := &choice{rest: query.And{}}
	for _, x := range parts {
		c, err := choose(ctx, tx, x)
		if err != nil || c == nil {
			return nil, err
		}
		all.rank = max(all.rank, c.rank)
		all.leads = append(all.leads, c.leads...)
		if !nothing(c.rest) {
			all.rest = query.Or(parts)
		}
	}
	if len(all.leads) == 0 || len(all.leads) > maxLeads {
		return nil, nil
	}
	return all, nil
}

// equal is the choice for values in any of the columns, nil where an index leaves one of them out.
func equal(columns, values []string) *choice {
	c := &choice{rest: query.And{}}
	stored := []string{}
	for _, v := range values {
		switch {
		case !utf8.ValidString(v):
			return nil
		case v == "" || columns[0] == "outcome" && (v == string(audit.Success) || v == string(audit.Intent)):
			return nil
		}
		stored = append(stored, escape(v))
	}
	if len(stored) > maxValues {
		return nil
	}
	for _, column := range columns {
		rank, ok := ranks[column]
		if !ok {
			return nil
		}
		c.rank = max(c.rank, rank)
		c.leads = append(c.leads, lead{column, stored})
	}
	return c
}

func chooseField(ctx context.Context, tx *sql.Tx, x query.Field) (*choice, error) {
	columns, value := fieldColumns[x.Name], x.Value
	if prefix, ok := resourcePrefixes[x.Name]; ok {
		columns, value = []string{"resource"}, prefix+x.Value
	}
	switch {
	case len(columns) == 0 || x.Op == query.Contains:
		return nil, nil
	case x.Op == query.Equal:
		return equal(columns, []string{value}), nil
	}
	return choosePrefix(ctx, tx, columns, value)
}

// maxValues bounds how many values of a column are looked for one by one.
const maxValues = 200

// choosePrefix looks up the values that begin with a prefix.
func choosePrefix(ctx context.Context, tx *sql.Tx, columns []string, prefix string) (*choice, error) {
	c := &choice{rank: rankPrefix, rest: query.And{}}
	for _, column := range columns {
		rank, ok := ranks[column]
		if !ok || rank <= rankAction || rank == rankOutcome || prefix == "" || !utf8.ValidString(prefix) {
			return nil, nil
		}
		c.rank = max(c.rank, rank)
		values, err := valuesOf(ctx, tx, lead{column: column}, escape(prefix))
		if err != nil || len(values) > maxValues {
			return nil, err
		}
		c.leads = append(c.leads, lead{column, values})
	}
	return c, nil
}

// valuesOf returns the different values of a column that begin with a prefix, up to maxValues and
// one more. It leaps from one to the next in the index.
func valuesOf(ctx context.Context, tx *sql.Tx, d lead, prefix string) ([]string, error) {
	next := func(op, from string) string {
		return fmt.Sprintf(`(SELECT %[1]s AS v FROM events WHERE %[1]s %[2]s %[3]s%[4]s ORDER BY %[1]s LIMIT 1)`, d.column, op, from, d.partial())
	}
	rows, err := tx.QueryContext(ctx, `WITH RECURSIVE leap AS (SELECT v FROM `+next(">=", "$1")+` s
		UNION ALL SELECT `+next(">", "leap.v")+` FROM leap WHERE starts_with(leap.v, $1))
		SELECT v FROM leap WHERE starts_with(v, $1) LIMIT $2`, prefix, maxValues+1)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	values := []string{}
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, rows.Err()
}

// fewEvents are so few that looking at each of them is faster than asking the text index.
const fewEvents = 5000

// few reports whether the choice leads to few events.
func (c *choice) few(ctx context.Context, tx *sql.Tx, in interval) (bool, error) {
	var s statement
	var union []string
	for _, d := range c.leads {
		union = append(union, fmt.Sprintf("SELECT e.idx FROM unnest(%s::text[]) AS v(v) CROSS JOIN LATERAL (SELECT idx FROM events WHERE %s = v.v%s AND idx >= %s AND idx < %s LIMIT %d) e",
			s.param(d.values), d.column, d.partial(), s.param(in.from), s.param(in.to), fewEvents+1))
	}
	var n int
	err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT FROM (%s) d LIMIT %d) n", strings.Join(union, " UNION ALL "), fewEvents+1), s.args...).Scan(&n)
	return n <= fewEvents, err
}

// sampled events and blocks tell how dense those of a choice or of a text are.
const (
	sampledEvents = 100
	sampledBlocks = 256
)

// sparser reports whether fewer events are the choice's than stand in blocks that may have a text. Where
// the text is in most blocks, as a word is that many write, the index of blocks leads to nearly all of the log.
func (c *choice) sparser(ctx context.Context, tx *sql.Tx, text query.Expr, in interval, newest bool) (bool, error) {
	end, err := textEnd(ctx, tx)
	if err != nil {
		return false, err
	}
	if in.to = min(in.to, end); in.empty() {
		return true, nil
	}
	var s statement
	var union []string
	for _, d := range c.leads {
		union = append(union, fmt.Sprintf("SELECT e.idx FROM unnest(%s::text[]) AS v(v) CROSS JOIN LATERAL (SELECT idx FROM events WHERE %s = v.v%s AND idx >= %s AND idx < %s%s LIMIT %d) e",
			s.param(d.values), d.column, d.partial(), s.param(in.from), s.param(in.to), order(newest), sampledEvents))
	}
	var far int64 // the last of the sampled events
	var n int
	err = tx.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*), coalesce(%s(idx), 0) FROM (SELECT idx FROM (%s) d%s LIMIT %d) n",
		map[bool]string{false: "max", true: "min"}[newest], strings.Join(union, " UNION ALL "), order(newest), sampledEvents), s.args...).Scan(&n, &far)
	if err != nil || n < sampledEvents {
		return true, err
	}
	span := far - in.from + 1
	if newest {
		span = in.to - far
	}
	blocks := interval{in.from / blockEvents, in.from/blockEvents + sampledBlocks}
	if newest {
		blocks = interval{max(blocks.from, in.to/blockEvents-sampledBlocks), in.to / blockEvents}
	}
	s = statement{}
	var all, having int64
	err = tx.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*), count(*) FILTER (WHERE text IS NULL OR %s) FROM event_text WHERE block >= %s AND block < %s",
		s.blockCondition(text), s.param(blocks.from), s.param(blocks.to)), s.args...).Scan(&all, &having)
	return sampledEvents*all <= having*span, err
}
