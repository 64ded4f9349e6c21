package broker

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
)

// Scopes of reading.
const (
	scopeAll = "all"
	scopeOwn = "own"
)

// reading is what somebody may see of the log.
type reading struct {
	scope   string          // one of the scopes
	decide  *policy.Request // whether he may read events in it
	allowed bool
	content bool // whether he reads what was typed, too (R11)
}

// readEvents is what the audit.read of a search says of it.
type readEvents struct {
	Query   string   `json:"query"` // canonical, with absolute times, redacted
	Content bool     `json:"content"`
	Intents bool     `json:"intents,omitempty"`
	After   *int64   `json:"after,omitempty"`
	Before  int64    `json:"before,omitempty"`
	Newest  bool     `json:"newest,omitempty"`
	Limit   int      `json:"limit,omitempty"`
	Follow  bool     `json:"follow,omitempty"`
	By      []string `json:"by,omitempty"`
}

// events answers a query, and follows the log where that is asked for. Those who may not read
// everybody's events read their own.
func (s *Server) events(ctx context.Context, c *call) (any, error) {
	asked, follow, err := parseEvents(c.request.URL.Query(), s.Now())
	if err != nil {
		return nil, err
	}
	r := s.reading(c, asked.Where)
	details := s.readDetails(r, asked)
	details.Follow = follow
	op := operation{kind: audit.KindAuditRead, name: "events/" + r.scope, decide: r.decide, details: details}
	op.act = func(ctx context.Context, _ policy.Decision, _ string) (effect, error) {
		q, from, err := s.narrow(ctx, c, r, asked)
		if err != nil {
			return effect{}, err
		}
		stands := s.standing(c, authSession, s.mayReadOn(r, asked, from.shown))
		return effect{reply: stream(func(w http.ResponseWriter) {
			from.tell(w)
			f := &following{s: s, c: c, query: q, reading: r, stands: stands, out: s.newLines(w)}
			f.run(c.request.Context(), follow)
		})}, nil
	}
	return s.perform(ctx, c, op)
}

// count answers how many events a query selects, by dimensions.
func (s *Server) count(ctx context.Context, c *call) (any, error) {
	asked, by, err := parseCount(c.request.URL.Query(), s.Now())
	if err != nil {
		return nil, err
	}
	r := s.reading(c, asked.Where)
	details := s.readDetails(r, asked)
	for _, d := range by {
		details.By = append(details.By, string(d))
	}
	op := operation{kind: audit.KindAuditRead, name: "events/" + r.scope, decide: r.decide, details: details}
	op.act = func(ctx context.Context, _ policy.Decision, _ string) (effect, error) {
		groups, from, err := s.groups(ctx, c, r, asked, by)
		stands := s.standing(c, authSession, s.mayReadOn(r, asked, from.shown))
		return effect{reply: stream(func(w http.ResponseWriter) {
			from.tell(w)
			s.streamRows(c.request.Context(), w, c, stands, func(emit func(any) error) error {
				for _, g := range groups {
					if err := emit(g); err != nil {
						return err
					}
				}
				return nil
			})
		})}, err
	}
	return s.perform(ctx, c, op)
}

func (s *Server) groups(ctx context.Context, c *call, r reading, asked query.Query, by []query.Dimension) ([]query.Group, resolved, error) {
	q, from, err := s.narrow(ctx, c, r, asked)
	if err != nil {
		return nil, from, err
	}
	groups, err := s.Log.Count(ctx, q, by)
	if errors.Is(err, store.ErrTooManyGroups) {
		return nil, from, api.Errorf(api.KindInvalid, "there are more than %d groups", store.MaxGroups).
			WithHint("ask for less time (since:7d), for less of it (kind:session.*), or by fewer dimensions").WithCause(err)
	}
	return groups, from, unavailable(err)
}

// tell puts what the answer may lack into its header.
func (r resolved) tell(w http.ResponseWriter) {
	if r.notice != "" {
		w.Header().Set(api.HeaderNotice, r.notice)
	}
}

// mayReadOn is whether an answer may go on: policy decides as it did, of the events and of the
// recordings that the query was answered with.
func (s *Server) mayReadOn(was reading, asked query.Query, shown []recordingOf) func(now *call) error {
	return func(now *call) error {
		r := s.reading(now, asked.Where)
		if _, problem := s.decided(operation{name: "events/" + r.scope, decide: r.decide}); problem != nil {
			return problem
		}
		changed := r.scope != was.scope || r.content != was.content
		for _, of := range shown {
			if changed {
				break
			}
			_, problem := s.decided(s.replaying(now, of))
			changed = problem != nil
		}
		if changed {
			return api.Errorf(api.KindDenied, "what policy lets you read has changed").WithHint("ask again")
		}
		return nil
	}
}

// readDetails is what the log says of a search. Whoever looks for a secret does not log it.
func (s *Server) readDetails(r reading, asked query.Query) readEvents {
	text, _ := s.redact.text(query.Format(asked.Where))
	details := readEvents{Query: text, Content: r.content, Intents: asked.Intents, Before: asked.Before, Newest: asked.Newest, Limit: asked.Limit}
	if asked.After >= 0 {
		details.After = &asked.After
	}
	return details
}

// reading decides what the asker may see: all of the log, or his own events where he may not and
// the query names nobody else; each with or without content.
func (s *Server) reading(c *call, where query.Expr) reading {
	all := s.readingOf(c, scopeAll)
	if all.allowed || !mine(where, c) {
		return all
	}
	return s.readingOf(c, scopeOwn)
}

func (s *Server) readingOf(c *call, scope string) reading {
	decide := s.request(c.session, policy.ActionReadEvents, c.logResource(scope), policy.Context{Source: c.source.String()})
	return reading{scope: scope, decide: decide, allowed: s.Policy.Decide(*decide).Allow, content: s.readsContent(c, scope)}
}

// readsContent reports whether policy lets the asker read what was typed in events of a scope.
func (s *Server) readsContent(c *call, scope string) bool {
	decide := s.request(c.session, policy.ActionReadContent, c.logResource(scope), policy.Context{Source: c.source.String()})
	d := s.Policy.Decide(*decide)
	if len(d.Errors) > 0 {
		s.Logger.Error("policy errs", "errors", d.Errors)
	}
	unmet := d.Obligations.Unmet(decide.Context)
	return d.Allow && !unmet.Reason && !unmet.Ticket && !unmet.StepUp
}

// logResource is the log, or the part of it that is the asker's own, as policy knows it.
func (c *call) logResource(scope string) policy.Resource {
	r := policy.Resource{Type: policy.TypeAuditLog, ID: scope}
	if scope == scopeOwn {
		r.Owner, r.OwnerIssuer = c.session.Subject, c.session.Issuer
	}
	return r
}

// mine reports whether a query names nobody else as the user, so that the asker's own events may be
// what it means. It decides between an answer and a refusal: what is answered, narrow decides.
func mine(x query.Expr, c *call) bool {
	other := func(part query.Expr) bool { return !mine(part, c) }
	switch x := x.(type) {
	case query.And:
		return !slices.ContainsFunc(x, other)
	case query.Or:
		return !slices.ContainsFunc(x, other)
	case query.Field:
		return x.Name != query.User || x.Op == query.Equal && (x.Value == c.session.Email || x.Value == c.session.Subject)
	}
	return true
}

// narrow is the query that is searched with: nothing of anybody else in the scope of one's own,
// nothing found by content that may not be read, and what screens showed as the sessions that did.
func (s *Server) narrow(ctx context.Context, c *call, r reading, q query.Query) (_ query.Query, from resolved, err error) {
	if screens := query.Screens(q.Where); len(screens) > 0 {
		switch {
		// A search runs over everybody's recordings: how long it takes tells of them, and it costs the indexer as much.
		case r.scope != scopeAll:
			return q, from, api.Errorf(api.KindDenied, "what screens showed is searched by those who read everybody's events").WithHint("leave screen: out of the query")
		case !r.content:
			return q, from, api.Errorf(api.KindDenied, "what screens showed is content, which policy does not let you read").WithHint("leave screen: out of the query")
		}
		if from, err = s.resolveScreens(ctx, c, q.Where); err != nil {
			return q, from, err
		}
		q.Where = from.where
	}
	if !r.content {
		q.Where = query.Enveloped(q.Where)
	}
	if r.scope != scopeAll {
		q.Where = query.And{query.Actor{Iss: c.session.Issuer, Sub: c.session.Subject}, q.Where}
	}
	return q, from, nil
}

// line is a row as the asker may read it.
func (r reading) line(row audit.Row) api.Event {
	e := api.Event{Index: row.Index, Envelope: row.Body, Details: row.Details}
	if r.content || len(row.Details) == 0 {
		return e
	}
	var v struct {
		Kind string `json:"kind"`
	}
	if json.Unmarshal(row.Body, &v) != nil {
		v.Kind = audit.KindSessionCommand // what it is cannot be told: the strictest
	}
	e.Details = audit.Withhold(v.Kind, row.Details)
	return e
}
