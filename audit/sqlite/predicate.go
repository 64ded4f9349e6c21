package sqlite

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sega/audit"
	"sega/audit/query"
)

// predicate is a condition of SQL with its arguments. Where it is exact it selects what the
// expression selects; otherwise it selects that and more, and query.Query.Match has the last word.
type predicate struct {
	text  string
	args  []any
	exact bool
}

// columns says where a table has what an expression asks for: names of columns, or "" where the
// table cannot tell.
type columns struct {
	email, sub, iss, kind, outcome, login, session, resource, action, source, node, id, time, body, details string
	rolled                                                                                                  bool // resource holds roles and hosts alone
}

var ofEvents = columns{email: "email", sub: "sub", iss: "iss", kind: "kind", outcome: "outcome", login: "login_id", session: "session_id",
	resource: "resource", action: "action", source: "source", node: "node", id: "id", time: "time", body: "body", details: "details"}

var (
	everything = predicate{text: "1", exact: true}
	nothing    = predicate{text: "0", exact: true}
	anything   = predicate{text: "1"} // what cannot be told from columns
)

// where translates what a query selects but for its bounds of the index.
func (c columns) where(q query.Query) predicate {
	p := everything
	if q.Where != nil {
		p = c.translate(q.Where, false)
	}
	if !q.WithIntents() {
		p = join(" AND ", p, predicate{c.outcome + ` <> 'intent'`, nil, true})
	}
	return p
}

// translate translates x, or its negation: negations are moved down to the leaves, so that what is
// inexact stays a superset.
func (c columns) translate(x query.Expr, negated bool) predicate {
	switch x := x.(type) {
	case query.And:
		return c.list(x, negated, negated)
	case query.Or:
		return c.list(x, negated, !negated)
	case query.Not:
		return c.translate(x.X, !negated)
	}
	p := c.leaf(x)
	switch {
	case !negated:
		return p
	case !p.exact:
		return anything
	}
	return predicate{"NOT (" + p.text + ")", p.args, true}
}

// list joins the translations of parts by OR where either is set, else by AND.
func (c columns) list(parts []query.Expr, negated, either bool) predicate {
	by, none := " AND ", everything
	if either {
		by, none = " OR ", nothing
	}
	if len(parts) == 0 {
		return none
	}
	var ps []predicate
	for _, x := range parts {
		ps = append(ps, c.translate(x, negated))
	}
	return join(by, ps...)
}

func join(by string, ps ...predicate) predicate {
	p := predicate{exact: true}
	var texts []string
	for _, part := range ps {
		texts = append(texts, "("+part.text+")")
		p.args = append(p.args, part.args...)
		p.exact = p.exact && part.exact
	}
	p.text = strings.Join(texts, by)
	return p
}

func (c columns) leaf(x query.Expr) predicate {
	switch x := x.(type) {
	case query.Field:
		return c.field(x)
	case query.Actor:
		if c.iss == "" {
			return anything
		}
		return predicate{c.iss + " = ? AND " + c.sub + " = ?", []any{x.Iss, x.Sub}, true}
	case query.Since:
		return c.bound(" >= ?", x.At)
	case query.Until:
		return c.bound(" < ?", x.At)
	case query.Sessions:
		return c.sessions(x.IDs)
	case query.Text:
		return c.freeText(x)
	case query.Screen:
		return nothing
	}
	return anything
}

func (c columns) bound(op string, at time.Time) predicate {
	if c.time == "" {
		return anything
	}
	return predicate{c.time + op, []any{nanos(at)}, true}
}

// field translates a field: of several columns any may match.
func (c columns) field(f query.Field) predicate {
	switch f.Name {
	case query.User:
		return join(" OR ", compare(c.email, f.Op, f.Value), compare(c.sub, f.Op, f.Value))
	case query.Session:
		return join(" OR ", compare(c.login, f.Op, f.Value), compare(c.session, f.Op, f.Value))
	case query.Role:
		return named(c.resource, audit.ResourceRole, f)
	case query.Host:
		return named(c.resource, audit.ResourceHost, f)
	case query.Kind:
		return compare(c.kind, f.Op, f.Value)
	case query.Outcome:
		return compare(c.outcome, f.Op, f.Value)
	case query.Resource:
		if c.rolled && (f.Op == query.Contains || audit.Target(f.Value) == "") {
			return anything
		}
		return compare(c.resource, f.Op, f.Value)
	case query.Action:
		return compare(c.action, f.Op, f.Value)
	case query.Source:
		return compare(c.source, f.Op, f.Value)
	case query.Node:
		return compare(c.node, f.Op, f.Value)
	case query.ID:
		return compare(c.id, f.Op, f.Value)
	}
	return c.inBody(f.Value) // reason, ticket, policy
}

// compare compares a column as query.Field does. lower and instr of SQLite fold and find as
// query.Contains: ASCII letters alone.
func compare(column string, op query.Op, value string) predicate {
	switch {
	case column == "":
		return anything
	case op == query.Equal:
		return predicate{column + " = ?", []any{value}, true}
	case value == "":
		return everything
	case op == query.Prefix:
		low, high := prefixRange(value)
		return predicate{column + " >= ? AND " + column + " < ?", []any{low, high}, true}
	}
	return predicate{"instr(lower(" + column + "), ?) > 0", []any{lower(value)}, true}
}

// named compares the name in a resource of a type. Bytes are compared, because substr ends a text
// at a zero byte.
func named(column, prefix string, f query.Field) predicate {
	if f.Op != query.Contains || f.Value == "" {
		op := f.Op
		if op == query.Contains {
			op = query.Prefix
		}
		return compare(column, op, prefix+f.Value)
	}
	of := compare(column, query.Prefix, prefix)
	found := predicate{"instr(substr(CAST(lower(" + column + ") AS BLOB), 6), ?) > 0", []any{[]byte(lower(f.Value))}, true}
	return join(" AND ", of, found)
}

// prefixRange returns the bounds, by bytes, of the texts that begin with a prefix which is not
// empty: what follows them is the prefix with its last byte incremented.
func prefixRange(prefix string) (low, high string) {
	next := []byte(prefix)
	for len(next) > 1 && next[len(next)-1] == 0xff {
		next = next[:len(next)-1]
	}
	if next[len(next)-1] == 0xff { // no text in UTF-8 holds this byte
		return prefix, prefix
	}
	next[len(next)-1]++
	return prefix, string(next)
}

// inBody looks for a piece of a value anywhere in the envelope.
func (c columns) inBody(value string) predicate {
	piece := plain(value)
	if c.body == "" || piece == "" {
		return anything
	}
	return predicate{text: "instr(lower(" + c.body + "), ?) > 0", args: []any{lower(piece)}}
}

// freeText asks the envelope, and lets every event pass that has content: in details, JSON may
// write a text in many ways.
func (c columns) freeText(x query.Text) predicate {
	in := c.inBody(x.Value)
	if x.Envelope || c.body == "" {
		return in
	}
	in.text = "(" + in.text + ") OR " + c.details + " IS NOT NULL AND (" + c.kind + " = 'session.command' OR " + c.kind + " >= 'sftp.' AND " + c.kind + " < 'sftp/')"
	return in
}

// sessions selects a list of SSH sessions. The list is sorted, or Match could not search it.
func (c columns) sessions(ids []string) predicate {
	if c.session == "" {
		return anything
	}
	list, ok := jsonList(ids)
	if !ok {
		return predicate{text: c.session + " <> ''"}
	}
	return predicate{c.session + " <> '' AND " + c.session + " IN (SELECT value FROM json_each(?))", []any{list}, slices.IsSorted(ids)}
}

// jsonList writes texts for json_each; ok is false where JSON would change one.
func jsonList(texts []string) (list string, ok bool) {
	for _, s := range texts {
		if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
			return "", false
		}
	}
	if texts == nil {
		texts = []string{}
	}
	b, err := json.Marshal(texts)
	return string(b), err == nil
}

// plain returns the longest piece of s that the JSON of an envelope, which is canonical, holds as it is.
func plain(s string) string {
	longest := ""
	for _, piece := range strings.FieldsFunc(s, func(r rune) bool {
		return r < ' ' || r >= utf8.RuneSelf || strings.ContainsRune(`"\<>&`, r)
	}) {
		if len(piece) > len(longest) {
			longest = piece
		}
	}
	return longest
}

// lower folds as query.Contains does, what is not UTF-8 included.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// nanos is UnixNano, clamped for times that it cannot hold; those of events lie between.
func nanos(t time.Time) int64 {
	switch {
	case t.UTC().Year() < 1970:
		return -1
	case t.UTC().Year() > 2261:
		return math.MaxInt64
	}
	return t.UnixNano()
}
