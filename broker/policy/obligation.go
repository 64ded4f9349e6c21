package policy

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// Obligations are the terms of one grant. The zero value has none.
type Obligations struct {
	MaxDuration time.Duration // of credentials or session; 0: policy sets no limit
	NeedReason  bool
	NeedTicket  bool
	MaxAuthAge  time.Duration // 0: policy sets no limit
	MaxIdle     time.Duration // of an SSH session in which nothing moves; 0: policy sets no limit

	NeedHardware bool // the SSH key must be one of a FIDO2 authenticator
	NeedVerified bool // which has verified its user, by a PIN or a fingerprint; implies NeedHardware
}

// Unmet is what a request leaves undone of its obligations. The zero value means nothing.
type Unmet struct {
	Reason bool // a reason must be given
	Ticket bool // a ticket must be given
	StepUp bool // the person must authenticate afresh

	Hardware bool // the SSH key must be a FIDO2 key
	Verified bool // that key must have verified its user
}

// Unmet compares obligations with the circumstances that a Decision was made for. White space is
// no reason.
func (o Obligations) Unmet(c Context) Unmet {
	return Unmet{
		Reason: o.NeedReason && strings.TrimSpace(c.Reason) == "",
		Ticket: o.NeedTicket && strings.TrimSpace(c.Ticket) == "",
		StepUp: o.MaxAuthAge > 0 && c.AuthAge > o.MaxAuthAge,

		Hardware: (o.NeedHardware || o.NeedVerified) && !c.HardwareKey,
		Verified: o.NeedVerified && !(c.HardwareKey && c.UserVerified),
	}
}

// Any reports whether something is undone.
func (u Unmet) Any() bool { return u != Unmet{} }

// String says to the person what to add, or "".
func (u Unmet) String() string {
	var needs []string
	if u.Reason {
		needs = append(needs, "a reason")
	}
	if u.Ticket {
		needs = append(needs, "a ticket")
	}
	if u.StepUp {
		needs = append(needs, "a fresh login")
	}
	switch {
	case u.Verified:
		needs = append(needs, "a FIDO2 key that verifies its user")
	case u.Hardware:
		needs = append(needs, "a FIDO2 key")
	}
	return joinWords(needs, "and")
}

func (u Unmet) count() int { return count(u.Reason, u.Ticket, u.StepUp, u.Hardware, u.Verified) }

// demands counts the terms of a grant, for preferring the plainer of two equally long ones.
func (o Obligations) demands() int {
	return count(o.NeedReason, o.NeedTicket, o.MaxAuthAge > 0, o.NeedHardware, o.NeedVerified)
}

func count(bs ...bool) int {
	n := 0
	for _, b := range bs {
		if b {
			n++
		}
	}
	return n
}

// limit is a term of time with "no limit" as the longest.
func limit(d time.Duration) time.Duration {
	if d == 0 {
		return math.MaxInt64
	}
	return d
}

// best returns the grant that a decision rests on: the one of which the request leaves least
// undone, then the longest, then the one that may idle longest, then the one that demands least, then the first by ID.
func best(grants []*rule, c Context) *rule {
	return slices.MinFunc(grants, func(a, b *rule) int {
		return cmp.Or(
			cmp.Compare(a.terms.Unmet(c).count(), b.terms.Unmet(c).count()),
			cmp.Compare(limit(b.terms.MaxDuration), limit(a.terms.MaxDuration)),
			cmp.Compare(limit(b.terms.MaxIdle), limit(a.terms.MaxIdle)),
			cmp.Compare(a.terms.demands(), b.terms.demands()),
			cmp.Compare(a.id, b.id),
		)
	})
}
