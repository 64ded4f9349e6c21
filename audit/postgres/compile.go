package postgres

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"sega/audit"
	"sega/audit/query"
)

// statement is SQL under construction: its parameters in the order of their numbers.
type statement struct{ args []any }

// param adds a parameter and returns its place.
func (s *statement) param(v any) string {
	s.args = append(s.args, v)
	return fmt.Sprintf("$%d", len(s.args))
}

// compiler turns a query into a condition over a table's columns. What SQL cannot tell exactly, it
// tells generously or narrowly, so that the whole never loses what the query selects.
type compiler struct {
	*statement
	resource string // the column of resources: "resource" of events, "target" of rollups
	inexact  bool   // the condition selects more than the query
}

const (
	sqlTrue  = "TRUE"
	sqlFalse = "FALSE"
)

// condition selects all that x does. Where generous is false it selects nothing that x does not.
func (c *compiler) condition(x query.Expr, generous bool) string {
	switch x := x.(type) {
	case nil:
		return sqlTrue
	case query.And:
		return c.join(x, generous, " AND ", sqlTrue)
	case query.Or:
		return c.join(x, generous, " OR ", sqlFalse)
	case query.Not:
		return "NOT " + c.condition(x.X, !generous)
	case query.Field:
		return c.field(x, generous)
	case query.Actor:
		if !utf8.ValidString(x.Iss + x.Sub) {
			return sqlFalse
		}
		return "(iss = " + c.param(escape(x.Iss)) + " AND sub = " + c.param(escape(x.Sub)) + ")"
	case query.Since:
		return "time >= " + c.param(nanos(x.At))
	case query.Until:
		return "time < " + c.param(nanos(x.At))
	case query.Text:
		return c.unsure(generous, func() string { return c.anyText(x.Value, !x.Envelope) })
	case query.Sessions:
		return "(session_id <> '' AND session_id = ANY(" + c.param(escapeAll(x.IDs)) + "::text[]))"
	case query.Screen:
		return sqlFalse
	}
	return c.unsure(generous, func() string { return sqlTrue })
}

func (c *compiler) join(parts []query.Expr, generous bool, by, none string) string {
	if len(parts) == 0 {
		return none
	}
	texts := make([]string, len(parts))
	for i, x := range parts {
		texts[i] = c.condition(x, generous)
	}
	return "(" + strings.Join(texts, by) + ")"
}

// unsure is a condition that selects more than is asked for.
func (c *compiler) unsure(generous bool, more func() string) string {
	c.inexact = true
	if generous {
		return more()
	}
	return sqlFalse
}

// fieldColumns are the columns that a field's values stand in as they are.
var fieldColumns = map[query.Name][]string{
	query.User: {"email", "sub"}, query.Kind: {"kind"}, query.Outcome: {"outcome"}, query.Session: {"login_id", "session_id"},
	query.Resource: {"resource"}, query.Action: {"action"}, query.Source: {"source"}, query.Node: {"node"}, query.ID: {"id"},
}

// sqlOdd repeats what partial indexes of events ask of the outcome: the planner does not infer it.
const sqlOdd = ` AND outcome NOT IN ('success', 'intent')`

var resourcePrefixes = map[query.Name]string{query.Role: audit.ResourceRole, query.Host: audit.ResourceHost}

func (c *compiler) field(x query.Field, generous bool) string {
	if !utf8.ValidString(x.Value) { // nothing equals it, and what begins with it or contains it is Match's to say
		if x.Op == query.Equal {
			return sqlFalse
		}
		return c.unsure(generous, func() string { return sqlTrue })
	}
	if prefix, ok := resourcePrefixes[x.Name]; ok {
		return c.named(prefix, x)
	}
	if x.Name == query.Outcome && x.Op == query.Equal && x.Value != string(audit.Success) && x.Value != string(audit.Intent) {
		return "(" + c.compare("outcome", x.Op, x.Value) + sqlOdd + ")"
	}
	if columns, ok := fieldColumns[x.Name]; ok {
		texts := make([]string, len(columns))
		for i, column := range columns {
			texts[i] = c.compare(column, x.Op, x.Value)
		}
		return "(" + strings.Join(texts, " OR ") + ")"
	}
	return c.unsure(generous, func() string { return c.inBody(x) })
}

// named compares the name in a resource of one type.
func (c *compiler) named(prefix string, x query.Field) string {
	if x.Op != query.Contains {
		return c.compare(c.resource, x.Op, prefix+x.Value)
	}
	return fmt.Sprintf("(starts_with(%s, '%s') AND %s)", c.resource, prefix, c.compare(fmt.Sprintf("substr(%s, %d)", c.resource, len(prefix)+1), x.Op, x.Value))
}

// compare compares a text of the table, whose collation is "C": by bytes, lower in ASCII alone.
func (c *compiler) compare(column string, op query.Op, value string) string {
	value = escape(value)
	switch op {
	case query.Prefix:
		return column + " LIKE " + c.param(likeText(value)+"%")
	case query.Contains:
		return "lower(" + column + ") LIKE " + c.param("%"+likeText(lowerASCII(value))+"%")
	}
	return column + " = " + c.param(value)
}

// inBody looks for a field that has no column in the envelope's bytes: in JSON as Seal writes it.
func (c *compiler) inBody(x query.Field) string {
	value := jsonText(x.Value)
	switch {
	case x.Op == query.Contains || x.Name == query.Policy && x.Op == query.Prefix:
		return c.bytesLike("body", value)
	case x.Name == query.Policy:
		value = `"` + value + `"`
	case x.Op == query.Prefix:
		value = `"` + string(x.Name) + `":"` + value
	default:
		value = `"` + string(x.Name) + `":"` + value + `"`
	}
	return "position(" + c.param([]byte(value)) + "::bytea IN body) > 0"
}

// anyText looks for a free text in the envelope and, where content is set, in the details of events
// that have content. Details are JSON in anybody's spelling: what is escaped or in base64 is let through.
func (c *compiler) anyText(value string, content bool) string {
	if !utf8.ValidString(value) {
		return sqlTrue
	}
	envelope := c.bytesLike("body", jsonText(value))
	if !content {
		return envelope
	}
	details := sqlTrue
	if plainJSON(value) {
		details = c.bytesLike("details", value) + " OR " + c.bytesLike("details", `\u`) + " OR " + c.bytesLike("details", `"raw"`)
	}
	return "(" + envelope + " OR details IS NOT NULL AND (kind = 'session.command' OR starts_with(kind, 'sftp.')) AND (" + details + "))"
}

// bytesLike looks for a text in bytes, letters of ASCII in either case alike. The column may hold
// anything: where a byte is no ASCII, or a backslash, both sides have PostgreSQL's escape for it.
func (c *compiler) bytesLike(column, text string) string {
	var b strings.Builder
	for i := range len(text) {
		switch ch := text[i]; {
		case ch == '\\':
			b.WriteString(`\\`)
		case ch == 0 || ch >= 0x80:
			fmt.Fprintf(&b, `\%03o`, ch)
		default:
			b.WriteByte(ch)
		}
	}
	return "lower(encode(" + column + `, 'escape') COLLATE "C") LIKE ` + c.param("%"+likeText(lowerASCII(b.String()))+"%")
}

// plainJSON reports whether a JSON string can spell the text only as it is, or with \u.
func plainJSON(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == '"' || r == '\\' || r == '/' })
}

// jsonText is a text as it stands between the quotes of canonical JSON.
func jsonText(s string) string {
	b, err := json.Marshal(s)
	if err != nil { // a string always has JSON
		return s
	}
	return string(b[1 : len(b)-1])
}

// likeText is a text as a pattern of LIKE.
func likeText(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, ch := range b {
		if 'A' <= ch && ch <= 'Z' {
			b[i] = ch + 'a' - 'A'
		}
	}
	return string(b)
}

func escapeAll(values []string) []string {
	out := []string{}
	for _, v := range values {
		if utf8.ValidString(v) {
			out = append(out, escape(v))
		}
	}
	return out
}

// nanos is a time as the column has it; events lie between the years that it can tell.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// where is the condition of a whole query over events; exact tells whether it selects no more.
func (s *statement) where(q query.Query) (text string, exact bool) {
	c := compiler{statement: s, resource: "resource"}
	text = c.condition(q.Where, true)
	if !q.WithIntents() {
		text += " AND outcome <> 'intent'"
	}
	return text, !c.inexact
}
