package state

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"
)

// RevokedCert is a certificate that is revoked before its end.
type RevokedCert struct {
	Profile     string    `json:"profile"`
	Serial      uint64    `json:"serial,string"`
	Named       bool      `json:"-"` // it was issued here: cert_names may know whose names it has
	ValidBefore time.Time `json:"valid_before"`
	Index       int64     `json:"idx"` // of the event that revoked it
	Reason      string    `json:"reason"`
}

// serialText is a serial as stored: the integers of databases have a sign.
func serialText(n uint64) string { return strconv.FormatUint(n, 10) }

func parseSerial(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }

// RevokeCert revokes a certificate. To revoke it again changes nothing.
func RevokeCert(ctx context.Context, q Querier, c RevokedCert) error {
	err := insert(ctx, q, `INSERT INTO revoked_certs (profile, serial, named, valid_before, idx, reason) VALUES (?,?,?,?,?,?)`,
		c.Profile, serialText(c.Serial), flag(c.Named), Millis(c.ValidBefore), c.Index, c.Reason)
	if errors.Is(err, ErrExists) {
		return nil
	}
	return errors.Join(err, TouchKRL(ctx, q))
}

// RevokedCertOf returns the revocation of a certificate, or ErrNotFound.
func RevokedCertOf(ctx context.Context, q Querier, profile string, serial uint64) (RevokedCert, error) {
	c := RevokedCert{Profile: profile, Serial: serial}
	var named, before int64
	err := q.QueryRowContext(ctx, `SELECT named, valid_before, idx, reason FROM revoked_certs WHERE profile=? AND serial=?`, profile, serialText(serial)).
		Scan(&named, &before, &c.Index, &c.Reason)
	c.Named, c.ValidBefore = named != 0, Time(before)
	return c, one(err)
}

// RevokedSerials returns the serials of a profile that are revoked, in no order.
func RevokedSerials(ctx context.Context, q Querier, profile string) ([]uint64, error) {
	rows, err := q.QueryContext(ctx, `SELECT serial FROM revoked_certs WHERE profile=?`, profile)
	return collect(rows, err, scanSerial)
}

func scanSerial(r *sql.Rows) (uint64, error) {
	var s string
	if err := r.Scan(&s); err != nil {
		return 0, err
	}
	return parseSerial(s)
}

// RevokedOfName returns the serials of a profile that are revoked, not expired, and of certificates that have a name,
// or whose names nobody knows.
func RevokedOfName(ctx context.Context, q Querier, profile, name string, now time.Time) ([]uint64, error) {
	rows, err := q.QueryContext(ctx, `SELECT r.serial FROM cert_names AS n JOIN revoked_certs AS r ON r.profile=n.profile AND r.serial=n.serial
			WHERE n.name=? AND n.profile=? AND r.valid_before>?
		UNION SELECT serial FROM revoked_certs WHERE named=0 AND profile=? AND valid_before>?
		ORDER BY 1`, name, profile, Millis(now), profile, Millis(now))
	return collect(rows, err, scanSerial)
}

// NameCert records the names that a certificate has.
func NameCert(ctx context.Context, q Querier, c Cert, names []string) error {
	for _, name := range names {
		if _, err := q.ExecContext(ctx, `INSERT INTO cert_names (name, profile, serial, valid_before) VALUES (?,?,?,?) ON CONFLICT DO NOTHING`,
			name, c.Profile, serialText(c.Serial), Millis(c.ValidBefore)); err != nil {
			return err
		}
	}
	return nil
}

// NamesOfCert returns the names that a certificate has, sorted; none where nobody knows.
func NamesOfCert(ctx context.Context, q Querier, profile string, serial uint64) ([]string, error) {
	rows, err := q.QueryContext(ctx, `SELECT name FROM cert_names WHERE profile=? AND serial=? ORDER BY name`, profile, serialText(serial))
	return collect(rows, err, func(r *sql.Rows) (name string, err error) { return name, r.Scan(&name) })
}

// CertsOfName returns serial and end of the certificates of a profile that have a name and have not expired. Those of a
// recovered database are among them.
func CertsOfName(ctx context.Context, q Querier, profile, name string, now time.Time) ([]Cert, error) {
	rows, err := q.QueryContext(ctx, `SELECT serial, valid_before FROM cert_names WHERE name=? AND profile=? AND valid_before>? ORDER BY valid_before, serial`, name, profile, Millis(now))
	return collect(rows, err, func(r *sql.Rows) (Cert, error) {
		c := Cert{Profile: profile}
		var serial string
		var before int64
		if err := r.Scan(&serial, &before); err != nil {
			return c, err
		}
		var err error
		c.ValidBefore = Time(before)
		c.Serial, err = parseSerial(serial)
		return c, err
	})
}

// dropRevoked forgets what expired before a time: of a list of revoked serials too.
func dropRevoked(ctx context.Context, q Querier, before time.Time) error {
	if _, err := q.ExecContext(ctx, `DELETE FROM cert_names WHERE valid_before<?`, Millis(before)); err != nil {
		return err
	}
	res, err := q.ExecContext(ctx, `DELETE FROM revoked_certs WHERE valid_before<?`, Millis(before))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return TouchKRL(ctx, q)
}
