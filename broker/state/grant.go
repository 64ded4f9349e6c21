package state

import (
	"context"
	"database/sql"
	"strconv"
	"time"
)

// Bearer ties what was handed out to whom, with the counters of that moment (design R4).
type Bearer struct {
	LoginID         string
	Issuer, Subject string
	Epoch, Rev      int64
}

// Current reports whether the bearer's session and subject still stand where they stood: the
// session has not ended and neither counter has moved. Read in the transaction that releases.
func Current(ctx context.Context, q Querier, b Bearer) (bool, error) {
	var epoch, rev, ended int64
	err := q.QueryRowContext(ctx, `SELECT s.epoch, s.rev, s.ended FROM sessions s WHERE s.id=?`, b.LoginID).Scan(&epoch, &rev, &ended)
	if err != nil {
		if err = one(err); err == ErrNotFound {
			return false, nil
		}
		return false, err
	}
	if ended != 0 || rev != b.Rev || epoch != b.Epoch {
		return false, nil
	}
	subject, err := SubjectByID(ctx, q, b.Issuer, b.Subject)
	if err == ErrNotFound {
		return true, nil // a machine has no subject record: its session is all
	}
	return err == nil && !subject.Blocked && subject.Epoch == b.Epoch, err
}

// Cert is an issued certificate.
type Cert struct {
	Serial  uint64
	Profile string
	Bearer
	Fingerprint string // SHA256: of the key
	Digest      string // hex SHA-256 of the certificate
	ValidBefore time.Time

	Reason, Ticket string // that the person gave for it
}

// AddCert stores a certificate's record; ErrExists where the serial was used, or is of an era that
// has ended: another broker on the same database has recovered it meanwhile (design R10). The CA that
// counts the serials has the profile's name; the era is the upper half of the serial.
func AddCert(ctx context.Context, q Querier, c Cert) error {
	return insert(ctx, q, `INSERT INTO certs (`+certColumns+`)
		SELECT CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT),
			CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT)
		WHERE NOT EXISTS (SELECT 1 FROM serials WHERE ca=? AND era>?)`,
		strconv.FormatUint(c.Serial, 10), c.Profile, c.LoginID, c.Issuer, c.Subject, c.Epoch, c.Rev, c.Fingerprint, c.Digest, Millis(c.ValidBefore), c.Reason, c.Ticket,
		c.Profile, int64(c.Serial>>32))
}

const certColumns = `serial, profile, login_id, iss, sub, epoch, rev, fingerprint, digest, valid_before, reason, ticket`

func scanCert(scan func(...any) error) (Cert, error) {
	var c Cert
	var serial string
	var before int64
	err := scan(&serial, &c.Profile, &c.LoginID, &c.Issuer, &c.Subject, &c.Epoch, &c.Rev, &c.Fingerprint, &c.Digest, &before, &c.Reason, &c.Ticket)
	if err != nil {
		return c, err
	}
	c.ValidBefore = Time(before)
	c.Serial, err = strconv.ParseUint(serial, 10, 64)
	return c, err
}

// CertBySerial returns the record of a certificate of a profile: each CA counts for itself.
func CertBySerial(ctx context.Context, q Querier, profile string, serial uint64) (Cert, error) {
	c, err := scanCert(q.QueryRowContext(ctx, `SELECT `+certColumns+` FROM certs WHERE profile=? AND serial=?`, profile, strconv.FormatUint(serial, 10)).Scan)
	return c, one(err)
}

// CertsOf returns the certificates of a subject, or of one login, that have not expired.
func CertsOf(ctx context.Context, q Querier, iss, sub, loginID string, now time.Time) ([]Cert, error) {
	rows, err := q.QueryContext(ctx, `SELECT `+certColumns+` FROM certs
		WHERE iss=? AND sub=? AND (CAST(? AS TEXT)='' OR login_id=?) AND valid_before>? ORDER BY valid_before`, iss, sub, loginID, loginID, Millis(now))
	return collect(rows, err, func(r *sql.Rows) (Cert, error) { return scanCert(r.Scan) })
}

// DropExpired forgets certificates and grants that expired before a time.
func DropExpired(ctx context.Context, q Querier, before time.Time) error {
	if _, err := q.ExecContext(ctx, `DELETE FROM certs WHERE valid_before<?`, Millis(before)); err != nil {
		return err
	}
	_, err := q.ExecContext(ctx, `DELETE FROM grants WHERE expires<?`, Millis(before))
	return err
}

// Grant is a set of AWS credentials that is out there.
type Grant struct {
	AccessKeyID, Role string
	Bearer
	Expires time.Time
}

const grantColumns = `access_key_id, role, login_id, iss, sub, epoch, rev, expires`

func scanGrant(scan func(...any) error) (Grant, error) {
	var g Grant
	var expires int64
	err := scan(&g.AccessKeyID, &g.Role, &g.LoginID, &g.Issuer, &g.Subject, &g.Epoch, &g.Rev, &expires)
	g.Expires = Time(expires)
	return g, err
}

// AddGrant stores a grant.
func AddGrant(ctx context.Context, q Querier, g Grant) error {
	return insert(ctx, q, `INSERT INTO grants (`+grantColumns+`) VALUES (?,?,?,?,?,?,?,?)`,
		g.AccessKeyID, g.Role, g.LoginID, g.Issuer, g.Subject, g.Epoch, g.Rev, Millis(g.Expires))
}

// GrantByKey returns the grant of an access key ID.
func GrantByKey(ctx context.Context, q Querier, accessKeyID string) (Grant, error) {
	g, err := scanGrant(q.QueryRowContext(ctx, `SELECT `+grantColumns+` FROM grants WHERE access_key_id=?`, accessKeyID).Scan)
	return g, one(err)
}

// GrantsOf returns the grants of a subject, or of one login, that have not expired.
func GrantsOf(ctx context.Context, q Querier, iss, sub, loginID string, now time.Time) ([]Grant, error) {
	rows, err := q.QueryContext(ctx, `SELECT `+grantColumns+` FROM grants
		WHERE iss=? AND sub=? AND (CAST(? AS TEXT)='' OR login_id=?) AND expires>? ORDER BY expires`, iss, sub, loginID, loginID, Millis(now))
	return collect(rows, err, func(r *sql.Rows) (Grant, error) { return scanGrant(r.Scan) })
}

// ReserveSerials takes n serials of a CA: the answer is its era and the first counter of the block.
func ReserveSerials(ctx context.Context, q Querier, ca string, n int) (era, first uint32, err error) {
	if _, err := q.ExecContext(ctx, `INSERT INTO serials (ca, era, next)
		VALUES (?, coalesce((SELECT era FROM serials WHERE ca=''), 1), 1) ON CONFLICT DO NOTHING`, ca); err != nil {
		return 0, 0, err
	}
	var next int64 // 1<<32 where the last block ended with the era
	if err := q.QueryRowContext(ctx, `SELECT era, next FROM serials WHERE ca=?`, ca).Scan(&era, &next); err != nil {
		return 0, 0, err
	}
	if next+int64(n) > 1<<32 {
		era, next = era+1, 1
	}
	_, err = q.ExecContext(ctx, `UPDATE serials SET era=?, next=? WHERE ca=?`, era, next+int64(n), ca)
	return era, uint32(next), err
}
