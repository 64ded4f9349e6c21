package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
	"sega/sshca"
)

const (
	bundleWait = 20 * time.Second // how long a host's question is held where there is nothing new
	bundleLook = 2 * time.Second  // how often it is looked meanwhile for what wakes nobody
	seenEvery  = time.Minute      // how exactly it is known when a host was seen last
)

// callingHost is the host that a machine's session is of. One whose name stands in the configuration by now
// is none any more: what is found under the name is another (R7).
func (s *Server) callingHost(ctx context.Context, q state.Querier, c *call) (state.EnrolledHost, error) {
	h, err := state.HostByMachine(ctx, q, c.session.Subject)
	if errors.Is(err, state.ErrNotFound) {
		return h, api.Errorf(api.KindDenied, "this machine is no enrolled host").WithHint("run: sega host enroll")
	}
	if err != nil {
		return h, err
	}
	if blocked, err := blockedHost(ctx, q, h); err != nil || blocked {
		return h, errors.Join(err, hostRevoked(h.Name))
	}
	if whose := s.taken(h.Name); whose != "" {
		return h, api.Errorf(api.KindConflict, "%q is the name of %s by now", h.Name, whose).WithHint("enrol the host under another name, or take that one out of the broker's configuration")
	}
	return h, nil
}

// hostBundle answers with what a host judges logins by, at once where its version is another, else when that
// changes or after a while.
func (s *Server) hostBundle(ctx context.Context, c *call) (any, error) {
	p := params{v: c.request.URL.Query()}
	have, trust, krl := p.number(api.ParamVersion, 0, 0), p.number(api.ParamTrust, 0, 0), p.number(api.ParamKRL, 0, 0)
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := s.sawHost(ctx, c, trust, krl); err != nil {
		return nil, err
	}
	end := time.NewTimer(bundleWait)
	defer end.Stop()
	tick := time.NewTicker(bundleLook)
	defer tick.Stop()
	for {
		wake := s.hub.waker() // before the read, so that nothing falls between
		b, err := s.bundleNow(ctx, c)
		if err != nil || b.Version != have {
			return b, err
		}
		select {
		case <-wake:
		case <-tick.C:
		case <-end.C:
			return b, nil
		case <-s.stop:
			return b, nil
		case <-ctx.Done(): // nobody reads it
			return b, nil
		}
	}
}

// sawHost notes what a host has in force, where that is news.
func (s *Server) sawHost(ctx context.Context, c *call, trust, krl int64) error {
	var h state.EnrolledHost
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		h, err = s.callingHost(ctx, tx, c)
		return err
	})
	now := s.Now()
	if err != nil || h.Trust == trust && h.KRL == krl && now.Sub(h.Seen) < seenEvery {
		return unavailable(err)
	}
	_, err = s.Log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) error {
		if err := state.SawHost(ctx, tx, c.session.Subject, now, trust, krl); err != nil {
			return err
		}
		return state.SawTrust(ctx, tx, state.Seen{Machine: c.session.Subject, Name: h.Name, Kind: api.MachineHost, Version: trust, At: now})
	})
	return unavailable(err)
}

// bundleNow makes the bundle of the calling host. One that differs from the last that the host was given gets
// a version of its own before it leaves.
func (s *Server) bundleNow(ctx context.Context, c *call) (b api.HostBundle, err error) {
	list, err := s.currentKRL(ctx)
	if err != nil {
		return b, err
	}
	var h state.EnrolledHost
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		var err error
		if h, err = s.stillHost(ctx, tx, c); err != nil {
			return err
		}
		b, err = s.makeBundle(ctx, tx, h)
		return err
	})
	if err != nil {
		return b, unavailable(err)
	}
	b.KRL = list.Version
	digest, err := bundleDigest(b)
	if err != nil || digest == h.Digest {
		b.Version = h.Version
		return b, err
	}
	_, err = s.Log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) (err error) {
		b.Version, err = state.NumberBundle(ctx, tx, c.session.Subject, digest, s.Now().UnixMilli())
		return err
	})
	return b, unavailable(err)
}

// stillHost tells a host that was revoked, and must let nobody in any more, from one that has opened another session.
func (s *Server) stillHost(ctx context.Context, q state.Querier, c *call) (state.EnrolledHost, error) {
	h, err := s.callingHost(ctx, q, c) // says where the host was revoked
	if err != nil {
		return h, err
	}
	if err = current(ctx, q, c.bearer()); errors.Is(err, errRevoked) {
		err = api.Errorf(api.KindUnauthenticated, "the session has ended (%s)", state.EndedReplaced)
	}
	return h, err
}

func bundleDigest(b api.HostBundle) (string, error) {
	text, err := json.Marshal(b)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}

// makeBundle gathers a bundle, without its version.
func (s *Server) makeBundle(ctx context.Context, q state.Querier, h state.EnrolledHost) (api.HostBundle, error) {
	trust := s.trust()
	b := api.HostBundle{Name: h.Name, HostID: h.Name, HopCAs: trust.HopCAs, HostCAs: trust.HostCAs, Trust: trust.Version, Logins: h.Terms.Logins,
		Accounts: []api.HostAccount{}, PlainKeys: h.Terms.PlainKeys}
	now := s.Now()
	var err error
	// A hop certificate of a session that began before then has expired by anybody's clock.
	if b.Revoked, err = state.RevokedOnHost(ctx, q, h.Name, now.Add(-s.Times.HopCert-10*time.Minute)); err != nil {
		return b, err
	}
	if len(h.Terms.Groups) == 0 {
		return b, nil
	}
	b.Accounts, err = s.accounts(ctx, q, h)
	return b, err
}

// accounts are the people of a host's groups, each under an account name of his own.
func (s *Server) accounts(ctx context.Context, q state.Querier, h state.EnrolledHost) ([]api.HostAccount, error) {
	members, err := state.Members(ctx, q, s.Now().Add(-24*time.Hour))
	out := []api.HostAccount{}
	for _, m := range members {
		groups := shared(m.Groups, h.Terms.Groups)
		login, ok := accountName(m)
		if len(groups) == 0 || !ok {
			continue
		}
		if _, err := sshca.HopPrincipal(login, h.Name); err != nil {
			continue
		}
		out = append(out, api.HostAccount{Login: login, Person: personDigest(m), Name: printable(m.Name, 64), Groups: groups})
	}
	return unambiguous(out, h.Terms.Logins), err
}

// personDigest tells people apart on hosts, where everybody may read the bundle.
func personDigest(m state.Member) string {
	sum := sha256.Sum256([]byte(m.Issuer + "\x00" + m.Subject))
	return hex.EncodeToString(sum[:16])
}

// shared returns the groups of a person that a host makes accounts for.
func shared(of, wanted []string) (out []string) {
	for _, g := range of {
		for _, w := range wanted {
			if g == w {
				out = append(out, g)
			}
		}
	}
	return out
}

// accountName is the part of a person's e-mail before the @, in lower case. Where that is no name of an
// account, there is none.
func accountName(m state.Member) (string, bool) {
	login, _, found := strings.Cut(strings.ToLower(m.Email), "@")
	return login, found && sshca.CheckLogin(login) == nil
}

// unambiguous leaves out the accounts that two people would share, or that are one of the host's own.
func unambiguous(all []api.HostAccount, logins []string) []api.HostAccount {
	count := map[string]int{}
	for _, l := range logins {
		count[l]++
	}
	for _, a := range all {
		count[a.Login]++
	}
	out := []api.HostAccount{}
	for _, a := range all {
		if count[a.Login] == 1 {
			out = append(out, a)
		}
	}
	return out
}

// hostCertificate signs a certificate of the host CA for the one name that the asking host has.
func (s *Server) hostCertificate(ctx context.Context, c *call) (any, error) {
	var r api.HostCertificateRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	key, err := sshca.ParseKey(strings.TrimSpace(r.PublicKey))
	if err != nil {
		return nil, api.Errorf(api.KindInvalid, "the public key is not in authorized_keys form").WithCause(err)
	}
	var h state.EnrolledHost
	op := operation{kind: audit.KindHostCert, name: "host/" + printable(c.session.Email, 128)}
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		h, err = s.callingHost(ctx, tx, c)
		return err
	})
	if err != nil {
		problem := asProblem(err)
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, problem)
	}
	op.act = func(ctx context.Context, _ policy.Decision, _ string) (effect, error) {
		serial, err := s.serials.next(ctx, caHost)
		if err != nil {
			return effect{}, err
		}
		now := s.Now()
		cert, err := sshca.NewHost(sshca.HostParams{Key: key, Serial: serial, KeyID: "host " + h.Name + " " + h.Machine, Names: []string{h.Name},
			ValidAfter: now.Add(-s.Times.Backdate), ValidBefore: now.Add(s.Times.HostCert)})
		if err != nil {
			return effect{}, api.Errorf(api.KindDenied, "no host certificate: %v", err)
		}
		made, err := s.signed(ctx, cert, sshca.Host, state.Cert{Profile: caHost, Bearer: c.bearer()})
		if err != nil {
			return effect{}, err
		}
		record := made.apply
		made.apply = func(ctx context.Context, tx store.Tx, e audit.Event) error {
			now, err := s.callingHost(ctx, tx, c)
			if err == nil && now.Name != h.Name {
				err = revokedProblem()
			}
			if err != nil {
				return err
			}
			return record(ctx, tx, e)
		}
		return made, nil
	}
	return s.perform(ctx, c, op)
}
