package policy

import (
	"testing"
	"time"
)

const (
	long  = `@id("long") @max_duration("4h") @require_reason("yes") @require_ticket("yes") @max_auth_age("30m") permit (principal, action, resource);`
	short = `@id("short") @max_duration("1h") permit (principal, action, resource);`
	free  = `@id("free") permit (principal, action, resource);`
	ticky = `@id("ticky") @max_duration("1h") @require_ticket("yes") permit (principal, action, resource);`
	sk    = `@id("sk") @max_duration("2h") @require_hardware_key("yes") permit (principal, action, resource);`
	pin   = `@id("pin") @max_duration("4h") @require_user_verification("yes") permit (principal, action, resource);`
	idler = `@id("idler") @max_duration("1h") @max_idle("10m") permit (principal, action, resource);`
	fresh = `@id("fresh") @max_duration("1h") @max_auth_age("10m") permit (principal, action, resource);`
)

func with(reason, ticket string, age time.Duration) func(*Request) {
	return func(r *Request) { r.Reason, r.Ticket, r.AuthAge = reason, ticket, age }
}

func plainKey(*Request) {}

func hardware(verified bool) func(*Request) {
	return func(r *Request) { r.HardwareKey, r.UserVerified = true, verified }
}

func TestObligationsAreOfOneGrant(t *testing.T) {
	longTerms := Obligations{MaxDuration: 4 * time.Hour, NeedReason: true, NeedTicket: true, MaxAuthAge: 30 * time.Minute}
	pinTerms := Obligations{MaxDuration: 4 * time.Hour, NeedVerified: true}
	shortTerms := Obligations{MaxDuration: time.Hour}
	for name, c := range map[string]struct {
		policies []string
		change   func(*Request)
		ids      []string
		want     Obligations
		unmet    string
	}{
		"one grant, terms met":      {[]string{long}, with("r", "t", time.Minute), []string{"long"}, longTerms, ""},
		"one grant, nothing met":    {[]string{long}, with("", "", time.Hour), []string{"long"}, longTerms, "a reason, a ticket and a fresh login"},
		"white space is no reason":  {[]string{long}, with(" \t", "t", time.Minute), []string{"long"}, longTerms, "a reason"},
		"at the age's limit":        {[]string{long}, with("r", "t", 30*time.Minute), []string{"long"}, longTerms, ""},
		"past the age's limit":      {[]string{long}, with("r", "t", 30*time.Minute+1), []string{"long"}, longTerms, "a fresh login"},
		"four hours only with it":   {[]string{long, short}, with("", "", time.Minute), []string{"short", "long"}, shortTerms, ""},
		"half of the terms is none": {[]string{long, short}, with("r", "", time.Minute), []string{"short", "long"}, shortTerms, ""},
		"all terms, longer grant":   {[]string{long, short}, with("r", "t", time.Minute), []string{"long", "short"}, longTerms, ""},
		"no limit is the longest":   {[]string{long, free, short}, with("r", "t", time.Minute), []string{"free", "long", "short"}, Obligations{}, ""},
		"equally long, less asked":  {[]string{ticky, short}, with("", "t", time.Minute), []string{"short", "ticky"}, shortTerms, ""},
		"least left undone": {[]string{long, ticky}, with("", "", time.Minute), []string{"ticky", "long"},
			Obligations{MaxDuration: time.Hour, NeedTicket: true}, "a ticket"},
		"a plain key":                      {[]string{sk}, plainKey, []string{"sk"}, Obligations{MaxDuration: 2 * time.Hour, NeedHardware: true}, "a FIDO2 key"},
		"a FIDO2 key":                      {[]string{sk}, hardware(false), []string{"sk"}, Obligations{MaxDuration: 2 * time.Hour, NeedHardware: true}, ""},
		"a FIDO2 key that verifies nobody": {[]string{pin}, hardware(false), []string{"pin"}, pinTerms, "a FIDO2 key that verifies its user"},
		"a FIDO2 key that verifies":        {[]string{pin}, hardware(true), []string{"pin"}, pinTerms, ""},
		"verification of a plain key":      {[]string{pin}, func(r *Request) { r.UserVerified = true }, []string{"pin"}, pinTerms, "a FIDO2 key that verifies its user"},
		"four hours only with the PIN":     {[]string{pin, sk}, hardware(false), []string{"sk", "pin"}, Obligations{MaxDuration: 2 * time.Hour, NeedHardware: true}, ""},
		"equally long, idles longer":       {[]string{idler, short}, with("", "", time.Minute), []string{"short", "idler"}, shortTerms, ""},
		"idle limit": {[]string{idler}, with("", "", time.Minute), []string{"idler"},
			Obligations{MaxDuration: time.Hour, MaxIdle: 10 * time.Minute}, ""},
		"equal in all, by ID": {[]string{ticky, fresh}, with("", "", time.Hour), []string{"fresh", "ticky"},
			Obligations{MaxDuration: time.Hour, MaxAuthAge: 10 * time.Minute}, "a fresh login"},
	} {
		t.Run(name, func(t *testing.T) {
			r := ask(c.change)
			s := load(t, c.policies...)
			decided(t, s, r, Decision{Allow: true, PolicyIDs: c.ids, Obligations: c.want})
			unmet := s.Decide(r).Obligations.Unmet(r.Context)
			if unmet.String() != c.unmet || unmet.Any() != (c.unmet != "") {
				t.Errorf("unmet %q (%v), want %q", unmet, unmet.Any(), c.unmet)
			}
		})
	}
}

// The property behind the table: whatever was asked, there is one policy whose terms are at least
// as strict as those of the decision in every respect. A mix of two would fail it.
func TestNoDecisionGivesMoreThanSomePolicy(t *testing.T) {
	policies := []string{long, short, ticky, fresh}
	s := load(t, policies...)
	for _, reason := range []string{"", "r"} {
		for _, ticket := range []string{"", "t"} {
			for _, age := range []time.Duration{0, 20 * time.Minute, 5 * time.Hour} {
				o := s.Decide(ask(with(reason, ticket, age))).Obligations
				found := false
				for _, r := range s.rules {
					found = found || r.terms == o
				}
				if !found {
					t.Errorf("reason %q, ticket %q, age %v: %+v is nobody's grant", reason, ticket, age, o)
				}
			}
		}
	}
}
