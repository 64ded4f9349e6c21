package broker

import (
	"context"
	"errors"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
)

// lostReason is the reason of every session.lost: none of it is the bastion's word.
const lostReason = "a bastion reports the end of a session that this log does not know: the database was restored from a backup"

// reportLost records that a bastion has the end, and so the recording, of a session that may have been in the part of
// the log that a restore has lost. Whose session it was, on which
// host and whether it ever was nobody knows but the bastion: the event is the bastion's own, no session begins or ends
// by it, and what the bastion says of the recording is beside what readers of session.end look at.
func (s *Server) reportLost(ctx context.Context, c *call, r api.Report, size int64) error {
	event := s.newEvent(c, operation{kind: audit.KindSessionLost, name: "machine/" + c.session.Email, session: r.SessionID, reason: lostReason})
	event.Outcome = audit.Unknown
	said, err := s.redact.details(r.Kind, r.Details)
	if err == nil {
		err = setDetails(&event, map[string]any{"remembered_size": size,
			"reported": map[string]any{"outcome": printable(r.Outcome, 20), "reason": printable(r.Reason, 1000), "details": said}})
	}
	if err != nil {
		return s.refuse(ctx, c, api.Errorf(api.KindInvalid, "the report's details are not those of its kind").WithCause(err))
	}
	s.asReported(c, &event, r)
	err = s.appendReport(ctx, c, r, event, func(context.Context, store.Tx) error { return nil })
	if errors.Is(err, audit.ErrInvalid) {
		return s.refuse(ctx, c, api.Errorf(api.KindInvalid, "the report is not a valid event").WithCause(err))
	}
	if err != nil {
		return unavailable(err)
	}
	s.Logger.Warn("a session of before the restore has ended", "session", r.SessionID, "bastion", c.session.Email)
	return nil
}
