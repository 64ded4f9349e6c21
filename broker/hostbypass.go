package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// A host says itself what has come in past the bastion, and one that lies could fill the log: so many are events of their own in a
// while, the others are counted, and the count is an event.
const (
	bypassEvents = 100 // of one host
	bypassWhile  = 10 * time.Minute
	bypassTries  = 5

	// maxLeftOut is how many lines of a host's log are known to be counted already. What comes beyond them is not counted: else whatever
	// is asked about again would be.
	maxLeftOut = 5000
)

var errLoginsMoved = errors.New("broker: what is known of a host's logins changes all the time")

// loginPlan is what comes of the logins that a host asks about.
type loginPlan struct {
	verdicts []api.HostVerdict
	used     []use // sessions, for the first time
	events   []int // logins that are events of their own now
	counted  []int // logins that are in none, and were not counted before
	told     int   // logins that are in none, of which an event tells now
	leftOut  int   // of these logins

	was, now state.Bypasses
}

type use struct{ session, connection string }

// noteLogins records the logins that nothing covers, each once, and which login each session was used for: a certificate that is
// used a second time covers nothing, whenever that is asked about.
func (s *Server) noteLogins(ctx context.Context, c *call, h state.EnrolledHost, logins []api.HostLogin, verdicts []api.HostVerdict) (api.HostVerdicts, error) {
	for range bypassTries {
		var p loginPlan
		err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
			p, err = s.planLogins(ctx, tx, h.Name, logins, verdicts)
			return err
		})
		if err == nil {
			err = s.applyLogins(ctx, c, h, logins, p)
		}
		if !errors.Is(err, errLoginsMoved) {
			return api.HostVerdicts{Verdicts: p.verdicts, LeftOut: p.leftOut}, unavailable(err)
		}
	}
	return api.HostVerdicts{}, unavailable(errLoginsMoved)
}

func (s *Server) planLogins(ctx context.Context, q state.Querier, host string, logins []api.HostLogin, verdicts []api.HostVerdict) (p loginPlan, err error) {
	p.verdicts = slices.Clone(verdicts)
	if err := p.reused(ctx, q, logins); err != nil {
		return p, err
	}
	if p.was, err = state.BypassesOf(ctx, q, host); err != nil {
		return p, err
	}
	p.now = p.was
	var fresh []int
	seen := map[string]bool{}
	for i, v := range p.verdicts {
		id := bypassID(host, logins[i])
		if v.Covered || seen[id] {
			continue
		}
		seen[id] = true
		if known, err := state.ReportUsed(ctx, q, id); err != nil {
			return p, err
		} else if !known {
			fresh = append(fresh, i)
		}
	}
	p.ration(fresh, s.Now())
	return p, p.countLeftOut(ctx, q, host, logins, fresh[len(p.events):])
}

// reused finds the sessions that another login has used before, and those that are used now.
func (p *loginPlan) reused(ctx context.Context, q state.Querier, logins []api.HostLogin) error {
	by := map[string]string{}
	for i := range p.verdicts {
		v := &p.verdicts[i]
		if !v.Covered {
			continue
		}
		connection := printable(logins[i].Connection, 64)
		is := cmp.Or(connection, lineOf(logins[i]))
		was, known := by[v.SessionID]
		if !known {
			var err error
			if was, err = p.firstUse(ctx, q, v.SessionID, connection); err != nil {
				return err
			}
			was = cmp.Or(was, is)
			by[v.SessionID] = was
		}
		if !sameLogin(was, is) {
			v.Covered, v.Why = false, "the certificate or key of the session was used before"
		}
	}
	return nil
}

// sameLogin compares connections as hosts name them: a digest of what sshd has said, and the process, which not every log has.
func sameLogin(a, b string) bool {
	a, ofA, _ := strings.Cut(a, "/")
	b, ofB, _ := strings.Cut(b, "/")
	return a == b && (ofA == ofB || ofA == "" || ofB == "")
}

// firstUse returns the connection that a session is known to be used for, this one where none is known yet. A host with an older sega
// names none: then nothing is known beyond the request, for the line of its log would be another login once that is brought up to date.
func (p *loginPlan) firstUse(ctx context.Context, q state.Querier, session, connection string) (string, error) {
	if connection == "" {
		return "", nil
	}
	was, err := state.LoginOfSession(ctx, q, session)
	if err != nil || was != "" {
		return was, err
	}
	p.used = append(p.used, use{session, connection})
	return connection, nil
}

// ration decides which logins are events of their own.
func (p *loginPlan) ration(fresh []int, now time.Time) {
	if len(fresh) == 0 {
		return
	}
	if now.Sub(p.was.Since) >= bypassWhile {
		p.told, p.now = p.was.LeftOut, state.Bypasses{Host: p.was.Host, Since: now}
	}
	n := min(len(fresh), max(0, bypassEvents-p.now.Events))
	p.events = fresh[:n]
	p.now.Events += n
}

// countLeftOut counts the logins that are no events, each once. That some are left out is told at once, how many more with the next while.
func (p *loginPlan) countLeftOut(ctx context.Context, q state.Querier, host string, logins []api.HostLogin, left []int) error {
	if p.leftOut = len(left); p.leftOut == 0 {
		return nil
	}
	lines, err := state.LeftOutLines(ctx, q, host)
	if err != nil {
		return err
	}
	for _, i := range left {
		was, err := state.LeftOut(ctx, q, host, lineOf(logins[i]))
		if err != nil {
			return err
		}
		if !was && lines+len(p.counted) < maxLeftOut {
			p.counted = append(p.counted, i)
		}
	}
	switch {
	case len(p.counted) == 0:
	case p.now.Events == bypassEvents: // the first that are
		p.now.Events++
		p.told += len(p.counted)
	default:
		p.now.LeftOut += len(p.counted)
	}
	return nil
}

// applyLogins records a plan, or says that what it was made of has changed.
func (s *Server) applyLogins(ctx context.Context, c *call, h state.EnrolledHost, logins []api.HostLogin, p loginPlan) error {
	if len(p.used) == 0 && p.now == p.was {
		return nil
	}
	events := []audit.Event{}
	for _, i := range p.events {
		e, err := s.bypass(c, h, logins[i], p.verdicts[i])
		if err != nil {
			return err
		}
		events = append(events, e)
	}
	if p.told > 0 {
		e := s.newEvent(c, operation{kind: audit.KindHostBypass})
		if err := leftOut(&e, h.Name, p.told); err != nil {
			return err
		}
		events = append(events, e)
	}
	_, err := s.Log.Append(ctx, events, func(ctx context.Context, tx store.Tx) error {
		for _, u := range p.used {
			if err := state.UseSession(ctx, tx, u.session, u.connection, s.Now()); err != nil {
				return err
			}
		}
		for _, i := range p.events {
			if err := state.UseReport(ctx, tx, bypassID(h.Name, logins[i]), s.Now()); err != nil {
				return err
			}
		}
		for _, i := range p.counted {
			if err := state.LeaveOut(ctx, tx, h.Name, lineOf(logins[i]), s.Now()); err != nil {
				return err
			}
		}
		return state.CountBypasses(ctx, tx, p.was, p.now)
	})
	if errors.Is(err, state.ErrExists) || errors.Is(err, state.ErrNotFound) {
		return errLoginsMoved
	}
	return err
}

// bypassID is that of a line of a host's log.
func bypassID(host string, l api.HostLogin) string { return "bypass/" + host + "/" + lineOf(l) }

func lineOf(l api.HostLogin) string { return printable(l.Line, 64) }

// bypass is the event of a login that no recording covers.
func (s *Server) bypass(c *call, h state.EnrolledHost, l api.HostLogin, v api.HostVerdict) (audit.Event, error) {
	op := operation{kind: audit.KindHostBypass, name: "host/" + h.Name, reason: v.Why}
	if strings.HasPrefix(v.SessionID, api.IDSSH) {
		op.session = v.SessionID
	}
	e := s.newEvent(c, op)
	e.Outcome, e.Node, e.Source = audit.Success, h.Name, printable(l.Source, 64)
	if t := l.Time.UTC(); !l.Time.IsZero() && t.Year() > 1970 && t.Before(e.Time.Add(time.Minute)) {
		e.Time = t // the host's word, but for the future
	}
	return e, setDetails(&e, map[string]any{"login": printable(l.Login, 64), "method": printable(l.Method, 40), "fingerprint": printable(l.Fingerprint, 100),
		"key_id": printable(l.KeyID, 200), "serial": strconv.FormatUint(l.Serial, 10), "line": lineOf(l)})
}

// leftOut makes an event the one that tells of logins that are in none.
func leftOut(e *audit.Event, host string, n int) error {
	e.Outcome, e.Node, e.Resource = audit.Success, host, "host/"+host
	e.Reason = fmt.Sprintf("at least %d logins more that no recording covers: of a host %d are events of their own in %s", n, bypassEvents, bypassWhile)
	return setDetails(e, map[string]any{"left_out": n})
}

// tellLeftOut tells of logins that were left out, where their host asks about none any more.
func (s *Server) tellLeftOut(ctx context.Context) error {
	var all []state.Bypasses
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		all, err = state.UntoldBypasses(ctx, tx, s.Now().Add(-bypassWhile))
		return err
	})
	for _, was := range all {
		e := audit.Event{V: 1, ID: audit.NewID(), Time: s.Now().UTC(), Kind: audit.KindHostBypass, Actor: audit.Actor{Kind: audit.ActorSystem}, Action: api.NewID("act_"),
			PolicyDigest: s.Policy.Set().Digest(), PolicyIDs: []string{}}
		now := was
		now.LeftOut = 0
		eventErr := leftOut(&e, was.Host, was.LeftOut)
		if eventErr == nil {
			_, eventErr = s.Log.Append(ctx, []audit.Event{e}, func(ctx context.Context, tx store.Tx) error { return state.CountBypasses(ctx, tx, was, now) })
		}
		if !errors.Is(eventErr, state.ErrNotFound) { // else it has asked meanwhile
			err = errors.Join(err, eventErr)
		}
	}
	return err
}
