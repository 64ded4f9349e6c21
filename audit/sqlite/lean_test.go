package sqlite

import (
	"testing"

	"sega/audit"
)

// FuzzSaid holds the short way to reason and ticket against the parser of envelopes.
func FuzzSaid(f *testing.F) {
	for _, s := range [][3]string{{"", "", ""}, {"outage", "OPS-1", "a@corp.example"}, {`"reason":"no`, `\"ticket\":\"x`, `"ticket":"`},
		{`\`, `\\"`, "\u2028<&>"}, {"zero\x00", "naïve\n", `x","reason":"forged`}} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, reason, ticket, other string) {
		e := testEvent(1)
		e.Reason, e.Ticket, e.Actor.Email, e.Resource, e.RequestID, e.PolicyIDs = reason, ticket, other, other, other, []string{other, reason}
		row, err := audit.Seal(e)
		if err != nil {
			return // not UTF-8, or too long
		}
		var got audit.Event
		if err := said(&got, row.Body); err != nil {
			t.Fatalf("%v in %s", err, row.Body)
		}
		if got.Reason != reason || got.Ticket != ticket {
			t.Fatalf("got %q and %q of %s", got.Reason, got.Ticket, row.Body)
		}
	})
}

func TestSaidBroken(t *testing.T) {
	for _, body := range []string{"", "{}", `{"reason":"`, `{"reason":"x`, `{"reason":"x\`, `{"reason":"x\"`, `{"reason":"x"}`, `{"reason":"\u12","ticket":""}`} {
		var e audit.Event
		if err := said(&e, []byte(body)); err == nil {
			t.Errorf("%s: got %q, %q", body, e.Reason, e.Ticket)
		}
	}
}
