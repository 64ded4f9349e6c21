package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// listedSessions is how many of his own sessions a person reads of who has reached a limit.
const listedSessions = 5

// SessionLimits bound the SSH sessions that are open at once. A limit of 0 is none.
type SessionLimits struct {
	PerPerson int // of one person, on all hosts together
	PerHost   int // on one host, of everybody
	ByLabel   []LabelLimits
}

// LabelLimits hold for the hosts that have all of the labels, beside the others: PerPerson is of one
// person on all of these hosts together, PerHost on each of them.
type LabelLimits struct {
	Labels             map[string]string
	PerPerson, PerHost int
}

// DefaultSessionLimits stop what runs away, and nobody at work.
func DefaultSessionLimits() SessionLimits { return SessionLimits{PerPerson: 1000, PerHost: 2000} }

var errNegativeLimit = errors.New("broker: a session limit is negative")

func (l SessionLimits) check() error {
	if l.PerPerson < 0 || l.PerHost < 0 {
		return errNegativeLimit
	}
	for _, r := range l.ByLabel {
		switch {
		case len(r.Labels) == 0:
			return errors.New("broker: a session limit by label names no label")
		case r.PerPerson < 0 || r.PerHost < 0:
			return errNegativeLimit
		case r.PerPerson == 0 && r.PerHost == 0: // it would hold nobody back, and look as if it did
			return fmt.Errorf("broker: the session limit of hosts %s has neither per_person nor per_host", r.which())
		}
	}
	return nil
}

// hasLabels reports whether a host has all of some labels.
func hasLabels(host, all map[string]string) bool {
	for k, v := range all {
		if got, ok := host[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// which names the hosts that a limit is for: "" for all of them, else "with env=prod".
func (l LabelLimits) which() string {
	if len(l.Labels) == 0 {
		return ""
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(l.Labels)) {
		parts = append(parts, printable(k+"="+l.Labels[k], 64))
	}
	return "with " + strings.Join(parts, ", ")
}

// judge decides on one more session of a person on a host: own are the sessions that the person has
// open, on the number of everybody's on that host.
func (l SessionLimits) judge(host map[string]string, own []state.SSHSession, on int) *api.Problem {
	for _, rule := range append([]LabelLimits{{PerPerson: l.PerPerson, PerHost: l.PerHost}}, l.ByLabel...) {
		if !hasLabels(host, rule.Labels) {
			continue
		}
		counted := slices.DeleteFunc(slices.Clone(own), func(s state.SSHSession) bool { return !hasLabels(s.Labels, rule.Labels) })
		if rule.PerPerson > 0 && len(counted) >= rule.PerPerson {
			return limitReached(counted, "the limit of SSH sessions at once is %d for a person%s", rule.PerPerson, of("on hosts", rule.which()))
		}
		if rule.PerHost > 0 && on >= rule.PerHost {
			return limitReached(own, "the limit of SSH sessions at once is %d for a host%s", rule.PerHost, of("", rule.which()))
		}
	}
	return nil
}

// of is what and which, or nothing where which is.
func of(what, which string) string {
	if which == "" {
		return ""
	}
	return strings.TrimRight(" "+what, " ") + " " + which
}

// limitReached says which limit it is and which of the person's own sessions are open; those of others
// are none of his business.
func limitReached(own []state.SSHSession, format string, args ...any) *api.Problem {
	var open []string
	for _, s := range own[:min(len(own), listedSessions)] {
		open = append(open, fmt.Sprintf("%s (%s@%s since %s)", s.ID, s.Login, s.Host, s.Started.UTC().Format("15:04 MST")))
	}
	text := fmt.Sprintf(format, args...)
	switch more := len(own) - len(open); {
	case more > 0:
		text += fmt.Sprintf("; you have open: %s and %d more", strings.Join(open, ", "), more)
	case len(open) > 0:
		text += "; you have open: " + strings.Join(open, ", ")
	default:
		text += "; none of them is yours"
	}
	return api.Errorf(api.KindDenied, "%s", text).WithHint("run: sega sessions; end one that you do not need, then repeat")
}

// admitSession holds the limits within the transaction that records a session: the log has one
// committer at a time over all brokers of its database, so of two at once that the last place is for
// one gets it.
func (s *Server) admitSession(ctx context.Context, tx store.Tx, v state.SSHSession) error {
	if s.Sessions.none() {
		return nil
	}
	opening := s.Times.HopCert + openingSlack
	own, err := state.OpenSSHOf(ctx, tx, v.Issuer, v.Subject, s.Now(), opening)
	if err != nil {
		return err
	}
	on, err := state.CountSSHOn(ctx, tx, v.Host, s.Now(), opening)
	if err != nil {
		return err
	}
	if p := s.Sessions.judge(v.Labels, own, on); p != nil {
		return p
	}
	return nil
}

// openingSlack is added to the life of a hop certificate: with one that is about to expire a bastion
// may still connect, and report the start.
const openingSlack = 30 * time.Second

func (l SessionLimits) none() bool { return l.PerPerson == 0 && l.PerHost == 0 && len(l.ByLabel) == 0 }
