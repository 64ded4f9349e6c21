package broker

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/awssts"
	"sega/broker/policy"
	"sega/broker/state"
	"sega/sshca"
)

// hosts lists the hosts that exist, and for each which logins policy gives the caller. One that was revoked has none.
func (s *Server) hosts(ctx context.Context, c *call) (any, error) {
	var blocked map[string]state.HostBlock
	var member state.Member
	err := s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		if blocked, err = state.HostBlocks(ctx, tx); err == nil {
			member, err = s.member(ctx, tx, c.session)
		}
		return err
	})
	if err != nil {
		return nil, unavailable(err)
	}
	out := api.Hosts{Hosts: []api.Host{}}
	for _, h := range s.allHosts() {
		v := api.Host{Name: h.Name, Labels: h.Labels, Logins: []string{}}
		if b, is := blocked[h.Name]; is {
			v.Why = blockedProblem(b).Detail
			out.Hosts = append(out.Hosts, v)
			continue
		}
		for _, login := range loginsFor(h, member) {
			d := s.Policy.Decide(*s.request(c.session, policy.ActionConnect, hostResource(h), policy.Context{Login: login, Source: c.source.String()}))
			if d.Allow {
				v.Logins = append(v.Logins, login)
			} else {
				v.Why = d.Reason
			}
		}
		if v.Allowed = len(v.Logins) > 0; v.Allowed {
			v.Why = ""
		}
		out.Hosts = append(out.Hosts, v)
	}
	return out, nil
}

// personName is the name in key IDs: that of SourceIdentity (R2), so that sshd's log and CloudTrail agree.
func personName(session state.Session) (string, error) {
	name, err := awssts.SourceIdentity(awssts.Identity{Email: session.Email, Subject: session.Subject})
	if err != nil {
		return "", api.Errorf(api.KindDenied, "neither the e-mail nor the subject of this identity can be named in a certificate").WithCause(err)
	}
	return name, nil
}

// shownKey reads the public key of a request: a line of authorized_keys.
func shownKey(line string) (ssh.PublicKey, error) {
	key, err := sshca.ParseKey(strings.TrimSpace(line))
	if err != nil {
		return nil, api.Errorf(api.KindInvalid, "the public key is not in authorized_keys form").WithCause(err)
	}
	return key, nil
}

// certificate issues an access certificate: good at bastions only, minutes long.
func (s *Server) certificate(ctx context.Context, c *call) (any, error) {
	var r api.CertificateRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	key, err := shownKey(r.PublicKey)
	if err != nil {
		return nil, err
	}
	return s.twice(ctx, c, func() (any, error) { return s.certify(ctx, c, r, key) })
}

// certify issues an access certificate of a key.
func (s *Server) certify(ctx context.Context, c *call, r api.CertificateRequest, key ssh.PublicKey) (any, error) {
	reason, ticket := printable(r.Reason, 1000), printable(r.Ticket, 100)
	op := operation{kind: "ssh.cert", name: "ssh-key/" + ssh.FingerprintSHA256(key), reason: reason, ticket: ticket}
	shown, problem := s.verification(c, r, key)
	if problem != nil && c.recent {
		return nil, errOutdated
	}
	if problem != nil {
		return nil, s.deny(ctx, s.newEvent(c, op), nil, problem)
	}
	hardware, verified := sshca.IsHardware(key), shown.proof.Verified
	op.decide = s.request(c.session, policy.ActionCertificate, policy.Resource{Type: policy.TypeBroker, ID: s.Origin},
		policy.Context{Reason: reason, Ticket: ticket, Source: c.source.String(), HardwareKey: hardware, UserVerified: verified})
	op.act = func(ctx context.Context, d policy.Decision, _ string) (effect, error) {
		person, err := personName(c.session)
		if err != nil {
			return effect{}, err
		}
		serial, err := s.serials.next(ctx, caAccess)
		if err != nil {
			return effect{}, err
		}
		now := s.Now()
		before := earlier(now.Add(clampDuration(s.Times.AccessCert, d.Obligations.MaxDuration)), c.session.NotAfter)
		cert, err := sshca.NewAccess(sshca.AccessParams{Key: key, Serial: serial, KeyID: sshca.KeyID{Session: c.session.ID, Person: person},
			ValidAfter: now.Add(-s.Times.Backdate), ValidBefore: before, Verified: verified})
		if err != nil {
			return effect{}, api.Errorf(api.KindInvalid, "no certificate for this key: %v", err)
		}
		made, err := s.signed(ctx, cert, sshca.Access, state.Cert{Profile: caAccess, Bearer: c.bearer(), Reason: reason, Ticket: ticket, Hardware: hardware, Verified: verified})
		if err != nil {
			return made, err
		}
		reply := made.reply.(api.Certificate)
		reply.FrontCAs = s.trust().FrontCAs // so a laptop knows the front CA's next key before a bastion shows it
		made.reply = reply
		if !hardware {
			return made, nil
		}
		made.details.(map[string]any)["user_verified"] = verified
		return made.after(shown.spend), nil
	}
	return s.perform(ctx, c, op)
}

// signed signs a certificate with the key that signs for the CA of the record's profile now, and makes the effect that records it
// with serial and hash (R3).
func (s *Server) signed(ctx context.Context, cert *ssh.Certificate, profile sshca.Profile, record state.Cert) (effect, error) {
	signer, err := s.authority(ctx, record.Profile)
	if err != nil {
		return effect{}, err
	}
	if err := s.sign(cert, profile, record.Profile, signer); err != nil {
		return effect{}, err
	}
	before := time.Unix(int64(cert.ValidBefore), 0).UTC()
	line, digest := sshca.Encode(cert)
	reply := api.Certificate{Certificate: line, Serial: cert.Serial, ValidAfter: time.Unix(int64(cert.ValidAfter), 0).UTC(), ValidBefore: before}
	record.Serial, record.Fingerprint, record.Digest, record.ValidBefore = cert.Serial, ssh.FingerprintSHA256(cert.Key), digest, before
	return effect{reply: reply,
		details: map[string]any{"serial": sshca.Serial(cert.Serial).String(), "certificate_sha256": record.Digest, "key_id": cert.KeyId,
			"principals": cert.ValidPrincipals, "fingerprint": record.Fingerprint, "valid_before": before, "ca": ssh.FingerprintSHA256(signer.PublicKey())},
		apply: func(ctx context.Context, tx store.Tx, _ audit.Event) error {
			if record.Profile == caHost {
				if err := s.signsStill(ctx, tx, caHost, sshca.MarshalLine(signer.PublicKey())); err != nil {
					return err
				}
			}
			if err := s.recordCert(ctx, tx, record); err != nil || cert.CertType != ssh.HostCert {
				return err
			}
			return state.NameCert(ctx, tx, record, cert.ValidPrincipals) // so that it is found by its host
		}}, nil
}

func clampDuration(want, limit time.Duration) time.Duration {
	if limit > 0 && limit < want {
		return limit
	}
	return want
}

// idleLimit is the shorter of two limits of which each may be none.
func idleLimit(all, granted time.Duration) time.Duration {
	if all <= 0 {
		return granted
	}
	return clampDuration(all, granted)
}

// hop permits one connection of a person to one host (R5, R6): who it is comes from the broker's
// record of the access certificate, where it goes from the inventory.
func (s *Server) hop(ctx context.Context, c *call) (any, error) {
	var r api.HopRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	machine := c.actor()
	op := operation{kind: "ssh.hop", name: "host/" + printable(r.Host, 128), session: api.NewID(api.IDSSH),
		details: map[string]any{"login": printable(r.Login, 64), "access_serial": sshca.Serial(r.AccessSerial).String(), "route": printable(r.Route, 16), "bastion": machine.Email}}
	person, access, problem, err := s.whose(ctx, r.AccessSerial, &r.AccessKey)
	if err != nil {
		return nil, unavailable(err)
	}
	if person.ID != "" {
		op.actor = &audit.Actor{Kind: "user", Iss: person.Issuer, Sub: person.Subject, Email: person.Email}
		op.loginID = person.ID
	}
	if problem != nil {
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, problem)
	}
	host, ok := s.host(r.Host)
	if !ok {
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, api.Errorf(api.KindDenied, "no host %q is known", printable(r.Host, 128)).WithHint("run: sega hosts"))
	}
	bastion, ok := s.bastion(c.session.Email)
	if !ok {
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, api.Errorf(api.KindDenied, "bastion %q is not configured at the broker", c.session.Email))
	}
	op.bearer, op.reason, op.ticket = &access.Bearer, access.Reason, access.Ticket
	op.decide = s.request(person, policy.ActionConnect, hostResource(host), policy.Context{Login: r.Login, Source: r.Source, Reason: access.Reason, Ticket: access.Ticket,
		HardwareKey: access.Hardware, UserVerified: access.Verified})
	op.act = func(ctx context.Context, d policy.Decision, _ string) (effect, error) {
		if ok, err := s.opens(ctx, host, person, r.Login); err != nil {
			return effect{}, unavailable(err)
		} else if !ok {
			return effect{denied: api.Errorf(api.KindDenied, "host %q has no login %q for people", host.Name, printable(r.Login, 64)).WithHint("run: sega hosts")}, nil
		}
		end := s.endOf(person)
		if limit := d.Obligations.MaxDuration; limit > 0 {
			end = earlier(end, s.Now().Add(limit))
		}
		return s.issueHop(ctx, c, r, hopGrant{id: op.session, person: person, access: access, host: host, bastion: bastion, end: end,
			forwards: s.forwardsOf(person, host, op.decide.Context), idle: idleLimit(s.Times.Idle, d.Obligations.MaxIdle)})
	}
	return s.perform(ctx, c, op)
}

// holder finds whose access certificate it is, and whether it still stands. The fingerprint is that
// of the key that signed at the bastion; nil where nothing is handed out to its holder. What a client
// leaves empty is no nil.
func (s *Server) holder(ctx context.Context, serial uint64, fingerprint *string) (person state.Session, access state.Cert, problem *api.Problem, err error) {
	unknown := api.Errorf(api.KindDenied, "this certificate was not issued by this broker").WithHint("run: sega login")
	err = s.Log.Read(ctx, func(ctx context.Context, tx store.Querier) error {
		cert, err := state.CertBySerial(ctx, tx, caAccess, serial)
		if errors.Is(err, state.ErrNotFound) || err == nil && fingerprint != nil && cert.Fingerprint != *fingerprint {
			problem = unknown
			return nil
		}
		if err != nil {
			return err
		}
		if person, err = state.SessionByID(ctx, tx, cert.LoginID); err != nil {
			return err
		}
		access = cert
		ok, err := state.Current(ctx, tx, cert.Bearer)
		switch {
		case err != nil:
			return err
		case !ok && person.EndedWhy == state.EndedRevoked:
			problem = revokedProblem()
		case !ok || s.Now().After(person.Expires):
			problem = api.Errorf(api.KindUnauthenticated, "the login behind this certificate has ended").WithHint("run: sega login")
		case s.Now().After(cert.ValidBefore):
			problem = api.Errorf(api.KindDenied, "the certificate has expired").WithHint("run: sega ssh HOST again")
		default:
			problem, err = certRevoked(ctx, tx, caAccess, serial)
		}
		return err
	})
	return person, access, problem, err
}

func (s *Server) bastion(name string) (Bastion, bool) {
	for _, b := range s.Bastions {
		if b.Name == name {
			return b, true
		}
	}
	return Bastion{}, false
}

// hopGrant is what a hop was allowed for.
type hopGrant struct {
	id      string // of the SSH session
	person  state.Session
	access  state.Cert
	host    Host
	bastion Bastion
	end     time.Time     // of the session
	idle    time.Duration // after which it ends; 0: never

	forwards api.HopForwards
}

// issueHop makes the one-hop certificate and the record of the session.
func (s *Server) issueHop(ctx context.Context, c *call, r api.HopRequest, g hopGrant) (effect, error) {
	person, access, host, bastion := g.person, g.access, g.host, g.bastion
	key, err := sshca.ParseKey(strings.TrimSpace(r.HopKey))
	if err != nil {
		return effect{}, api.Errorf(api.KindInvalid, "the hop key is not in authorized_keys form").WithCause(err)
	}
	name, err := personName(person)
	if err != nil {
		return effect{}, err
	}
	serial, err := s.serials.next(ctx, caHop)
	if err != nil {
		return effect{}, err
	}
	now := s.Now()
	cert, err := sshca.NewHop(sshca.HopParams{Key: key, Serial: serial, KeyID: sshca.KeyID{Session: g.id, Person: name}, Login: r.Login, HostID: host.ID,
		ValidAfter: now.Add(-s.Times.Backdate), ValidBefore: now.Add(s.Times.HopCert), SourceAddresses: bastion.Egress, PTY: true,
		PortForwarding: g.forwards.Ports, AgentForwarding: g.forwards.Agent, X11Forwarding: g.forwards.X11})
	if err != nil {
		return effect{}, api.Errorf(api.KindDenied, "no hop certificate: %v", err)
	}
	made, err := s.signed(ctx, cert, sshca.Hop, state.Cert{Profile: caHop, Bearer: access.Bearer, Reason: access.Reason, Ticket: access.Ticket})
	if err != nil {
		return effect{}, err
	}
	record := state.SSHSession{ID: g.id, Bearer: access.Bearer, Email: person.Email, Host: host.Name, Login: r.Login, Source: printable(r.Source, 64),
		Node: c.session.Email, Labels: labelsOf(host), Started: now, NotAfter: g.end, Reason: access.Reason, Ticket: access.Ticket,
		Hardware: access.Hardware, Verified: access.Verified}
	addCert := made.apply
	details := made.details.(map[string]any)
	details["login"], details["access_serial"], details["route"], details["bastion"], details["source"] =
		r.Login, sshca.Serial(r.AccessSerial).String(), r.Route, bastion.Name, record.Source
	reply := &api.Hop{SessionID: g.id, Certificate: made.reply.(api.Certificate).Certificate, Address: host.Address, HostID: host.ID, HostKeys: host.HostKeys,
		Person: api.Person{Issuer: person.Issuer, Subject: person.Subject, Email: person.Email, Name: person.Name}, LoginID: person.ID,
		NotAfter: g.end, IdleSeconds: int(g.idle.Seconds()), Forwards: g.forwards, Ladder: ladder(s.Ladder, host.Labels)}
	if host.PlainKeys {
		reply.Certificate, reply.PlainKey = "", true // it asks for the key, by a way of its own
	}
	return effect{details: details, reply: reply,
		apply: func(ctx context.Context, tx store.Tx, e audit.Event) error {
			if err := cmp.Or(s.unmoved(ctx, tx, host), s.admitSession(ctx, tx, record)); err != nil {
				return err
			}
			err := errors.Join(addCert(ctx, tx, e), state.AddSSH(ctx, tx, record),
				state.AddSSHCerts(ctx, tx, g.id, state.SSHCerts{Access: r.AccessSerial, Hop: cert.Serial}))
			if err != nil {
				return err
			}
			if host.PlainKeys {
				if err := state.AddHopKey(ctx, tx, s.hopKey(key, r, g)); err != nil {
					return err
				}
			}
			if person.Kind == state.KindKey {
				if err := state.UseKey(ctx, tx, person.ID, now); err != nil {
					return err
				}
			}
			reply.Revoked, err = s.standsForHop(ctx, tx, r.AccessSerial, host)
			return err
		}}, nil
}

// labelsOf are a host's labels as the record of a session keeps them: those of a host that has none are
// known, too.
func labelsOf(h Host) map[string]string {
	if h.Labels == nil {
		return map[string]string{}
	}
	return h.Labels
}

// front issues a bastion's own host certificate, or the mask that it wears for a host (R7).
func (s *Server) front(ctx context.Context, c *call) (any, error) {
	var r api.FrontRequest
	if err := decode(c, &r); err != nil {
		return nil, err
	}
	key, err := shownKey(r.PublicKey)
	if err != nil {
		return nil, err
	}
	name := r.Host
	if name == "" {
		name = c.session.Email
	}
	op := operation{kind: "ssh.front", name: "mask/" + printable(name, 128), details: map[string]any{"bastion": c.session.Email}}
	if r.AccessSerial != 0 || r.AccessKey != "" { // a mask is asked for because a person wants that host: the event names him
		var key *string // of a certificate's holder, who gets nothing, it is not asked
		if r.AccessSerial == 0 {
			key = &r.AccessKey
		}
		person, access, problem, err := s.whose(ctx, r.AccessSerial, key)
		if err != nil {
			return nil, unavailable(err)
		}
		if person.ID != "" {
			op.actor, op.loginID = &audit.Actor{Kind: "user", Iss: person.Issuer, Sub: person.Subject, Email: person.Email}, person.ID
		}
		if problem != nil {
			return nil, s.deny(ctx, s.newEvent(c, op), op.details, problem)
		}
		op.bearer = &access.Bearer
	}
	if _, ok := s.bastion(c.session.Email); !ok {
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, api.Errorf(api.KindDenied, "bastion %q is not configured at the broker", c.session.Email))
	}
	if _, known := s.host(name); r.Host != "" && !known {
		return nil, s.deny(ctx, s.newEvent(c, op), op.details, api.Errorf(api.KindDenied, "no host %q is known", printable(name, 128)).WithHint("run: sega hosts"))
	}
	op.act = func(ctx context.Context, _ policy.Decision, _ string) (effect, error) {
		serial, err := s.serials.next(ctx, caFront)
		if err != nil {
			return effect{}, err
		}
		now := s.Now()
		cert, err := sshca.NewFront(sshca.HostParams{Key: key, Serial: serial, KeyID: "front " + c.session.Email + " " + name, Names: []string{name},
			ValidAfter: now.Add(-s.Times.Backdate), ValidBefore: now.Add(s.Times.FrontCert - s.Times.Backdate)})
		if err != nil {
			return effect{}, api.Errorf(api.KindDenied, "no front certificate: %v", err)
		}
		made, err := s.signed(ctx, cert, sshca.Front, state.Cert{Profile: caFront, Bearer: c.bearer()})
		if err == nil {
			made.apply = s.unlessRevoked(made.apply, r)
			made.details.(map[string]any)["bastion"] = c.session.Email
		}
		return made, err
	}
	return s.perform(ctx, c, op)
}
