package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
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
	var epoch, rev, ended, of, blocked int64
	// A machine has no subject record: its session is all.
	err := q.QueryRowContext(ctx, `SELECT s.epoch, s.rev, s.ended, COALESCE(p.epoch, s.epoch), COALESCE(p.blocked, 0)
		FROM sessions AS s LEFT JOIN subjects AS p ON p.iss=? AND p.sub=? WHERE s.id=?`, b.Issuer, b.Subject, b.LoginID).Scan(&epoch, &rev, &ended, &of, &blocked)
	if err = one(err); errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil && ended == 0 && rev == b.Rev && epoch == b.Epoch && of == b.Epoch && blocked == 0, err
}

// Unchanged reports whether a session and its subject stand in all as when the session was read, ended ones never do: Current,
// and that it has got no other token, groups or end. Read in the transaction that releases what was made by it.
func Unchanged(ctx context.Context, q Querier, s Session) (bool, error) {
	groups, err := encodeGroups(s.Groups)
	if err != nil {
		return false, err
	}
	var found int64
	err = one(q.QueryRowContext(ctx, `SELECT 1 FROM sessions AS s LEFT JOIN subjects AS p ON p.iss=s.iss AND p.sub=s.sub
		WHERE s.id=? AND s.ended=0 AND s.rev=? AND s.epoch=? AND COALESCE(p.epoch, s.epoch)=s.epoch AND COALESCE(p.blocked, 0)=0
			AND s.token_hash=? AND s.kind=? AND s.thumbprint=? AND s.iss=? AND s.sub=? AND s.email=? AND s.groups=? AND s.method=? AND s.mfa=?
			AND s.auth_time=? AND s.expires=? AND s.not_after=?`,
		s.ID, s.Rev, s.Epoch, s.TokenHash, s.Kind, s.Thumbprint, s.Issuer, s.Subject, s.Email, groups, s.Method, flag(s.MFA),
		Millis(s.AuthTime), Millis(s.Expires), Millis(s.NotAfter)).Scan(&found))
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
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

	Hardware bool // the key is one of a FIDO2 authenticator
	Verified bool // which had shown that it verified its user
}

// AddCert stores a certificate's record; ErrExists where the serial was used, or is of an era that
// has ended: another broker on the same database has recovered it meanwhile (design R10). The CA that
// counts the serials has the profile's name; the era is the upper half of the serial.
func AddCert(ctx context.Context, q Querier, c Cert) error {
	err := insert(ctx, q, `INSERT INTO certs (`+certColumns+`)
		SELECT CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT),
			CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT)
		WHERE NOT EXISTS (SELECT 1 FROM serials WHERE ca=? AND era>?)`,
		serialText(c.Serial), c.Profile, c.LoginID, c.Issuer, c.Subject, c.Epoch, c.Rev, c.Fingerprint, c.Digest, Millis(c.ValidBefore), c.Reason, c.Ticket,
		c.Profile, int64(c.Serial>>32))
	if err != nil {
		return err
	}
	return addCertKey(ctx, q, c)
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
	c, err := scanCert(q.QueryRowContext(ctx, `SELECT `+certColumns+` FROM certs WHERE profile=? AND serial=?`, profile, serialText(serial)).Scan)
	if err != nil {
		return c, one(err)
	}
	return c, readCertKey(ctx, q, &c)
}

// CertsOf returns the certificates of a subject, or of one login, that have not expired.
func CertsOf(ctx context.Context, q Querier, iss, sub, loginID string, now time.Time) ([]Cert, error) {
	rows, err := q.QueryContext(ctx, `SELECT `+certColumns+` FROM certs
		WHERE iss=? AND sub=? AND (CAST(? AS TEXT)='' OR login_id=?) AND valid_before>? ORDER BY valid_before`, iss, sub, loginID, loginID, Millis(now))
	return collect(rows, err, func(r *sql.Rows) (Cert, error) { return scanCert(r.Scan) })
}

// DropExpired forgets certificates, their revocations, and grants that expired before a time.
func DropExpired(ctx context.Context, q Querier, before time.Time) error {
	for _, query := range []string{
		`DELETE FROM cert_keys WHERE EXISTS (SELECT 1 FROM certs AS c WHERE c.profile=cert_keys.profile AND c.serial=cert_keys.serial AND c.valid_before<?)`,
		`DELETE FROM certs WHERE valid_before<?`,
		`DELETE FROM grant_terms WHERE key_id IN (SELECT access_key_id FROM grants WHERE expires<?)`,
		`DELETE FROM grants WHERE expires<?`,
	} {
		if _, err := q.ExecContext(ctx, query, Millis(before)); err != nil {
			return err
		}
	}
	return dropRevoked(ctx, q, before)
}

// Grant is a set of AWS credentials that is out there.
type Grant struct {
	AccessKeyID, Role string
	Bearer
	Expires time.Time // of what came of the credentials, where that lives longer
	Terms
}

// Terms are how a grant came about: by them policy decides on it again. The zero value is a role that
// was assumed by the broker itself, with all that it may.
type Terms struct {
	Through  []string // roles by name, in the order in which they were assumed before the grant's own
	ReadOnly bool     // narrowed to AWS's ReadOnlyAccess alone
	Narrowed bool     // narrowed by any session policy
	Console  bool     // the person got a console session, and not the credentials
}

func (t Terms) isZero() bool { return len(t.Through) == 0 && !t.ReadOnly && !t.Narrowed && !t.Console }

// AddGrant stores a grant.
func AddGrant(ctx context.Context, q Querier, g Grant) error {
	err := insert(ctx, q, `INSERT INTO grants (access_key_id, role, login_id, iss, sub, epoch, rev, expires) VALUES (?,?,?,?,?,?,?,?)`,
		g.AccessKeyID, g.Role, g.LoginID, g.Issuer, g.Subject, g.Epoch, g.Rev, Millis(g.Expires))
	if err != nil || g.Terms.isZero() {
		return err
	}
	through, err := json.Marshal(g.Through)
	if err != nil {
		return err
	}
	return insert(ctx, q, `INSERT INTO grant_terms (key_id, through, read_only, narrowed, console) VALUES (?,?,?,?,?)`,
		g.AccessKeyID, string(through), flag(g.ReadOnly), flag(g.Narrowed), flag(g.Console))
}

// selectGrants leaves room for what narrows it. A grant without a row of terms has none.
const selectGrants = `SELECT g.access_key_id, g.role, g.login_id, g.iss, g.sub, g.epoch, g.rev, g.expires,
	coalesce(t.through, 'null'), coalesce(t.read_only, 0), coalesce(t.narrowed, 0), coalesce(t.console, 0)
	FROM grants AS g LEFT JOIN grant_terms AS t ON t.key_id=g.access_key_id `

func scanGrant(scan func(...any) error) (Grant, error) {
	var g Grant
	var expires, readOnly, narrowed, console int64
	var through string
	err := scan(&g.AccessKeyID, &g.Role, &g.LoginID, &g.Issuer, &g.Subject, &g.Epoch, &g.Rev, &expires, &through, &readOnly, &narrowed, &console)
	if err != nil {
		return g, err
	}
	g.Expires = Time(expires)
	g.ReadOnly, g.Narrowed, g.Console = readOnly != 0, narrowed != 0, console != 0
	return g, json.Unmarshal([]byte(through), &g.Through)
}

// GrantByKey returns the grant of an access key ID.
func GrantByKey(ctx context.Context, q Querier, accessKeyID string) (Grant, error) {
	g, err := scanGrant(q.QueryRowContext(ctx, selectGrants+`WHERE g.access_key_id=?`, accessKeyID).Scan)
	return g, one(err)
}

// GrantsOf returns the grants of a subject, or of one login, that have not expired.
func GrantsOf(ctx context.Context, q Querier, iss, sub, loginID string, now time.Time) ([]Grant, error) {
	rows, err := q.QueryContext(ctx, selectGrants+`WHERE g.iss=? AND g.sub=? AND (CAST(? AS TEXT)='' OR g.login_id=?) AND g.expires>? ORDER BY g.expires`,
		iss, sub, loginID, loginID, Millis(now))
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
