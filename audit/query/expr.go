package query

import (
	"slices"
	"strings"
	"time"

	"sega/audit"
)

// Expr is a node of a query: And, Or, Not, Field, Actor, Since, Until, Text, Screen or Sessions.
// Match reports whether it selects an event, whose Details are as stored.
type Expr interface {
	Match(e audit.Event) bool
}

// And selects what every part selects; the empty And everything.
type And []Expr

// Or selects what some part selects; the empty Or nothing.
type Or []Expr

// Not selects what X does not.
type Not struct{ X Expr }

// Name of a field as people write it.
type Name string

// Fields. User is the actor's e-mail or subject; Role and Host are names in a resource of that
// type; Session is the login (ses_…) or the SSH session (ssh_…) of an event.
const (
	User     Name = "user"
	Kind     Name = "kind"
	Role     Name = "role"
	Host     Name = "host"
	Outcome  Name = "outcome"
	Session  Name = "session"
	Reason   Name = "reason"
	Ticket   Name = "ticket"
	Resource Name = "resource"
	Action   Name = "action"
	Source   Name = "source"
	Node     Name = "node"
	ID       Name = "id"
	Policy   Name = "policy" // the ID of one of the policies that determined the decision
)

// Names lists the fields.
func Names() []Name {
	return []Name{User, Kind, Role, Host, Outcome, Session, Reason, Ticket, Resource, Action, Source, Node, ID, Policy}
}

// Op is how a field is compared.
type Op byte

// Equal and Prefix compare bytes. Contains looks for a substring and takes ASCII letters of either
// case for the same.
const (
	Equal Op = iota
	Prefix
	Contains
)

// Field selects by one field: name:value, name:value* or name:~value.
type Field struct {
	Name  Name
	Op    Op
	Value string
}

// Actor selects the events of one identity (design R2). It has no text: the broker adds it for
// those who may read only what is their own.
type Actor struct{ Iss, Sub string }

// Since selects events at or after a time, Until those before it.
type Since struct{ At time.Time }

// Until selects events before a time.
type Until struct{ At time.Time }

// Text is free text: a substring of the reason, the ticket or the content (audit.Content) of an
// event, as Contains compares. With Envelope set the content is left out, for those who may not read it.
type Text struct {
	Value    string
	Envelope bool
}

// Screen selects the events of SSH sessions whose recorded screen showed the text. Only an indexer
// can tell (design R11): the broker replaces it by Sessions before it searches. By itself it
// matches nothing.
type Screen struct{ Value string }

// Sessions selects the events of these SSH sessions, sorted. It has no text.
type Sessions struct{ IDs []string }

// Match implements Expr.
func (x And) Match(e audit.Event) bool {
	for _, part := range x {
		if !part.Match(e) {
			return false
		}
	}
	return true
}

// Match implements Expr.
func (x Or) Match(e audit.Event) bool {
	return slices.ContainsFunc(x, func(part Expr) bool { return part.Match(e) })
}

// Match implements Expr.
func (x Not) Match(e audit.Event) bool { return !x.X.Match(e) }

// Match implements Expr.
func (x Field) Match(e audit.Event) bool {
	return slices.ContainsFunc(x.Name.values(e), x.compare)
}

func (x Field) compare(v string) bool {
	switch x.Op {
	case Prefix:
		return strings.HasPrefix(v, x.Value)
	case Contains:
		return containsFold(v, x.Value)
	}
	return v == x.Value
}

// values are what an event has in a field: none where it has no such thing.
func (n Name) values(e audit.Event) []string {
	switch n {
	case User:
		return []string{e.Actor.Email, e.Actor.Sub}
	case Kind:
		return []string{e.Kind}
	case Role:
		return resourceName(e.Resource, audit.ResourceRole)
	case Host:
		return resourceName(e.Resource, audit.ResourceHost)
	case Outcome:
		return []string{string(e.Outcome)}
	case Session:
		return []string{e.LoginID, e.SessionID}
	case Reason:
		return []string{e.Reason}
	case Ticket:
		return []string{e.Ticket}
	case Resource:
		return []string{e.Resource}
	case Action:
		return []string{e.Action}
	case Source:
		return []string{e.Source}
	case Node:
		return []string{e.Node}
	case ID:
		return []string{e.ID}
	case Policy:
		return e.PolicyIDs
	}
	return nil
}

func resourceName(resource, prefix string) []string {
	if name, ok := strings.CutPrefix(resource, prefix); ok {
		return []string{name}
	}
	return nil
}

// Match implements Expr.
func (x Actor) Match(e audit.Event) bool { return e.Actor.Iss == x.Iss && e.Actor.Sub == x.Sub }

// Match implements Expr.
func (x Since) Match(e audit.Event) bool { return !e.Time.Before(x.At) }

// Match implements Expr.
func (x Until) Match(e audit.Event) bool { return e.Time.Before(x.At) }

// Match implements Expr.
func (x Text) Match(e audit.Event) bool {
	return containsFold(e.Reason, x.Value) || containsFold(e.Ticket, x.Value) || !x.Envelope && containsFold(audit.Content(e), x.Value)
}

// Match implements Expr.
func (x Screen) Match(audit.Event) bool { return false }

// Match implements Expr.
func (x Sessions) Match(e audit.Event) bool {
	_, found := slices.BinarySearch(x.IDs, e.SessionID)
	return found && e.SessionID != ""
}

// containsFold is strings.Contains with ASCII letters of either case alike.
func containsFold(s, sub string) bool {
	return strings.Contains(lower(s), lower(sub))
}

func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
