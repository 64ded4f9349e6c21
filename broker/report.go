package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// reportable are the kinds that a bastion may report, and whether they belong to a session.
var reportable = map[string]bool{"session.start": true, "session.pause": true, "session.resume": true, "session.end": true, "forward.open": true, "forward.close": true,
	"recording.heads": false, "spool.low": false, "spool.free": false, "bastion.drain": false, "ssh.refuse": false}

// errRepeat stops an append whose report came before.
var errRepeat = errors.New("broker: this report came before")

// report records what a bastion says of its own sessions. Who it was is taken from our record.
func (s *Server) report(ctx context.Context, c *call) (any, error) {
	var reports []api.Report
	if err := decode(c, &reports); err != nil {
		return nil, err
	}
	for len(reports) > 0 {
		n := together(reports)
		var g errgroup.Group
		for _, r := range reports[:n] {
			g.Go(func() error { return s.reportOne(ctx, c, r) })
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		reports = reports[n:]
	}
	return api.Empty{}, nil
}

// reportsTogether is how many reports are appended at once at most.
const reportsTogether = 64

// together returns how many of the first reports, one at least, are not in an order that the log keeps: ends of as many
// sessions, of which a revocation makes a thousand. Those that are appended at once share commits.
func together(reports []api.Report) int {
	seen := map[string]bool{}
	for i, r := range reports {
		if r.Kind != audit.KindSessionEnd || seen[r.SessionID] || i == reportsTogether {
			return max(i, 1)
		}
		seen[r.SessionID] = true
	}
	return len(reports)
}

func (s *Server) reportOne(ctx context.Context, c *call, r api.Report) error {
	ofSession, ok := reportable[r.Kind]
	if fileKind(r.Kind) {
		ofSession, ok = true, true
		if err := checkFileOperation(r.Details); err != nil {
			return s.refuse(ctx, c, api.Errorf(api.KindInvalid, "the report's details are not those of its kind").WithCause(err))
		}
	}
	// An intent would stay out of sight of whoever queries the log.
	if !ok || r.ID == "" || len(r.ID) > 64 || ofSession == (r.SessionID == "") || r.Outcome == string(audit.Intent) {
		return s.refuse(ctx, c, api.Errorf(api.KindInvalid, "a bastion does not report %q like this", printable(r.Kind, 64)))
	}
	op := operation{kind: r.Kind, name: "machine/" + c.session.Email, session: r.SessionID, reason: printable(r.Reason, 1000)}
	var ssh state.SSHSession
	if ofSession {
		var lost int64
		var err error
		switch ssh, lost, err = s.sshOf(ctx, r.SessionID); {
		case err != nil:
			return unavailable(err)
		case lost > 0 && r.Kind == audit.KindSessionEnd && api.IsID(api.IDSSH, r.SessionID):
			return s.reportLost(ctx, c, r, lost)
		case ssh.Node != c.session.Email:
			return s.refuse(ctx, c, api.Errorf(api.KindNotFound, "this bastion has no session %q", printable(r.SessionID, 64)))
		}
		op.name, op.loginID = "host/"+ssh.Host, ssh.LoginID
		op.actor = &audit.Actor{Kind: "user", Iss: ssh.Issuer, Sub: ssh.Subject, Email: ssh.Email}
		op.reason, op.ticket = firstText(op.reason, ssh.Reason), ssh.Ticket
	}
	event := s.newEvent(c, op)
	event.Outcome = audit.Outcome(r.Outcome)
	var err error
	if event.Details, err = s.redact.details(r.Kind, r.Details); err != nil {
		return s.refuse(ctx, c, api.Errorf(api.KindInvalid, "the report's details are not those of its kind").WithCause(err))
	}
	s.asReported(c, &event, r)
	if r.Kind == "ssh.refuse" {
		event.Actor = audit.Actor{Kind: "anonymous"}
		event.Resource = "machine/" + c.session.Email
	}
	err = s.appendReport(ctx, c, r, event, func(ctx context.Context, tx store.Tx) error { return s.applyReport(ctx, tx, r, ssh) })
	switch {
	case errors.Is(err, errRevoked):
		return s.deny(ctx, event, nil, revokedProblem())
	case errors.Is(err, audit.ErrInvalid):
		return s.refuse(ctx, c, api.Errorf(api.KindInvalid, "the report is not a valid event").WithCause(err))
	}
	return unavailable(err)
}

// asReported takes over where and when a bastion says that it happened.
func (s *Server) asReported(c *call, e *audit.Event, r api.Report) {
	e.Node = c.session.Email
	if t := r.Time.UTC(); !r.Time.IsZero() && t.Before(e.Time.Add(time.Minute)) {
		e.Time = t // a report may come late, not from the future
	}
	if r.Source != "" {
		e.Source = printable(r.Source, 64)
	}
}

// appendReport writes the event of a report, once.
func (s *Server) appendReport(ctx context.Context, c *call, r api.Report, e audit.Event, apply func(context.Context, store.Tx) error) error {
	_, err := s.Log.Append(ctx, []audit.Event{e}, func(ctx context.Context, tx store.Tx) error {
		if err := state.UseReport(ctx, tx, c.session.Subject+"/"+r.ID, s.Now()); errors.Is(err, state.ErrExists) {
			return errRepeat
		} else if err != nil {
			return err
		}
		return apply(ctx, tx)
	})
	if errors.Is(err, errRepeat) || errors.Is(err, store.ErrDuplicate) {
		return nil
	}
	return err
}

// applyReport moves the session on. A start needs that nothing was revoked since the hop (R4).
func (s *Server) applyReport(ctx context.Context, tx store.Tx, r api.Report, ssh state.SSHSession) error {
	switch {
	case r.Kind == "session.end", r.Kind == "session.start" && r.Outcome != string(audit.Success):
		return state.SetSSHState(ctx, tx, ssh.ID, state.SSHEnded)
	case r.Kind == "session.start":
		now, err := state.SSHByID(ctx, tx, ssh.ID)
		if err != nil {
			return err
		}
		if now.State != state.SSHOpening {
			return errRevoked
		}
		if err := errors.Join(current(ctx, tx, ssh.Bearer), hostShown(ctx, tx, r)); err != nil {
			return err
		}
		if revoked, err := state.RevokedSSH(ctx, tx, ssh.ID); err != nil || revoked {
			return cmp.Or(err, errRevoked)
		}
		return state.SetSSHState(ctx, tx, ssh.ID, state.SSHLive)
	}
	return nil
}

// hostShown records which certificate the host of a session has shown.
func hostShown(ctx context.Context, tx store.Tx, r api.Report) error {
	var d struct {
		Serial string `json:"host_serial"`
	}
	if err := json.Unmarshal(r.Details, &d); err != nil || d.Serial == "" {
		return nil // a plain key, or a bastion that does not tell
	}
	serial, err := sshca.ParseSerial(d.Serial)
	if err != nil {
		return api.Errorf(api.KindInvalid, "a session's start names no certificate of its host").WithCause(err)
	}
	return state.SetSSHHost(ctx, tx, r.SessionID, uint64(serial))
}

// sshOf returns the SSH session of an ID. Where there is none, lost is how long the log had been that the database was
// restored from, whose session it may be; 0 where nothing was lost.
func (s *Server) sshOf(ctx context.Context, id string) (v state.SSHSession, lost int64, err error) {
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		var err error
		if v, err = state.SSHByID(ctx, tx, id); errors.Is(err, state.ErrNotFound) {
			lost, err = state.LastMark(ctx, tx)
		}
		return err
	})
	return v, lost, err
}
