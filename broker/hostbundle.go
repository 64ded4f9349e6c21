package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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
	look := func() (nameless []state.Member, err error) {
		err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
			if h, err = s.stillHost(ctx, tx, c); err != nil {
				return err
			}
			b, nameless, err = s.makeBundle(ctx, tx, h)
			return err
		})
		return nameless, err
	}
	nameless, err := look()
	if err == nil && len(nameless) > 0 {
		if err = s.giveNames(ctx, nameless); err == nil {
			_, err = look()
		}
	}
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

// makeBundle gathers a bundle, without its version, and says who is to be given an account name first.
func (s *Server) makeBundle(ctx context.Context, q state.Querier, h state.EnrolledHost) (b api.HostBundle, nameless []state.Member, err error) {
	trust := s.trust()
	b = api.HostBundle{Name: h.Name, HostID: h.Name, HopCAs: trust.HopCAs, HostCAs: trust.HostCAs, Trust: trust.Version, Logins: h.Terms.Logins,
		Accounts: []api.HostAccount{}, PlainKeys: h.Terms.PlainKeys}
	now := s.Now()
	// A hop certificate of a session that began before then has expired by anybody's clock.
	if b.Revoked, err = state.RevokedOnHost(ctx, q, h.Name, now.Add(-s.Times.HopCert-10*time.Minute)); err != nil {
		return b, nil, err
	}
	if len(h.Terms.Groups) == 0 {
		return b, nil, nil
	}
	b.Accounts, nameless, err = s.accounts(ctx, q, enrolledHost(h))
	return b, nameless, err
}

// hostCertificate signs a certificate of the host CA for the one name that the asking host has.
func (s *Server) hostCertificate(ctx context.Context, c *call) (any, error) {
	var r api.HostCertificateRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	key, err := shownKey(r.PublicKey)
	if err != nil {
		return nil, err
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
