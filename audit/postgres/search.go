package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"sega/audit"
	"sega/audit/query"
)

// Search implements store.Log. SQL gives a superset, of which query.Query.Match has the last word.
func (l *Log) Search(ctx context.Context, q query.Query) iter.Seq2[audit.Row, error] {
	return func(yield func(audit.Row, error) bool) {
		left := math.MaxInt
		if q.Limit > 0 {
			left = q.Limit
		}
		for page, err := range l.pages(ctx, q) {
			for _, row := range page {
				var match bool
				if match, err = matches(q, row); err != nil {
					break
				}
				if !match {
					continue
				}
				if left--; !yield(row, nil) || left == 0 {
					return
				}
			}
			if err != nil {
				yield(audit.Row{}, fmt.Errorf("audit store: search: %w", err))
				return
			}
		}
	}
}

// matches asks the query itself. A body that is no event is not passed over: somebody has changed it.
func matches(q query.Query, row audit.Row) (bool, error) {
	var e audit.Event
	if err := json.Unmarshal(row.Body, &e); err != nil {
		return false, fmt.Errorf("event %d cannot be read, verify the log: %w", row.Index, err)
	}
	e.Details = row.Details
	return q.Match(row.Index, e), nil
}

// interval is a part of the log: from..to-1.
type interval struct{ from, to int64 }

func (v interval) empty() bool { return v.from >= v.to }

// cut takes what has been read from the side where reading began.
func (v interval) cut(last int64, newest bool) interval {
	if newest {
		return interval{v.from, last}
	}
	return interval{last + 1, v.to}
}

// pages yields the rows that a search has to look at, in order.
func (l *Log) pages(ctx context.Context, q query.Query) iter.Seq2[[]audit.Row, error] {
	return func(yield func([]audit.Row, error) bool) {
		p, err := l.plan(ctx, q)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, part := range p.parts {
			for page, err := range l.part(ctx, q, p, part) {
				if !yield(page, err) || err != nil {
					return
				}
			}
		}
	}
}

// plan is how a search goes about.
type plan struct {
	parts []part // in the order of the query
	leads []lead
	rest  query.Expr // what the leads leave to ask
}

// part is an interval of the log, looked at in one way.
type part struct {
	interval
	blocks query.Expr // the text index says which blocks; nil: it is not asked
}

// plan chooses what leads the search: an index, the text index, or the log itself.
func (l *Log) plan(ctx context.Context, q query.Query) (p plan, err error) {
	err = l.scan(ctx, func(ctx context.Context, tx *sql.Tx) error {
		span, err := timeSpan(ctx, tx, q)
		if err != nil || span.empty() {
			return err
		}
		choice, err := choose(ctx, tx, q.Where)
		if err != nil {
			return err
		}
		fields := textFields
		if choice != nil {
			fields = textFields[:ownFields]
		}
		text := textPart(q.Where, fields)
		if choice != nil && text != nil {
			few := choice.rank == rankID
			if !few {
				if few, err = choice.few(ctx, tx, span); err == nil && !few {
					few, err = choice.sparser(ctx, tx, text, span, q.Newest)
				}
				if err != nil {
					return err
				}
			}
			if few {
				text = nil
			}
		}
		if text == nil {
			p.parts = []part{{interval: span}}
			if choice != nil {
				p.leads, p.rest = choice.leads, choice.rest
			}
			return nil
		}
		p.parts, err = textParts(ctx, tx, span, text, q.Newest)
		return err
	})
	return p, err
}

// textParts splits an interval where the text index ends.
func textParts(ctx context.Context, tx *sql.Tx, span interval, text query.Expr, newest bool) ([]part, error) {
	end, err := textEnd(ctx, tx)
	if err != nil {
		return nil, err
	}
	parts := []part{{interval: interval{span.from, min(span.to, end)}, blocks: text}, {interval: interval{max(span.from, end), span.to}}}
	if newest {
		parts[0], parts[1] = parts[1], parts[0]
	}
	return parts, nil
}

// timeSpan is the part of the log that may hold what a query selects, by After, Before and the times
// that every event it selects lies between, up to the head of now.
func timeSpan(ctx context.Context, tx *sql.Tx, q query.Query) (interval, error) {
	span := interval{from: max(q.After+1, 0)}
	if err := tx.QueryRowContext(ctx, sqlSize).Scan(&span.to); err != nil { // what comes later is not waited for
		return interval{}, err
	}
	if q.Before > 0 {
		span.to = min(span.to, q.Before)
	}
	since, until := times(q.Where)
	if since == math.MinInt64 && until == math.MaxInt64 {
		return span, nil
	}
	within, err := timeBounds(ctx, tx, since, until)
	return interval{max(span.from, within.from), min(span.to, within.to)}, err
}

// timeBounds returns the part of the log outside of which no event's time is in since..until-1.
func timeBounds(ctx context.Context, tx *sql.Tx, since, until int64) (interval, error) {
	var first, last, open sql.NullInt64
	err := tx.QueryRowContext(ctx, `SELECT min(segment), max(segment), max(open) FROM (
			SELECT segment, NULL::bigint AS open FROM segments WHERE max_time >= $1 AND min_time < $2
			UNION ALL SELECT idx / $3, 1 FROM events WHERE idx >= (SELECT size / $3 * $3 FROM head) AND time >= $1 AND time < $2
		) s`, since, until, int64(audit.SegmentSize)).Scan(&first, &last, &open)
	switch {
	case err != nil || !first.Valid:
		return interval{}, err
	case open.Valid:
		return interval{first.Int64 * audit.SegmentSize, math.MaxInt64}, nil
	}
	return interval{first.Int64 * audit.SegmentSize, (last.Int64 + 1) * audit.SegmentSize}, nil
}

// times are the bounds that a query sets to the time of all that it selects, in nanoseconds.
func times(x query.Expr) (since, until int64) {
	since, until = math.MinInt64, math.MaxInt64
	switch x := x.(type) {
	case query.And:
		for _, part := range x {
			s, u := times(part)
			since, until = max(since, s), min(until, u)
		}
	case query.Since:
		since = nanos(x.At)
	case query.Until:
		until = nanos(x.At)
	}
	return since, until
}

// part yields the pages of one part.
func (l *Log) part(ctx context.Context, q query.Query, p plan, part part) iter.Seq2[[]audit.Row, error] {
	return func(yield func([]audit.Row, error) bool) {
		limit, blocks := firstRows, firstBlocks
		for left := part.interval; !left.empty(); {
			if part.blocks != nil {
				rows, rest, err := l.blockPage(ctx, q, part.blocks, left, blocks)
				if !yield(rows, err) || err != nil {
					return
				}
				left, blocks = rest, min(2*blocks, pageBlocks)
				continue
			}
			var s statement
			page, whole, err := l.page(ctx, s.rows(q, p, left, limit), s.args...)
			if len(page) > 0 || err != nil {
				if !yield(page, err) {
					return
				}
			}
			if err != nil || whole && len(page) < limit {
				return
			}
			limit, left = nextRows(page), left.cut(page[len(page)-1].Index, q.Newest)
		}
	}
}

func order(newest bool) string {
	if newest {
		return " ORDER BY idx DESC"
	}
	return " ORDER BY idx"
}

// manyValues are looked for in one branch of the statement; fewer in one each, for which the planner
// knows how often they occur.
const manyValues = 16

// rows selects a page of an interval in the query's order: through each lead's index, or in the
// log itself where there is none.
func (s *statement) rows(q query.Query, p plan, in interval, limit int) string {
	if len(p.leads) > 0 {
		q.Where = p.rest
		if !slices.ContainsFunc(p.leads, func(d lead) bool { return len(d.values) > 0 }) { // a prefix that nothing begins with
			return "SELECT " + sqlRowList + " FROM events WHERE FALSE"
		}
	}
	tail := order(q.Newest) + " LIMIT " + s.param(limit)
	where, _ := s.where(q)
	where = fmt.Sprintf("idx >= %s AND idx < %s AND %s", s.param(in.from), s.param(in.to), where)
	if len(p.leads) == 0 {
		return "SELECT " + sqlRowList + " FROM events WHERE " + where + tail
	}
	var union []string
	branch := func(d lead, value string) string {
		return fmt.Sprintf("SELECT idx FROM events WHERE %s = %s%s AND %s%s", d.column, value, d.partial(), where, tail)
	}
	for _, d := range p.leads {
		if len(d.values) > manyValues {
			union = append(union, fmt.Sprintf("SELECT e.idx FROM unnest(%s::text[]) AS v(v) CROSS JOIN LATERAL (%s) e", s.param(d.values), branch(d, "v.v")))
			continue
		}
		for _, v := range d.values {
			union = append(union, "("+branch(d, s.param(v))+")")
		}
	}
	return "SELECT " + sqlRowList + " FROM events WHERE idx = ANY(ARRAY(SELECT idx FROM (" + strings.Join(union, " UNION ") + ") d" + tail + "))" + order(q.Newest)
}
