package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
	"sega/sshca"
)

const (
	hostTokenLife    = time.Hour
	maxHostTokenLife = 7 * 24 * time.Hour
	maxHostLogins    = 64
	maxLabels        = 32
)

// hostToken makes a single-use token for the enrolment of one host. What the host will be is decided on
// here, by whoever may let it in: its name, its labels, its address (R6).
func (s *Server) hostToken(ctx context.Context, c *call) (any, error) {
	var r api.HostTokenRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	terms := state.HostTerms{Address: r.Address, Logins: r.Logins, Labels: r.Labels, PlainKeys: r.PlainKeys, Groups: r.Groups}
	life := hostTokenLife
	if r.Seconds != 0 {
		life = time.Duration(r.Seconds) * time.Second
	}
	op := operation{kind: audit.KindHostToken, name: "host/" + printable(r.Name, 128), reason: printable(r.Reason, 1000), ticket: printable(r.Ticket, 100),
		details: map[string]any{"address": printable(r.Address, 300), "logins": clipped(r.Logins), "labels": r.Labels, "plain_keys": r.PlainKeys, "groups": clipped(r.Groups)}}
	if problem := s.checkHostTerms(r.Name, terms); problem != nil {
		return nil, problem // of what was typed: nothing to decide on, and policy would say nothing about it
	}
	if life < 0 || life > maxHostTokenLife {
		return nil, api.Errorf(api.KindInvalid, "a join token of a host lives for up to %s", maxHostTokenLife)
	}
	around := policy.Context{Reason: op.reason, Ticket: op.ticket, Source: c.source.String()}
	op.decide = s.request(c.session, policy.ActionEnrollHost, policy.Resource{Type: policy.TypeHost, ID: r.Name, Labels: r.Labels}, around)
	// Who takes the place of a host must be let enrol that one, too: hosts and bastions go on to believe its name.
	var now state.EnrolledHost
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		now, err = state.HostByName(ctx, tx, r.Name)
		return err
	})
	switch {
	case err == nil:
		terms.Replaces = now.Machine
		op.also = []demand{{request: s.request(c.session, policy.ActionEnrollHost, hostResource(enrolledHost(now)), around)}}
	case !errors.Is(err, state.ErrNotFound):
		return nil, unavailable(err)
	}
	op.act = func(context.Context, policy.Decision, string) (effect, error) {
		token, expires := api.NewToken(api.PrefixJoin), s.Now().Add(life)
		return effect{reply: api.HostToken{Token: token, Name: r.Name, Expires: expires}, apply: func(ctx context.Context, tx store.Tx, _ audit.Event) error {
			hash := hashToken(token)
			if err := state.AddJoinToken(ctx, tx, state.JoinToken{Hash: hash, Name: r.Name, Kind: api.MachineHost, Expires: expires}); err != nil {
				return err
			}
			return state.AddHostTerms(ctx, tx, hash, terms)
		}}, nil
	}
	return s.perform(ctx, c, op)
}

// clipped keeps a list of the asker's short in the log.
func clipped(list []string) []string {
	out := []string{}
	for _, v := range list[:min(len(list), maxHostLogins)] {
		out = append(out, printable(v, 100))
	}
	return out
}

// checkHostTerms says what is wrong with an entry that a host wants to have in the inventory.
func (s *Server) checkHostTerms(name string, t state.HostTerms) *api.Problem {
	if err := sshca.CheckHostName(name); err != nil {
		return api.Errorf(api.KindInvalid, "a host cannot enrol under that name: %v", err)
	}
	if whose := s.taken(name); whose != "" {
		return api.Errorf(api.KindConflict, "%q is the name of %s", name, whose).WithHint("give the host another name")
	}
	if err := checkAddress(t.Address); err != nil {
		return api.Errorf(api.KindInvalid, "the host's address: %v", err)
	}
	if len(t.Logins) > maxHostLogins || len(t.Groups) > maxHostLogins || len(t.Labels) > maxLabels {
		return api.Errorf(api.KindInvalid, "a host has at most %d logins, as many groups and %d labels", maxHostLogins, maxLabels)
	}
	for _, login := range t.Logins {
		if _, err := sshca.HopPrincipal(login, name); err != nil {
			return api.Errorf(api.KindInvalid, "%v", err)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(t.Labels)) {
		if v := t.Labels[k]; k == "" || k != printable(k, 64) || v != printable(v, 256) {
			return api.Errorf(api.KindInvalid, "a label is of 1 to 64 printable characters, and its value of up to 256")
		}
	}
	for _, g := range t.Groups {
		if g == "" || g != printable(g, 128) {
			return api.Errorf(api.KindInvalid, "a group is named by 1 to 128 printable characters")
		}
	}
	return nil
}

// checkAddress accepts host:port, the host being a DNS name or an IP address.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not of the form host:port", printable(address, 100))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q has no port", printable(address, 100))
	}
	if net.ParseIP(host) == nil && sshca.CheckHostName(host) != nil {
		return fmt.Errorf("%q is neither a DNS name nor an IP address", printable(host, 100))
	}
	return nil
}
