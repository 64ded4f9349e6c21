package awssts

import (
	"fmt"
	"strings"
	"time"
)

// AWS's limits of a session's length.
const (
	MinDuration     = 900 * time.Second
	DefaultDuration = time.Hour      // of a role, and of AssumeRole, where nothing else is said
	MaxDuration     = 12 * time.Hour // the highest MaxSessionDuration of any role
	ChainedDuration = time.Hour      // role chaining: AssumeRole called by an assumed role
)

// Keys of the session tags.
const (
	TagLogin   = "sega_login"
	TagRequest = "sega_request"
	TagTicket  = "sega_ticket"
)

// Request asks for a session of a role. The broker has already decided that the person may have it.
type Request struct {
	RoleARN    string
	ExternalID string // empty: none
	Identity
	LoginID   string // ses_…
	RequestID string
	Reason    string // for the audit log; it is free text and is never sent to AWS
	Ticket    string // empty: none
	// Want is what the person asked for; zero: as long as the limits give. PolicyMax and RoleMax
	// are limits; zero means AWS's default of an hour, never "no limit".
	Want, PolicyMax, RoleMax time.Duration
	Narrow

	Through     string       // ARN of the role whose session makes the call; empty: the broker makes it
	WebIdentity *WebIdentity // of the broker's call; nil: by its own AWS identity
}

// Tag is a session tag.
type Tag struct{ Key, Value string }

// Call holds the exact parameters of an AssumeRole call, or of an AssumeRoleWithWebIdentity call, whose
// tags and source identity are claims of its token.
type Call struct {
	RoleARN, SessionName, ExternalID, SourceIdentity string
	Duration                                         time.Duration // whole seconds
	Tags                                             []Tag         // none is transitive: each call of a chain sets its own
	Notices                                          []string      // one line for each thing that differs from what was asked, and why
	Narrow

	Through string       // as in Request
	Web     *WebIdentity // nil: AssumeRole
}

// plan is Minter.Plan with the caller's nature as a value.
func plan(r Request, chained bool) (Call, error) {
	name, err := SessionName(r.Identity)
	if err != nil {
		return Call{}, err
	}
	source, err := SourceIdentity(r.Identity)
	if err != nil {
		return Call{}, err
	}
	c := Call{RoleARN: r.RoleARN, SessionName: name, ExternalID: r.ExternalID, SourceIdentity: source, Narrow: r.Narrow, Through: r.Through, Web: r.WebIdentity}
	if c.Duration, c.Notices, err = clamp(r, chained && r.WebIdentity == nil); err != nil {
		return Call{}, err
	}
	c.Tags = []Tag{{TagLogin, r.LoginID}, {TagRequest, r.RequestID}}
	if r.Ticket != "" {
		ticket := tagValue(r.Ticket)
		c.Tags = append(c.Tags, Tag{TagTicket, ticket})
		if ticket != r.Ticket {
			c.Notices = append(c.Notices, fmt.Sprintf("the ticket stands in AWS as %q: tags take letters, digits, spaces and _ . : / = + - @, 256 at most", ticket))
		}
	}
	if err := c.validate(); err != nil {
		return Call{}, err
	}
	return c, nil
}

// limit is an upper bound of a session and the reason for it.
type limit struct {
	max time.Duration
	why string
}

// limits lists the bounds in the order in which they are told.
func limits(r Request, chained bool) []limit {
	l := []limit{
		{orDefault(r.PolicyMax), "policy allows no more for this role"},
		{orDefault(r.RoleMax), "the role's maximum session duration is no longer"},
		{MaxDuration, "AWS gives no session longer than that"},
	}
	switch {
	case r.Through != "":
		l = append(l, limit{ChainedDuration, "the role is assumed from another one, and AWS caps role chaining at one hour"})
	case chained:
		l = append(l, limit{ChainedDuration, "the broker itself runs as an assumed role, and AWS caps role chaining at one hour"})
	}
	return l
}

func orDefault(d time.Duration) time.Duration {
	if d == 0 {
		return DefaultDuration
	}
	return d
}

// clamp fits what was asked for between AWS's minimum and every limit. A limit below AWS's minimum
// is refused: the shortest session that AWS has would exceed it.
func clamp(r Request, chained bool) (time.Duration, []string, error) {
	if r.Want < 0 || r.PolicyMax < 0 || r.RoleMax < 0 {
		return 0, nil, invalid("a session's length is negative", "ask for 15m or more")
	}
	var notices []string
	d := r.Want.Truncate(time.Second)
	if r.Want == 0 {
		d = orDefault(r.PolicyMax).Truncate(time.Second)
	} else if d < MinDuration {
		notices = append(notices, fmt.Sprintf("session lengthened from %s to %s: AWS gives none shorter", short(r.Want), short(MinDuration)))
		d = MinDuration
	}
	why := ""
	for _, l := range limits(r, chained) {
		if l.max < MinDuration {
			return 0, nil, invalid(fmt.Sprintf("no session can be %s or shorter: %s, and AWS gives none under %s", short(l.max), l.why, short(MinDuration)),
				"raise the limit of this role to 15m or more")
		}
		if d > l.max {
			d, why = l.max.Truncate(time.Second), l.why
		}
	}
	if r.Want > 0 && why != "" { // who has asked for nothing misses nothing
		notices = append(notices, fmt.Sprintf("session shortened from %s to %s: %s", short(r.Want.Truncate(time.Second)), short(d), why))
	}
	return d, notices, nil
}

// short prints a duration without the zero units at its end: 1h, 15m, 1h30m.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
