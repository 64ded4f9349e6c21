package broker

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"sega/audit/query"
	"sega/broker/api"
	"sega/broker/policy"
)

// lastLine ends a complete stream: without it the client knows that lines are missing.
const lastLine = `{"end":true}` + "\n"

// events answers a query. Those who may not read everybody's events read their own.
func (s *Server) events(ctx context.Context, c *call) (any, error) {
	q := c.request.URL.Query()
	asked, err := parseQuery(q, s.Now())
	if err != nil {
		return nil, err
	}
	decide := s.request(c.session, policy.ActionReadEvents, policy.Resource{Type: policy.TypeAuditLog, ID: "all"}, policy.Context{Source: c.source.String()})
	scope := "all"
	if d := s.Policy.Decide(*decide); !d.Allow && mine(asked.Where, c) {
		scope, asked.Where = "own", query.And{query.Actor{Iss: c.session.Issuer, Sub: c.session.Subject}, asked.Where}
		decide = s.request(c.session, policy.ActionReadEvents, policy.Resource{Type: policy.TypeAuditLog, ID: "own", Owner: c.session.Subject, OwnerIssuer: c.session.Issuer}, policy.Context{Source: c.source.String()})
	}
	op := operation{kind: "audit.read", name: "events/" + scope, decide: decide, details: map[string]any{"filter": q.Encode()}}
	op.act = func(context.Context, policy.Decision, string) (effect, error) {
		return effect{reply: stream(func(w http.ResponseWriter) {
			s.streamRows(w, c, func(emit func(any) error) error {
				for row, err := range s.Log.Search(ctx, asked) {
					if err != nil {
						return err
					}
					if err := emit(api.Event{Index: row.Index, Envelope: row.Body, Details: row.Details}); err != nil {
						return err
					}
				}
				return nil
			})
		})}, nil
	}
	return s.perform(ctx, c, op)
}

// mine reports whether a query names nobody else as the user, so that the asker's own events may be
// what it means.
func mine(x query.Expr, c *call) bool {
	switch x := x.(type) {
	case query.And:
		return !slices.ContainsFunc(x, func(part query.Expr) bool { return !mine(part, c) })
	case query.Or:
		return !slices.ContainsFunc(x, func(part query.Expr) bool { return !mine(part, c) })
	case query.Field:
		return x.Name != query.User || x.Op == query.Equal && (x.Value == c.session.Email || x.Value == c.session.Subject)
	}
	return true
}

// streamRows writes NDJSON and, when all of it was written, the last line.
func (s *Server) streamRows(w http.ResponseWriter, c *call, each func(emit func(any) error) error) {
	s.stamp(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(unhurried(w), 64<<10)
	encoder := json.NewEncoder(out)
	if err := each(func(v any) error { return encoder.Encode(v) }); err != nil {
		s.Logger.Error("stream broke off", "request", c.id, "error", err)
		_ = out.Flush()
		return
	}
	_, _ = out.WriteString(lastLine)
	_ = out.Flush()
}

// streamWrite is how long a client may take to accept a piece of a stream.
const streamWrite = 30 * time.Second

// unhurried lifts the server's limit on a request's time, which a stream may outlive, and sets one
// on each write instead: a client that accepts nothing does not hold a stream for ever.
func unhurried(w http.ResponseWriter) io.Writer {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // not every writer has deadlines: then there is none to lift
	return writerFunc(func(p []byte) (int, error) {
		_ = c.SetWriteDeadline(time.Now().Add(streamWrite))
		return w.Write(p)
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// parseQuery reads the query parameters of RouteEvents.
func parseQuery(q url.Values, now time.Time) (query.Query, error) {
	out := query.Query{After: -1, Intents: q.Get(api.ParamIntents) == "1", Newest: q.Get(api.ParamNewest) == "1"}
	var err error
	if out.Where, err = query.Parse(q.Get(api.ParamQuery), now); err != nil {
		return out, api.Errorf(api.KindInvalid, "%s", printable(err.Error(), 1000))
	}
	if v := q.Get(api.ParamAfter); v != "" {
		if out.After, err = strconv.ParseInt(v, 10, 64); err != nil || out.After < -1 {
			return out, api.Errorf(api.KindInvalid, "after is an index of the log")
		}
	}
	if v := q.Get(api.ParamBefore); v != "" {
		if out.Before, err = strconv.ParseInt(v, 10, 64); err != nil || out.Before < 1 {
			return out, api.Errorf(api.KindInvalid, "before is an index of the log above 0")
		}
	}
	if v := q.Get(api.ParamLimit); v != "" {
		if out.Limit, err = strconv.Atoi(v); err != nil || out.Limit < 0 {
			return out, api.Errorf(api.KindInvalid, "limit is a number of events")
		}
	}
	for name, values := range q {
		if !slices.Contains([]string{api.ParamQuery, api.ParamIntents, api.ParamNewest, api.ParamAfter, api.ParamBefore, api.ParamLimit}, name) {
			return out, api.Errorf(api.KindInvalid, "events are not asked for by %q; write it into %s", printable(name, 32), api.ParamQuery)
		}
		if len(values) > 1 { // the second would be dropped without a word
			return out, api.Errorf(api.KindInvalid, "%s is given %d times", name, len(values))
		}
	}
	return out, nil
}
