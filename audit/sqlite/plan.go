package sqlite

import (
	"math"
	"strings"

	"sega/audit"
	"sega/audit/query"
)

// arm is one way to find candidates: an index of events with a condition that it serves, or the
// text index with pieces that must be in the text.
type arm struct {
	index  string // of events; "" for the text index
	where  predicate
	pieces []string // of the text index
	whole  bool     // the index does not begin with the segment
}

// plan is how a search finds candidates: as the union of its arms, or by walking the rows.
type plan struct {
	arms []arm
	walk bool
	cost int // rows that it is likely to look at in a log of 10,000
}

// maxArms bounds a statement; a plan of more walks the rows.
const maxArms = 64

var walking = plan{walk: true, cost: 10_000}

// planOf finds the cheapest plan for x, or for its negation. Of a conjunction it takes the best
// part: the others are conditions on what that finds.
func planOf(x query.Expr, negated bool) plan {
	switch x := x.(type) {
	case query.And:
		return planList(x, negated, negated)
	case query.Or:
		return planList(x, negated, !negated)
	case query.Not:
		return planOf(x.X, !negated)
	}
	if negated || x == nil {
		return walking
	}
	return planLeaf(x)
}

func planList(parts []query.Expr, negated, either bool) plan {
	best, all := walking, plan{}
	for _, x := range parts {
		p := planOf(x, negated)
		if p.cost < best.cost {
			best = p
		}
		all.arms, all.cost, all.walk = append(all.arms, p.arms...), all.cost+p.cost, all.walk || p.walk
	}
	switch {
	case !either:
		return best
	case all.walk || len(all.arms) > maxArms || all.cost > walking.cost:
		return walking
	}
	return all
}

func planLeaf(x query.Expr) plan {
	switch x := x.(type) {
	case query.Field:
		return planField(x)
	case query.Actor:
		return planColumns(query.Equal, x.Sub, 40, "events_sub")
	case query.Sessions:
		return planSessions(x.IDs)
	case query.Text:
		return planText(x.Value, 100)
	case query.Screen:
		return plan{}
	}
	return walking
}

func planField(f query.Field) plan {
	switch f.Name {
	case query.ID:
		p := planColumns(f.Op, f.Value, 1, "events_id")
		for i := range p.arms {
			p.arms[i].whole = true
		}
		return p
	case query.Action:
		return planColumns(f.Op, f.Value, 2, "events_action")
	case query.Session:
		return planColumns(f.Op, f.Value, 5, "events_session", "events_login")
	case query.User:
		return planColumns(f.Op, f.Value, 40, "events_email", "events_sub")
	case query.Role:
		return planResource(audit.ResourceRole, f)
	case query.Host:
		return planResource(audit.ResourceHost, f)
	case query.Resource:
		return planColumns(f.Op, f.Value, 60, "events_resource")
	case query.Kind:
		return planColumns(f.Op, f.Value, 1000, "events_kind")
	case query.Outcome:
		return planOutcome(f)
	case query.Reason, query.Ticket:
		return planText(f.Value, 80)
	}
	return walking
}

// indexed are the columns of the indexes by the index's name.
var indexed = map[string]string{"events_id": "id", "events_kind": "kind", "events_email": "email", "events_sub": "sub",
	"events_login": "login_id", "events_session": "session_id", "events_action": "action", "events_resource": "resource"}

// planColumns asks indexes of one column each. They are partial: the empty value, which is in
// nearly every row anyhow, is not in them. A substring is looked for in all entries of the index, which are
// much less to read than the rows.
func planColumns(op query.Op, value string, cost int, indexes ...string) plan {
	if value == "" {
		return walking
	}
	p := plan{cost: cost}
	switch op {
	case query.Prefix:
		p.cost *= 4
	case query.Contains:
		p.cost += 5000
	}
	for _, index := range indexes {
		column := indexed[index]
		w := compare(column, op, value)
		if index != "events_id" {
			w.text = column + " <> '' AND " + w.text
		}
		p.arms = append(p.arms, arm{index: index, where: w})
	}
	return p
}

func planResource(prefix string, f query.Field) plan {
	if f.Op == query.Contains {
		w := named("resource", prefix, f)
		w.text = "resource <> '' AND " + w.text
		return plan{arms: []arm{{index: "events_resource", where: w}}, cost: 5000}
	}
	return planColumns(f.Op, prefix+f.Value, 60, "events_resource")
}

// planOutcome: the outcomes that nearly every event has are not indexed.
func planOutcome(f query.Field) plan {
	if f.Op != query.Equal || f.Value == string(audit.Success) || f.Value == string(audit.Intent) {
		return walking
	}
	w := predicate{"outcome NOT IN ('success', 'intent') AND outcome = ?", []any{f.Value}, true}
	return plan{arms: []arm{{index: "events_outcome", where: w}}, cost: 500}
}

// fewSessions is up to how many sessions each is looked for; beyond, all entries of the index are read.
const fewSessions = 40

func planSessions(ids []string) plan {
	list, ok := jsonList(ids)
	if !ok {
		return walking
	}
	column, cost := "session_id", 5+len(ids)
	if len(ids) > fewSessions {
		column, cost = "+session_id", 5000
	}
	w := predicate{"session_id <> '' AND " + column + " IN (SELECT value FROM json_each(?))", []any{list}, true}
	return plan{arms: []arm{{index: "events_session", where: w}}, cost: cost}
}

func planText(value string, cost int) plan {
	pieces := textPieces(value)
	if len(pieces) == 0 {
		return walking
	}
	return plan{arms: []arm{{pieces: pieces}}, cost: cost}
}

// split parts the arms into those of events and those of the text index.
func (p plan) split() (columns, texts []arm) {
	for _, a := range p.arms {
		if a.index == "" {
			texts = append(texts, a)
		} else {
			columns = append(columns, a)
		}
	}
	return columns, texts
}

// statement selects indexes in order, falling where newest is set. Its first four arguments bound
// it: first index, index after the last, first and last segment.
func statement(arms []arm, where predicate, newest bool) predicate {
	p := predicate{}
	var selects []string
	for _, a := range arms {
		from, on := "events INDEXED BY "+a.index, "idx >= bounds.first AND idx < bounds.after"
		if !a.whole {
			from, on = "seg CROSS JOIN "+from, on+" AND (idx >> 11) = seg.n"
		}
		selects = append(selects, "SELECT idx FROM bounds CROSS JOIN "+from+" WHERE "+on+" AND ("+a.where.text+") AND ("+where.text+")")
		p.args = append(append(p.args, a.where.args...), where.args...)
	}
	p.text = `WITH RECURSIVE bounds (first, after, low, high) AS (VALUES (?, ?, ?, ?)),
		seg (n) AS (SELECT low FROM bounds UNION ALL SELECT n + 1 FROM seg, bounds WHERE n < high) ` +
		strings.Join(selects, " UNION ") + " ORDER BY idx" + order(newest)
	return p
}

func order(newest bool) string {
	if newest {
		return " DESC"
	}
	return ""
}

// window is a span of time in ns since 1970: from since, before until.
type window struct{ since, until int64 }

var always = window{math.MinInt64, math.MaxInt64}

// windowOf returns a window that holds all that x, or its negation, selects.
func windowOf(x query.Expr, negated bool) window {
	switch x := x.(type) {
	case query.And:
		return windowList(x, negated, negated)
	case query.Or:
		return windowList(x, negated, !negated)
	case query.Not:
		return windowOf(x.X, !negated)
	case query.Since:
		if negated {
			return window{math.MinInt64, nanos(x.At)}
		}
		return window{nanos(x.At), math.MaxInt64}
	case query.Until:
		if negated {
			return window{nanos(x.At), math.MaxInt64}
		}
		return window{math.MinInt64, nanos(x.At)}
	}
	return always
}

func windowList(parts []query.Expr, negated, either bool) window {
	all, hull := always, window{math.MaxInt64, math.MinInt64}
	for _, x := range parts {
		w := windowOf(x, negated)
		all = window{max(all.since, w.since), min(all.until, w.until)}
		hull = window{min(hull.since, w.since), max(hull.until, w.until)}
	}
	if either {
		return hull
	}
	return all
}
