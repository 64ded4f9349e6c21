package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"strings"
	"time"

	"sega/audit"
)

// maxSpan is how many segments a search looks into at a time. It begins with one and doubles, so
// that a search with many matches answers from the first, and one with few needs few statements.
// It also bounds what a search collects before it reads rows: 262,144 indexes, 2 MiB.
const maxSpan = 128

// Query implements store.Log, over the log as it is when the iteration begins.
func (l *Log) Query(ctx context.Context, f audit.Filter) iter.Seq2[audit.Row, error] {
	return func(yield func(audit.Row, error) bool) {
		if err := l.search(ctx, f, func(row audit.Row) bool { return yield(row, nil) }); err != nil {
			yield(audit.Row{}, fmt.Errorf("audit store: query: %w", err))
		}
	}
}

func (l *Log) search(ctx context.Context, f audit.Filter, yield func(audit.Row) bool) error {
	q := build(f)
	end := l.last.Load().tree.N
	left := f.Limit
	span := int64(1)
	for from := max(f.After+1, 0); from < end; {
		to := min((from>>segmentBits+span)<<segmentBits, end)
		ids, err := l.ids(ctx, q, from, to)
		if err != nil {
			return err
		}
		if f.Limit > 0 {
			ids = ids[:min(len(ids), left)]
			left -= len(ids)
		}
		if more, err := l.yieldIDs(ctx, ids, yield); err != nil || !more {
			return err
		}
		if f.Limit > 0 && left == 0 {
			return nil
		}
		from, span = to, min(span*2, maxSpan)
	}
	return nil
}

// ids returns the indexes of matching rows among from..to-1 in ascending order.
func (l *Log) ids(ctx context.Context, q query, from, to int64) ([]int64, error) {
	args := append([]any{from, to, from >> segmentBits, (to - 1) >> segmentBits}, q.args...)
	rows, err := l.reads.QueryContext(ctx, q.text, args...)
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

// yieldIDs yields the rows of ids by pages; more is false where the consumer has had enough.
func (l *Log) yieldIDs(ctx context.Context, ids []int64, yield func(audit.Row) bool) (more bool, err error) {
	for len(ids) > 0 {
		n := min(len(ids), pageRows)
		list, err := json.Marshal(ids[:n])
		if err != nil {
			return false, err
		}
		page, err := l.page(ctx, `SELECT `+sqlRowList+` FROM events WHERE idx IN (SELECT value FROM json_each(?)) ORDER BY idx`, string(list))
		if err != nil {
			return false, err
		}
		last := ids[n-1]
		if len(page) > 0 && len(page) < n { // bounded by bytes, or rows went meanwhile
			last = page[len(page)-1].Index
		}
		for _, row := range page {
			if !yield(row) {
				return false, nil
			}
		}
		for len(ids) > 0 && ids[0] <= last {
			ids = ids[1:]
		}
	}
	return true, nil
}

// query is a statement that selects indexes in ascending order. Its first four arguments bound it:
// first index, index after the last, first and last segment.
type query struct {
	text string
	args []any
}

// clause is a condition with its arguments, and the index that serves it, if any.
type clause struct {
	text  string
	args  []any
	index string
}

// build translates a filter, whose meaning is audit.Filter.Match. User and Session each look at two
// columns: every combination is an arm of a UNION of its own, so that each arm uses an index.
func build(f audit.Filter) query {
	common := commonClauses(f)
	q := query{text: `WITH RECURSIVE
		bounds (first, after, low, high) AS (VALUES (?, ?, ?, ?)),
		seg (n) AS (SELECT low FROM bounds UNION ALL SELECT n + 1 FROM seg, bounds WHERE n < high) `}
	var arms []string
	for _, user := range userClauses(f) {
		for _, session := range sessionClauses(f) {
			text, args := arm(append(append(session, user...), common...))
			arms = append(arms, text)
			q.args = append(q.args, args...)
		}
	}
	q.text += strings.Join(arms, " UNION ") + " ORDER BY idx"
	return q
}

// arm makes a SELECT that is driven by the first clause with an index: clauses come in order of
// how few rows they leave. Without one it walks the rows themselves.
func arm(clauses []clause) (text string, args []any) {
	from := ` FROM bounds CROSS JOIN events NOT INDEXED`
	where := []string{`idx >= bounds.first AND idx < bounds.after`}
	for _, c := range clauses {
		if c.index != "" {
			from = ` FROM bounds CROSS JOIN seg CROSS JOIN events INDEXED BY ` + c.index
			where = append(where, `(idx >> 11) = seg.n`)
			break
		}
	}
	for _, c := range clauses {
		where = append(where, c.text)
		args = append(args, c.args...)
	}
	return `SELECT idx` + from + ` WHERE ` + strings.Join(where, " AND "), args
}

// match compares a column with a pattern. The comparison is of bytes: what follows a prefix is the
// prefix with its last byte incremented, which no UTF-8 text can overflow. That an index is
// partial must be repeated for it to serve.
func match(column, index string, p audit.Pattern) clause {
	guard := column + ` <> '' AND `
	switch {
	case p.Text == "" && p.Prefix:
		return clause{text: `1`}
	case p.Text == "":
		return clause{text: column + ` = ''`}
	case !p.Prefix:
		return clause{text: guard + column + ` = ?`, args: []any{p.Text}, index: index}
	}
	next := []byte(p.Text)
	next[len(next)-1]++
	return clause{text: guard + column + ` >= ? AND ` + column + ` < ?`, args: []any{p.Text, string(next)}, index: index}
}

func userClauses(f audit.Filter) [][]clause {
	if f.User == "" {
		return [][]clause{nil}
	}
	p := audit.ParsePattern(f.User)
	return [][]clause{{match("email", "events_email", p)}, {match("sub", "events_sub", p)}}
}

func sessionClauses(f audit.Filter) [][]clause {
	if f.Session == "" {
		return [][]clause{nil}
	}
	p := audit.Pattern{Text: f.Session}
	return [][]clause{{match("session_id", "events_session", p)}, {match("login_id", "events_login", p)}}
}

func commonClauses(f audit.Filter) []clause {
	var cs []clause
	if f.Sub != "" || f.Iss != "" {
		cs = append(cs, match("sub", "events_sub", audit.Pattern{Text: f.Sub}), clause{text: `iss = ?`, args: []any{f.Iss}})
	}
	if f.Role != "" {
		cs = append(cs, match("resource", "events_resource", audit.ParsePattern(audit.ResourceRole+f.Role)))
	}
	if f.Host != "" {
		cs = append(cs, match("resource", "events_resource", audit.ParsePattern(audit.ResourceHost+f.Host)))
	}
	switch f.Outcome {
	case "":
	case audit.Success, audit.Intent:
		cs = append(cs, clause{text: `outcome = ?`, args: []any{string(f.Outcome)}})
	default:
		cs = append(cs, clause{text: `outcome NOT IN ('success', 'intent') AND outcome = ?`, args: []any{string(f.Outcome)}, index: "events_outcome"})
	}
	if f.Kind != "" {
		cs = append(cs, match("kind", "events_kind", audit.ParsePattern(f.Kind)))
	}
	return append(cs, timeClauses(f)...)
}

func timeClauses(f audit.Filter) []clause {
	var cs []clause
	if !f.Since.IsZero() || !f.Until.IsZero() {
		since, until := int64(math.MinInt64), int64(math.MaxInt64)
		if !f.Since.IsZero() {
			since = nanos(f.Since)
		}
		if !f.Until.IsZero() {
			until = nanos(f.Until)
		}
		cs = append(cs, clause{text: `time >= ? AND time < ?`, args: []any{since, until}, index: "events_time"})
	}
	if !f.WithIntents() {
		cs = append(cs, clause{text: `outcome <> 'intent'`})
	}
	return cs
}

// nanos is UnixNano, clamped for times that it cannot hold; those of events lie between.
func nanos(t time.Time) int64 {
	switch {
	case t.Year() < 1970:
		return -1
	case t.Year() > 2261:
		return math.MaxInt64
	}
	return t.UnixNano()
}
