package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/policy"
	"sega/broker/state"
	"sega/sshca"
)

// hostCertLongest is how long a host certificate may live (sshca/profile.go): so long one that is not in the
// records stays on the list.
const hostCertLongest = 90 * 24 * time.Hour

// certProfiles are those of certificates that may be revoked, in the order in which people read them.
var certProfiles = [...]string{api.ProfileAccess, api.ProfileHop, api.ProfileFront, api.ProfileHost}

// targetCert finds a certificate by its serial, and by its profile where several CAs have counted so far. A host's
// need not be in the records: `segad ca sign-host` tells nobody what it has signed.
func (s *Server) targetCert(ctx context.Context, q state.Querier, id, profile string) (target, error) {
	serial, err := sshca.ParseSerial(id)
	if err != nil {
		return target{}, api.Errorf(api.KindInvalid, "%q is no serial: a decimal number, as sshd logs it and ssh-keygen -L shows it", printable(id, 32))
	}
	if profile != "" && !slices.Contains(certProfiles[:], profile) {
		return target{}, api.Errorf(api.KindInvalid, "there is no profile %q of certificates: access, hop, front or host", printable(profile, 32))
	}
	var found []state.Cert
	for _, p := range certProfiles {
		if profile != "" && p != profile {
			continue
		}
		c, err := state.CertBySerial(ctx, q, p, uint64(serial))
		if errors.Is(err, state.ErrNotFound) {
			continue
		} else if err != nil {
			return target{}, err
		}
		found = append(found, c)
	}
	switch {
	case len(found) == 1:
		return s.targetOfCert(ctx, q, found[0])
	case len(found) > 1:
		return target{}, several(serial, found)
	case profile == api.ProfileHost:
		return certTarget(state.RevokedCert{Profile: profile, Serial: uint64(serial), ValidBefore: s.Now().Add(hostCertLongest)}, state.Subject{}), nil
	}
	return target{}, api.Errorf(api.KindNotFound, "no certificate of serial %s is in the records", serial).
		WithHint("look at what was issued: sega audit query --json 'kind:ssh.cert or kind:ssh.hop or kind:ssh.front or kind:host.cert'; one that segad ca sign-host has signed: --profile host")
}

// several says which certificates have one serial.
func several(serial sshca.Serial, found []state.Cert) error {
	var profiles []string
	for _, c := range found {
		profiles = append(profiles, c.Profile)
	}
	return api.Errorf(api.KindConflict, "%d CAs have counted to serial %s", len(found), serial).WithHint("name one of: --profile %s", strings.Join(profiles, ", --profile "))
}

// targetOfCert is the target of a certificate that is in the records.
func (s *Server) targetOfCert(ctx context.Context, q state.Querier, c state.Cert) (target, error) {
	if !s.Now().Before(c.ValidBefore) {
		return target{}, api.Errorf(api.KindConflict, "the %s certificate %s has expired at %s", c.Profile, sshca.Serial(c.Serial), c.ValidBefore.UTC().Format(time.RFC3339))
	}
	subject, err := state.SubjectByID(ctx, q, c.Issuer, c.Subject)
	if errors.Is(err, state.ErrNotFound) {
		subject, err = state.Subject{Issuer: c.Issuer, Subject: c.Subject}, nil
	}
	if err == nil && c.Issuer == machineIssuer {
		m, mErr := state.MachineByID(ctx, q, c.Subject)
		if mErr == nil {
			subject.Email = m.Name
		} else if !errors.Is(mErr, state.ErrNotFound) {
			err = mErr
		}
	}
	return certTarget(state.RevokedCert{Profile: c.Profile, Serial: c.Serial, Named: true, ValidBefore: c.ValidBefore}, subject), err
}

func certTarget(c state.RevokedCert, holder state.Subject) target {
	id := c.Profile + "/" + sshca.Serial(c.Serial).String()
	t := target{kind: revokeKinds[api.SubjectCert], name: "certificate/" + id, subject: holder, cert: &c,
		resource: policy.Resource{Type: policy.TypeCertificate, ID: id, Profile: c.Profile}}
	if holder.Issuer != machineIssuer { // a machine's is nobody's own
		t.resource.Owner, t.resource.OwnerIssuer = holder.Subject, holder.Issuer
	}
	return t
}

// planCert lists what goes with a certificate.
func (s *Server) planCert(ctx context.Context, q state.Querier, t target, p *api.Plan) error {
	c := *t.cert
	p.What = fmt.Sprintf("%s certificate %s", c.Profile, sshca.Serial(c.Serial))
	names, err := state.NamesOfCert(ctx, q, c.Profile, c.Serial)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		p.What += " of " + strings.Join(names, ", ")
	}
	live, err := state.SSHByCert(ctx, q, c.Profile, c.Serial)
	if err != nil {
		return err
	}
	p.Sessions = append(p.Sessions, sshInfos(live)...)
	p.Certificates = append(p.Certificates, outstanding(state.Cert{Profile: c.Profile, Serial: c.Serial, ValidBefore: c.ValidBefore}))
	return nil
}

// outstanding is a certificate as plans list it.
func outstanding(c state.Cert) api.Outstanding {
	return api.Outstanding{What: c.Profile + " " + sshca.Serial(c.Serial).String(), Until: c.ValidBefore}
}

// applyCert revokes a certificate: it goes on the list, and no session that it has opened starts any more.
func applyCert(ctx context.Context, tx store.Tx, c state.RevokedCert, entry *state.Revocation) error {
	entry.Profile, entry.Serial = c.Profile, c.Serial
	c.Index, c.Reason = entry.Index, entry.Reason
	if err := state.RevokeCert(ctx, tx, c); err != nil {
		return err
	}
	opening, err := state.SSHByCert(ctx, tx, c.Profile, c.Serial)
	return errors.Join(err, endOpening(ctx, tx, opening))
}

// endOpening ends the sessions of a list that have not started: those that have are the bastions' to cut.
func endOpening(ctx context.Context, tx store.Tx, all []state.SSHSession) error {
	for _, v := range all {
		if v.State != state.SSHOpening {
			continue
		}
		if err := state.SetSSHState(ctx, tx, v.ID, state.SSHEnded); err != nil {
			return err
		}
	}
	return nil
}

// applyMachine revokes what a machine was certified for: the host certificates of a bastion and of its masks, or those
// of a host.
func (s *Server) applyMachine(ctx context.Context, tx store.Tx, id string, entry state.Revocation) error {
	certs, err := state.CertsOf(ctx, tx, machineIssuer, id, "", s.Now())
	if err != nil {
		return err
	}
	for _, c := range certs {
		if err := state.RevokeCert(ctx, tx, state.RevokedCert{Profile: c.Profile, Serial: c.Serial, Named: true, ValidBefore: c.ValidBefore, Index: entry.Index, Reason: entry.Reason}); err != nil {
			return err
		}
	}
	return nil
}

// certRevoked is the problem of whoever shows a certificate that is revoked, or nil. Read in the transaction that
// releases (R4).
func certRevoked(ctx context.Context, q state.Querier, profile string, serial uint64) (*api.Problem, error) {
	c, err := state.RevokedCertOf(ctx, q, profile, serial)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return api.Errorf(api.KindRevoked, "the %s certificate %s was revoked: %s", profile, sshca.Serial(serial), c.Reason).
		WithHint("the login goes on: sega ssh HOST gets another certificate at once"), nil
}

// standsToHost asks for what a session to a host hangs on beside the counters: that neither the person's certificate nor the
// host was revoked.
func standsToHost(ctx context.Context, q state.Querier, access uint64, host string) error {
	if problem, err := hostBlocked(ctx, q, host); err != nil || problem != nil {
		return problemOr(problem, err)
	}
	return problemOr(certRevoked(ctx, q, caAccess, access))
}

// problemOr is one error of two, of which a problem that is none is nil.
func problemOr(p *api.Problem, err error) error {
	if err != nil || p == nil {
		return err
	}
	return p
}

// standsForHop is standsToHost, and returns the certificates that the host must not show.
func (s *Server) standsForHop(ctx context.Context, q state.Querier, access uint64, host Host) ([]string, error) {
	if err := standsToHost(ctx, q, access, host.Name); err != nil {
		return nil, err
	}
	serials, err := state.RevokedOfName(ctx, q, api.ProfileHost, host.ID, s.Now())
	var out []string
	for _, n := range serials {
		out = append(out, sshca.Serial(n).String())
	}
	return out, err
}

// unlessRevoked releases a mask where neither its host nor the certificate of whoever wants it was revoked meanwhile.
func (s *Server) unlessRevoked(apply func(context.Context, store.Tx, audit.Event) error, r api.FrontRequest) func(context.Context, store.Tx, audit.Event) error {
	return func(ctx context.Context, tx store.Tx, e audit.Event) error {
		if r.Host != "" {
			if err := standsToHost(ctx, tx, r.AccessSerial, r.Host); err != nil {
				return err
			}
		}
		return apply(ctx, tx, e)
	}
}
