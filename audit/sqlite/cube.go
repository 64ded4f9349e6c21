package sqlite

import (
	"math"
	"slices"
	"strings"

	"sega/audit"
	"sega/audit/query"
)

// dimension is what SQL groups by for a dimension, over the columns of eventColumns.
var dimension = map[query.Dimension]struct {
	needs []string
	text  string
}{
	query.ByUser:    {[]string{"email", "sub"}, `CASE WHEN email <> '' THEN email ELSE sub END`},
	query.ByKind:    {[]string{"kind"}, `kind`},
	query.ByOutcome: {[]string{"outcome"}, `outcome`},
	query.ByRole:    {[]string{"target"}, `CASE WHEN target >= 'role/' AND target < 'role0' THEN target ELSE '' END`},
	query.ByHost:    {[]string{"target"}, `CASE WHEN target >= 'host/' AND target < 'host0' THEN target ELSE '' END`},
	query.ByDay:     {[]string{"day"}, `day`},
}

// cubeFor returns the smallest cube that knows every dimension and every field of a question.
func cubeFor(q query.Query, by []query.Dimension) (cube, bool) {
	if q.After >= 0 || q.Before > 0 {
		return cube{}, false
	}
	q.Where, _ = apart(q.Where)
	for _, c := range cubes {
		if c.knows(by) && c.columns().where(q).exact {
			return c, true
		}
	}
	return cube{}, false
}

func (c cube) knows(by []query.Dimension) bool {
	for _, d := range by {
		for _, column := range dimension[d].needs {
			if !c.has(column) {
				return false
			}
		}
	}
	return true
}

// columns are those of the cube as a question sees them.
func (c cube) columns() columns {
	has := func(name string) string {
		if c.has(name) {
			return name
		}
		return ""
	}
	return columns{kind: "kind", outcome: "outcome", email: has("email"), sub: has("sub"), resource: has("target"), rolled: true}
}

// apart takes the bounds of time out of a conjunction: x is the rest and the window.
func apart(x query.Expr) (query.Expr, window) {
	switch x := x.(type) {
	case query.Since, query.Until:
		return nil, windowOf(x, false)
	case query.And:
		var rest query.And
		w := always
		for _, part := range x {
			part, of := apart(part)
			w = window{max(w.since, of.since), min(w.until, of.until)}
			if part != nil {
				rest = append(rest, part)
			}
		}
		return rest, w
	}
	return x, always
}

// days returns the days that a window holds whole, first..last-1 counted since 1970, and the
// windows that are left over.
func (w window) days() (whole run, edges []window) {
	w.since, w.until = max(w.since, 0), max(w.until, 0)
	whole = run{(w.since + nanosPerDay - 1) / nanosPerDay, w.until / nanosPerDay}
	switch {
	case w.until == math.MaxInt64:
		whole.to = math.MaxInt64
	case w.since >= w.until:
		return run{}, nil
	case whole.from > whole.to: // within one day
		return run{}, []window{w}
	case w.until%nanosPerDay != 0:
		edges = append(edges, window{whole.to * nanosPerDay, w.until})
	}
	if w.since%nanosPerDay != 0 {
		edges = append(edges, window{w.since, whole.from * nanosPerDay})
	}
	return whole, edges
}

// grouped is a statement that counts by dimensions. columns are expressions over the table.
func grouped(from string, by []query.Dimension, columns map[string]string, count, where string) string {
	replace := []string{}
	for _, name := range []string{"email", "sub", "kind", "outcome", "target", "day"} {
		replace = append(replace, name, "("+columns[name]+")")
	}
	swap := strings.NewReplacer(replace...)
	var list, group []string
	for _, d := range by {
		text := dimension[d].text
		if columns != nil {
			text = swap.Replace(text)
		}
		list, group = append(list, text), append(group, text)
	}
	s := "SELECT " + strings.Join(append(list, count), ", ") + " FROM " + from + " WHERE " + where
	if len(group) > 0 {
		s += " GROUP BY " + strings.Join(group, ", ")
	} else {
		s += " HAVING count(*) > 0"
	}
	return s
}

// count counts whole days, in two steps: the first sums up, in the order of the cube's key and so
// without sorting, what the dimensions do not tell apart; the second has little left to sort.
func (c cube) count(by []query.Dimension, where predicate, days run) predicate {
	within := "day >= ? AND day < ? AND (" + where.text + ")"
	args := append([]any{days.from, days.to}, where.args...)
	n := 1 // columns of the key that are needed at least
	for _, d := range by {
		for _, column := range dimension[d].needs {
			n = max(n, slices.Index(c.key, column)+1)
		}
	}
	if n == len(c.key) || len(by) == 0 {
		return predicate{text: grouped(c.table(), by, nil, "sum(n)", within), args: args}
	}
	key := strings.Join(c.key[:n], ", ")
	from := "(SELECT " + key + ", sum(n) AS n FROM " + c.table() + " WHERE " + within + " GROUP BY " + key + ")"
	return predicate{text: grouped(from, by, nil, "sum(n)", "1"), args: args}
}

// countEdge counts rows before upTo in a window less than two days wide, by the index of time.
func countEdge(by []query.Dimension, where predicate, w window, upTo int64) predicate {
	return predicate{text: `WITH RECURSIVE seg (n) AS (SELECT 0 WHERE 0 < ? UNION ALL SELECT n + 1 FROM seg WHERE n + 1 < ?) ` +
		grouped("seg CROSS JOIN events INDEXED BY events_time", by, eventColumns, "count(*)", "(idx >> 11) = seg.n AND time >= ? AND time < ? AND ("+where.text+")"),
		args: append([]any{upTo / audit.SegmentSize, upTo / audit.SegmentSize, w.since, w.until}, where.args...)}
}

// countOpen counts the rows that are not rolled up.
func countOpen(by []query.Dimension, where predicate, w window, upTo int64) predicate {
	return predicate{text: grouped("events NOT INDEXED", by, eventColumns, "count(*)", "idx >= ? AND time >= ? AND time < ? AND ("+where.text+")"),
		args: append([]any{upTo, w.since, w.until}, where.args...)}
}
