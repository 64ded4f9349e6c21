package bastion

import (
	"errors"
	"fmt"

	"sega/audit"
	"sega/broker/api"
)

// endReason says why a connection ended. As an error it is the cause of the session's context.
type endReason struct {
	outcome audit.Outcome
	reason  string // for the event and for the person
	event   string // evt_… or UUID of the event behind it, where there is one
	quiet   bool   // the person ended it and needs no telling
}

// Error returns what the person reads.
func (e endReason) Error() string {
	if e.event == "" {
		return "session ended: " + e.reason
	}
	return fmt.Sprintf("session ended: %s (%s)", e.reason, e.event)
}

func revokedBy(r api.Revocation) endReason {
	reason := "access revoked"
	switch {
	case r.Host != "":
		reason = "the host was revoked"
	case r.Profile != "":
		reason = "the " + printable(clip(r.Profile)) + " certificate of this session was revoked"
	}
	if r.Reason != "" {
		reason += ": " + printable(r.Reason)
	}
	return endReason{outcome: audit.Revoked, reason: reason, event: printable(r.EventID)}
}

func clientClosed() endReason {
	return endReason{outcome: audit.Success, reason: "closed by the person", quiet: true}
}

// outerEnd is why an outer connection of ssh -J ends where why cuts it. A revocation may hit one
// whose person is not known, and is then none of his: sessions that it does mean have been cut before.
func outerEnd(why endReason) endReason {
	if why.outcome == audit.Revoked {
		return endReason{outcome: audit.Failure, reason: "the bastion has closed the connection to it; connect again"}
	}
	return why
}

// hostGone is why the host's connection has ended: what it showed with a later key exchange may not stand.
func hostGone(err error) endReason {
	why := "the host closed the connection"
	if errors.Is(err, errHostKey) {
		why = printable(err.Error())
	}
	return endReason{outcome: audit.Failure, reason: why}
}

func recordingFailed() endReason {
	return endReason{outcome: audit.Failure, reason: "it can no longer be recorded; tell whoever runs the bastion"}
}

func leaseEnded() endReason {
	return endReason{outcome: audit.Failure, reason: "the bastion has lost the broker's revocation feed; try again in a minute"}
}

func timeIsUp() endReason {
	return endReason{outcome: audit.Success, reason: "its time is up; connect again to get a new session"}
}

func idleTooLong(seconds int) endReason {
	return endReason{outcome: audit.Success, reason: fmt.Sprintf("idle for %d s", seconds)}
}

func shuttingDown() endReason {
	return endReason{outcome: audit.Failure, reason: "the bastion is shutting down; connect again"}
}

// notStarted turns the failure to start into the end of a session of which the log may have the start.
func notStarted(why error) endReason {
	var end endReason
	if errors.As(why, &end) {
		return end
	}
	return endReason{outcome: audit.Failure, reason: "did not start: " + printable(why.Error())}
}
