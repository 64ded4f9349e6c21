package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// memberFor is how long after the end of a person's last login he still counts as one of his groups.
const memberFor = 24 * time.Hour

// accounts are the people of a host's groups, each under the account name that is his. nameless are those who have none yet
// and can be given the one that their e-mail makes.
func (s *Server) accounts(ctx context.Context, q state.Querier, h Host) (out []api.HostAccount, nameless []state.Member, err error) {
	out = []api.HostAccount{}
	members, err := state.Members(ctx, q, s.Now().Add(-memberFor))
	if err != nil {
		return nil, nil, err
	}
	for _, m := range members {
		groups := shared(m.Groups, h.groups)
		switch {
		case len(groups) == 0:
		case m.Login == "":
			nameless = append(nameless, m)
		case ownAccount(h, m):
			out = append(out, api.HostAccount{Login: m.Login, Person: personDigest(m), Name: printable(m.Name, 64), Groups: groups})
		}
	}
	nameless, err = nameable(ctx, q, nameless)
	return out, nameless, err
}

// ownAccount reports whether a host has an account for one person alone, under his name.
func ownAccount(h Host, m state.Member) bool {
	_, err := sshca.HopPrincipal(m.Login, h.Name)
	return err == nil && len(shared(m.Groups, h.groups)) > 0 && !slices.Contains(h.Logins, m.Login)
}

// loginsFor returns the accounts of a host that a person may ask for: those for people, and his own where the host has one
// for him. The bundle that the host gets says the same.
func loginsFor(h Host, m state.Member) []string {
	if !ownAccount(h, m) {
		return h.Logins
	}
	return append(slices.Clone(h.Logins), m.Login)
}

// opens reports whether a person may ask for an account of a host.
func (s *Server) opens(ctx context.Context, h Host, person state.Session, login string) (ok bool, err error) {
	if slices.Contains(h.Logins, login) || len(h.groups) == 0 {
		return slices.Contains(h.Logins, login), nil
	}
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		m, err := s.member(ctx, tx, person)
		ok = err == nil && slices.Contains(loginsFor(h, m), login)
		return err
	})
	return ok, err
}

// member is a person as hosts know him: with the groups of his newest login, whichever asks. Nobody where that is long ago.
func (s *Server) member(ctx context.Context, q state.Querier, person state.Session) (state.Member, error) {
	m, err := state.MemberByID(ctx, q, person.Issuer, person.Subject, s.Now().Add(-memberFor))
	if errors.Is(err, state.ErrNotFound) {
		return state.Member{}, nil
	}
	return m, err
}

// nameable leaves out whose e-mail makes no name of an account, another's, or the same as somebody's beside him.
func nameable(ctx context.Context, q state.Querier, all []state.Member) (out []state.Member, err error) {
	count := map[string]int{}
	for _, m := range all {
		count[accountName(m)]++
	}
	for _, m := range all {
		name := accountName(m)
		if name == "" || count[name] > 1 {
			continue
		}
		taken, err := state.AccountNameTaken(ctx, q, name)
		if err != nil {
			return nil, err
		}
		if !taken {
			out = append(out, m)
		}
	}
	return out, nil
}

// giveNames makes names people's for good: on a host that gave one to somebody else he would come into another's files.
func (s *Server) giveNames(ctx context.Context, all []state.Member) error {
	_, err := s.Log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) error {
		for _, m := range all {
			if err := state.GiveAccountName(ctx, tx, accountName(m), m.Issuer, m.Subject, s.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// accountName is the part of a person's e-mail before the @, in lower case; "" where that is no name of an account.
func accountName(m state.Member) string {
	login, _, found := strings.Cut(strings.ToLower(m.Email), "@")
	if !found || sshca.CheckLogin(login) != nil {
		return ""
	}
	return login
}

// personDigest tells people apart on hosts, where everybody may read the bundle.
func personDigest(m state.Member) string {
	sum := sha256.Sum256([]byte(m.Issuer + "\x00" + m.Subject))
	return hex.EncodeToString(sum[:16])
}

// shared returns the groups of a person that a host makes accounts for.
func shared(of, wanted []string) (out []string) {
	for _, g := range of {
		if slices.Contains(wanted, g) {
			out = append(out, g)
		}
	}
	return out
}
