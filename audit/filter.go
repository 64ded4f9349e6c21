package audit

import "strings"

// Prefixes of Event.Resource that Filter knows.
const (
	ResourceRole = "role/"
	ResourceHost = "host/"
)

// Pattern is a value that a Filter compares with: exact, or a prefix where a * ends it.
type Pattern struct {
	Text   string
	Prefix bool
}

// ParsePattern reads a value of a Filter.
func ParsePattern(s string) Pattern {
	text, prefix := strings.CutSuffix(s, "*")
	return Pattern{Text: text, Prefix: prefix}
}

// Match reports whether s fits.
func (p Pattern) Match(s string) bool {
	if p.Prefix {
		return strings.HasPrefix(s, p.Text)
	}
	return s == p.Text
}

// WithIntents reports whether rows of the outcome intent are asked for.
func (f Filter) WithIntents() bool { return f.Intents || f.Outcome == Intent }

// Match reports whether the filter selects e. It is the meaning of Filter that every backend's
// query must share: User is the actor's e-mail or subject, Session is the login or the SSH session,
// Sub and Iss together name one actor, and times are in [Since, Until). After and Limit concern
// places in the log and are not looked at.
func (f Filter) Match(e Event) bool {
	return f.matchActor(e) && f.matchSubject(e) && f.matchTime(e)
}

func (f Filter) matchActor(e Event) bool {
	if f.User != "" {
		p := ParsePattern(f.User)
		if !p.Match(e.Actor.Email) && !p.Match(e.Actor.Sub) {
			return false
		}
	}
	if f.Sub != "" || f.Iss != "" {
		return e.Actor.Sub == f.Sub && e.Actor.Iss == f.Iss
	}
	return true
}

func (f Filter) matchSubject(e Event) bool {
	switch {
	case f.Kind != "" && !ParsePattern(f.Kind).Match(e.Kind),
		f.Role != "" && !ParsePattern(ResourceRole+f.Role).Match(e.Resource),
		f.Host != "" && !ParsePattern(ResourceHost+f.Host).Match(e.Resource),
		f.Outcome != "" && e.Outcome != f.Outcome,
		!f.WithIntents() && e.Outcome == Intent,
		f.Session != "" && e.SessionID != f.Session && e.LoginID != f.Session:
		return false
	}
	return true
}

func (f Filter) matchTime(e Event) bool {
	return (f.Since.IsZero() || !e.Time.Before(f.Since)) && (f.Until.IsZero() || e.Time.Before(f.Until))
}
