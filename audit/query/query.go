package query

import (
	"strings"
	"time"

	"sega/audit"
)

// Query is a question to a log.
type Query struct {
	Where   Expr  // nil for everything
	Intents bool  // also events of the outcome intent, which are left out unless Where names that outcome
	After   int64 // only events of a higher index; -1 for all
	Before  int64 // only events of a lower index; 0 for all
	Limit   int   // at most so many; 0 for all
	Newest  bool  // in falling order of index; else rising
}

// All asks for everything, intents too.
func All() Query { return Query{Intents: true, After: -1} }

// Match reports whether the query selects the event at an index. Limit and order are not looked at.
func (q Query) Match(index int64, e audit.Event) bool {
	if index <= q.After || q.Before > 0 && index >= q.Before {
		return false
	}
	if e.Outcome == audit.Intent && !q.WithIntents() {
		return false
	}
	return q.Where == nil || q.Where.Match(e)
}

// WithIntents reports whether events of the outcome intent are selected: Intents is set, or Where
// names that outcome somewhere.
func (q Query) WithIntents() bool { return q.Intents || namesIntent(q.Where) }

func namesIntent(x Expr) bool {
	switch x := x.(type) {
	case And:
		for _, part := range x {
			if namesIntent(part) {
				return true
			}
		}
	case Or:
		for _, part := range x {
			if namesIntent(part) {
				return true
			}
		}
	case Not:
		return namesIntent(x.X)
	case Field:
		return x.Name == Outcome && x.Op == Equal && x.Value == string(audit.Intent)
	}
	return false
}

// Dimension is what events are counted by.
type Dimension string

// Dimensions.
const (
	ByUser    Dimension = "user" // e-mail, or subject where there is none
	ByKind    Dimension = "kind"
	ByOutcome Dimension = "outcome"
	ByRole    Dimension = "role" // "" for events of no role
	ByHost    Dimension = "host" // "" for events of no host
	ByDay     Dimension = "day"  // of the event's time in UTC, like 2026-01-31
)

// Dimensions lists them.
func Dimensions() []Dimension {
	return []Dimension{ByUser, ByKind, ByOutcome, ByRole, ByHost, ByDay}
}

// Of returns an event's value.
func (d Dimension) Of(e audit.Event) string {
	switch d {
	case ByUser:
		if e.Actor.Email != "" {
			return e.Actor.Email
		}
		return e.Actor.Sub
	case ByKind:
		return e.Kind
	case ByOutcome:
		return string(e.Outcome)
	case ByRole:
		return strings.Join(resourceName(e.Resource, audit.ResourceRole), "")
	case ByHost:
		return strings.Join(resourceName(e.Resource, audit.ResourceHost), "")
	case ByDay:
		return e.Time.UTC().Format(time.DateOnly)
	}
	return ""
}

// Group is how many events share a value in each dimension.
type Group struct {
	Key   []string `json:"key"` // in the order of the dimensions asked for
	Count int64    `json:"count"`
}
