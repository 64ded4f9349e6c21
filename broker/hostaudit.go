package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// hostAudit says of logins that a host's sshd has accepted which of them a recording covers. Each that none does is
// an event, once.
func (s *Server) hostAudit(ctx context.Context, c *call) (any, error) {
	var r api.HostLogins
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	if len(r.Logins) > api.MaxHostLogins {
		return nil, api.Errorf(api.KindInvalid, "at most %d logins are asked about at once", api.MaxHostLogins)
	}
	var h state.EnrolledHost
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		h, err = s.stillHost(ctx, tx, c)
		return err
	})
	if err != nil {
		return nil, unavailable(err)
	}
	verdicts := make([]api.HostVerdict, len(r.Logins))
	for i, l := range r.Logins {
		if verdicts[i], err = s.covers(ctx, h, l); err != nil {
			return nil, unavailable(err)
		}
	}
	return s.noteLogins(ctx, c, h, r.Logins, verdicts)
}

// covers holds a login against what the log says of the session that it names: the hop that was permitted, for
// this host, this account and this key, and a start that announced a recording.
func (s *Server) covers(ctx context.Context, h state.EnrolledHost, l api.HostLogin) (v api.HostVerdict, err error) {
	if l.Method != "publickey" {
		v.Why = "no session of sega's logs in by " + printable(l.Method, 40)
		return v, nil
	}
	if v.SessionID, err = s.sessionOfLogin(ctx, l); err != nil || v.SessionID == "" {
		v.Why = "neither its key nor its key ID is of a session"
		return v, err
	}
	hop, err := s.lastOf(ctx, audit.KindSSHHop, v.SessionID)
	if err != nil || hop == nil {
		v.Why = "the broker has permitted no such session"
		return v, err
	}
	var d struct{ Login, Serial, Fingerprint string }
	if err := json.Unmarshal(hop.Details, &d); err != nil {
		return v, err
	}
	switch {
	case hop.Resource != "host/"+h.Name || d.Login != l.Login:
		v.Why = "the session is of another host or account"
		return v, nil
	case d.Fingerprint != l.Fingerprint, l.KeyID != "" && d.Serial != strconv.FormatUint(l.Serial, 10): // key ID and serial are whatever a CA of somebody's own puts there
		v.Why = "the session has another certificate or key"
		return v, nil
	}
	start, err := s.lastOf(ctx, audit.KindSessionStart, v.SessionID)
	if err != nil || start == nil {
		v.Why = "no bastion has begun to record the session"
		return v, err
	}
	var recorded struct{ Recording json.RawMessage }
	if err := json.Unmarshal(start.Details, &recorded); err != nil {
		return v, err
	}
	if v.Covered = len(recorded.Recording) > 0; !v.Covered {
		v.Why = "the session's start names no recording"
	}
	return v, nil
}

// sessionOfLogin is the session that a certificate's key ID names, or whose key it was; "" where there is none.
func (s *Server) sessionOfLogin(ctx context.Context, l api.HostLogin) (string, error) {
	if l.KeyID != "" {
		id, err := sshca.ParseKeyID(l.KeyID)
		if err != nil {
			return "", nil
		}
		return id.Session, nil
	}
	var k state.HopKey
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		k, err = state.HopKeyByFingerprint(ctx, tx, l.Fingerprint)
		return err
	})
	if errors.Is(err, state.ErrNotFound) {
		return "", nil
	}
	return k.SessionID, err
}

// lastOf returns the event of a kind that succeeded for a session, nil where there is none.
func (s *Server) lastOf(ctx context.Context, kind, session string) (*audit.Event, error) {
	where := query.And{ofKind(kind), query.Field{Name: query.Session, Value: session}, query.Field{Name: query.Outcome, Value: string(audit.Success)}}
	for row, err := range s.Log.Search(ctx, query.Query{Where: where, After: -1, Limit: 1}) {
		if err != nil {
			return nil, err
		}
		e, err := audit.Parse(row.Body)
		if err != nil {
			return nil, err
		}
		e.Details = row.Details
		return &e, nil
	}
	return nil, nil
}
