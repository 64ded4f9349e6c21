package state

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Revoked is what stands revoked at a time, until somebody lifts it or it expires: what no restored database may forget.
type Revoked struct {
	People []BlockedSubject `json:"people"` // machines too
	Hosts  []HostBlock      `json:"hosts"`
	Certs  []RevokedCert    `json:"certificates"` // of hosts and of the front CA: others do not outlive a restore

	changes int64 // of the revocation list, when Certs were read
}

// BlockedSubject is a person, or a machine, who is blocked.
type BlockedSubject struct {
	Issuer        string `json:"iss"`
	Subject       string `json:"sub"`
	Email         string `json:"email"`
	Name          string `json:"name"`
	BlockedIssuer string `json:"blocked_iss"` // who did it
	BlockedSub    string `json:"blocked_sub"`
	Reason        string `json:"reason"`
}

// RevokedNow returns what stands revoked, in a fixed order. Certificates are many: those of last, which RevokedNow returned
// before, are taken over while none was revoked or dropped since.
func RevokedNow(ctx context.Context, q Querier, last Revoked) (now Revoked, err error) {
	rows, err := q.QueryContext(ctx, `SELECT iss, sub, email, name, blocked_iss, blocked_sub, blocked_reason FROM subjects WHERE blocked<>0 ORDER BY iss, sub`)
	if now.People, err = collect(rows, err, func(r *sql.Rows) (b BlockedSubject, err error) {
		return b, r.Scan(&b.Issuer, &b.Subject, &b.Email, &b.Name, &b.BlockedIssuer, &b.BlockedSub, &b.Reason)
	}); err != nil {
		return now, err
	}
	rows, err = q.QueryContext(ctx, hostBlockSelect+` ORDER BY host`)
	if now.Hosts, err = collect(rows, err, func(r *sql.Rows) (HostBlock, error) { return scanHostBlock(r.Scan) }); err != nil {
		return now, err
	}
	list, err := KRLState(ctx, q)
	if now.changes = list.Changes; err != nil || last.changes == list.Changes {
		now.Certs = last.Certs
		return now, err
	}
	rows, err = q.QueryContext(ctx, `SELECT profile, serial, named, valid_before, idx, reason FROM revoked_certs WHERE profile IN ('front', 'host') ORDER BY profile, idx, serial`)
	now.Certs, err = collect(rows, err, func(r *sql.Rows) (c RevokedCert, err error) {
		var serial string
		var named, before int64
		if err := r.Scan(&c.Profile, &serial, &named, &before, &c.Index, &c.Reason); err != nil {
			return c, err
		}
		c.Named, c.ValidBefore = named != 0, Time(before)
		c.Serial, err = parseSerial(serial)
		return c, err
	})
	return now, err
}

// Forgotten returns what of r does not stand revoked any more.
func Forgotten(ctx context.Context, q Querier, r Revoked) (f Revoked, err error) {
	for _, b := range r.People {
		known, err := SubjectByID(ctx, q, b.Issuer, b.Subject)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return f, err
		}
		if !known.Blocked {
			f.People = append(f.People, b)
		}
	}
	for _, b := range r.Hosts {
		if _, err := HostBlockOf(ctx, q, b.Host); errors.Is(err, ErrNotFound) {
			f.Hosts = append(f.Hosts, b)
		} else if err != nil {
			return f, err
		}
	}
	for _, c := range r.Certs {
		if _, err := RevokedCertOf(ctx, q, c.Profile, c.Serial); errors.Is(err, ErrNotFound) {
			f.Certs = append(f.Certs, c)
		} else if err != nil {
			return f, err
		}
	}
	return f, nil
}

// RevokeAgain revokes what Forgotten returned, under the index of the event that says so.
func RevokeAgain(ctx context.Context, q Querier, f Revoked, index int64, now time.Time) error {
	for _, b := range f.People {
		_, err := SubjectByID(ctx, q, b.Issuer, b.Subject)
		if errors.Is(err, ErrNotFound) {
			_, err = SeeSubject(ctx, q, b.Issuer, b.Subject, b.Email, b.Name, now)
		}
		if err == nil {
			err = BlockSubject(ctx, q, b.Issuer, b.Subject, b.BlockedIssuer, b.BlockedSub, b.Reason)
		}
		if err != nil {
			return err
		}
	}
	for _, b := range f.Hosts {
		b.Index = index
		if err := BlockHost(ctx, q, b); err != nil {
			return err
		}
	}
	for _, c := range f.Certs {
		names, err := NamesOfCert(ctx, q, c.Profile, c.Serial)
		c.Named, c.Index = len(names) > 0, index // whose it was may be forgotten, too
		if err = errors.Join(err, RevokeCert(ctx, q, c)); err != nil {
			return err
		}
	}
	return nil
}
