package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/query"
)

// lean reads of each event no more than a question needs: a count over a free text looks at
// hundreds of thousands of rows, and parsing an envelope takes longer than finding it.
type lean struct {
	names []string // columns of events, outcome among them
	said  bool     // reason and ticket too, from the body
}

// leanFor returns what a question needs, or false where only the whole event answers it.
func leanFor(q query.Query, by []query.Dimension) (lean, bool) {
	n := lean{names: []string{"outcome"}}
	ok := q.Where == nil || n.need(q.Where)
	for _, d := range by {
		n.names = append(n.names, map[query.Dimension][]string{query.ByUser: {"email", "sub"}, query.ByKind: {"kind"},
			query.ByRole: {"resource"}, query.ByHost: {"resource"}, query.ByDay: {"time"}}[d]...)
	}
	slices.Sort(n.names)
	n.names = slices.Compact(n.names)
	if n.said {
		n.names = append(n.names, "body")
	}
	return n, ok
}

// need adds what Match of an expression looks at, or returns false where it cannot tell.
func (n *lean) need(x query.Expr) bool {
	switch x := x.(type) {
	case query.And:
		return n.needAll(x)
	case query.Or:
		return n.needAll(x)
	case query.Not:
		return n.need(x.X)
	case query.Since, query.Until:
		n.names = append(n.names, "time")
	case query.Actor:
		n.names = append(n.names, "iss", "sub")
	case query.Sessions:
		n.names = append(n.names, "session_id")
	case query.Text:
		n.said = true
		if !x.Envelope {
			n.names = append(n.names, "kind", "details")
		}
	case query.Field:
		names, ok := fieldColumns[x.Name]
		n.names, n.said = append(n.names, names...), n.said || x.Name == query.Reason || x.Name == query.Ticket
		return ok
	case query.Screen:
	default:
		return false
	}
	return true
}

func (n *lean) needAll(parts []query.Expr) bool {
	return !slices.ContainsFunc(parts, func(x query.Expr) bool { return !n.need(x) })
}

var fieldColumns = map[query.Name][]string{query.User: {"email", "sub"}, query.Kind: {"kind"}, query.Role: {"resource"}, query.Host: {"resource"},
	query.Outcome: nil, query.Session: {"login_id", "session_id"}, query.Reason: nil, query.Ticket: nil, query.Resource: {"resource"},
	query.Action: {"action"}, query.Source: {"source"}, query.Node: {"node"}, query.ID: {"id"}}

// set puts a column's value into an event.
func (n lean) set(e *audit.Event, name string, v []byte) error {
	switch name {
	case "outcome":
		e.Outcome = audit.Outcome(v)
	case "email":
		e.Actor.Email = string(v)
	case "sub":
		e.Actor.Sub = string(v)
	case "iss":
		e.Actor.Iss = string(v)
	case "kind":
		e.Kind = string(v)
	case "login_id":
		e.LoginID = string(v)
	case "session_id":
		e.SessionID = string(v)
	case "action":
		e.Action = string(v)
	case "resource":
		e.Resource = string(v)
	case "source":
		e.Source = string(v)
	case "node":
		e.Node = string(v)
	case "id":
		e.ID = string(v)
	case "details":
		e.Details = v
	case "time":
		ns, err := strconv.ParseInt(string(v), 10, 64)
		e.Time = time.Unix(0, ns).UTC()
		return err
	case "body":
		return said(e, v)
	}
	return nil
}

// said reads reason and ticket of an envelope. In its canonical JSON a name in quotes with a colon
// stands nowhere but where the field is: inside of a text, quotes are escaped.
func said(e *audit.Event, body []byte) (err error) {
	if e.Reason, err = stringField(body, `"reason":"`); err != nil {
		return err
	}
	e.Ticket, err = stringField(body, `"ticket":"`)
	return err
}

func stringField(body []byte, name string) (string, error) {
	_, rest, found := bytes.Cut(body, []byte(name))
	end := 0
	for end < len(rest) && rest[end] != '"' {
		if rest[end] == '\\' {
			end++
		}
		end++
	}
	if !found || end >= len(rest) {
		return "", fmt.Errorf("the envelope has no %s", strings.Trim(name, `":`))
	}
	if bytes.IndexByte(rest[:end], '\\') < 0 {
		return string(rest[:end]), nil
	}
	var s string
	err := json.Unmarshal(body[len(body)-len(rest)-1:len(body)-len(rest)+end+1], &s)
	return s, err
}

// countLean counts what a search finds, and reads no more of it than n says.
func (l *Log) countLean(ctx context.Context, q query.Query, n lean, t *tally) error {
	q.Limit, q.Newest = 0, false
	return l.spans(ctx, q, func(s *searcher, r run) (int, bool, error) {
		if s.walk {
			err := n.count(ctx, s, t, `idx >= ? AND idx < ?`, r.from, r.to)
			return 0, err == nil, err
		}
		ids, err := s.candidates(ctx, r)
		if err != nil || len(ids) == 0 {
			return 0, err == nil, err
		}
		list, err := json.Marshal(ids)
		if err == nil {
			err = n.count(ctx, s, t, `idx IN (SELECT value FROM json_each(?))`, string(list))
		}
		return len(ids), err == nil, err
	})
}

// count counts the events of a condition that the query selects.
func (n lean) count(ctx context.Context, s *searcher, t *tally, where string, args ...any) error {
	return s.l.scans.run(ctx, func(db *sql.DB) error {
		return n.countOn(ctx, db, s, t, where, args...)
	})
}

func (n lean) countOn(ctx context.Context, db *sql.DB, s *searcher, t *tally, where string, args ...any) error {
	rows, err := db.QueryContext(ctx, `SELECT idx, `+strings.Join(n.names, ", ")+` FROM events NOT INDEXED WHERE `+where+` AND (`+s.where.text+`)`, append(args, s.where.args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var index int64
	values, dest, key := make([]sql.RawBytes, len(n.names)), []any{&index}, make([]string, len(t.by))
	for i := range values {
		dest = append(dest, &values[i])
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		var e audit.Event
		for i, name := range n.names {
			if err := n.set(&e, name, values[i]); err != nil {
				return fmt.Errorf("event %d: %w", index, err)
			}
		}
		if !s.q.Match(index, e) {
			continue
		}
		for i, d := range t.by {
			key[i] = d.Of(e)
		}
		if err := t.add(key, 1); err != nil {
			return err
		}
	}
	return rows.Err()
}
