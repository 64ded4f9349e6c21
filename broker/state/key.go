package state

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// PersonKey is a public key that somebody has registered. It is a session of the kind KindKey with the same
// ID, whose token nobody has: what ends sessions ends it, and its counters are those of R4.
type PersonKey struct {
	ID              string // key_…
	Issuer, Subject string
	Email           string // of its session, as the person was seen last
	Name            string // that the person gave it, one live key of his alone
	Fingerprint     string // SHA256:…
	PublicKey       string // authorized_keys form, without a comment
	Hardware        bool   // of a FIDO2 authenticator
	Created         time.Time
	Expires         time.Time // of its session
	Used            time.Time // when it opened something last; zero: never
}

const keySelect = `SELECT k.id, k.iss, k.sub, s.email, k.name, k.fingerprint, k.public_key, k.hardware, k.created, s.not_after, k.used
	FROM person_keys AS k JOIN sessions AS s ON s.id=k.id `

func scanKey(scan func(...any) error) (PersonKey, error) {
	var k PersonKey
	var hardware, created, expires, used int64
	err := scan(&k.ID, &k.Issuer, &k.Subject, &k.Email, &k.Name, &k.Fingerprint, &k.PublicKey, &hardware, &created, &expires, &used)
	k.Hardware, k.Created, k.Expires, k.Used = hardware != 0, Time(created), Time(expires), Time(used)
	return k, err
}

// KeyByFingerprint returns the key of a fingerprint, whatever has become of its session, or ErrNotFound.
func KeyByFingerprint(ctx context.Context, q Querier, fingerprint string) (PersonKey, error) {
	k, err := scanKey(q.QueryRowContext(ctx, keySelect+`WHERE k.fingerprint=?`, fingerprint).Scan)
	return k, one(err)
}

// LiveKeys returns the keys that are good, oldest first; with sub, those of a subject.
func LiveKeys(ctx context.Context, q Querier, iss, sub string, now time.Time) ([]PersonKey, error) {
	rows, err := q.QueryContext(ctx, keySelect+`
		WHERE s.ended=0 AND s.not_after>? AND (CAST(? AS TEXT)='' OR (k.iss=? AND k.sub=?)) ORDER BY k.created, k.id`, Millis(now), sub, iss, sub)
	return collect(rows, err, func(r *sql.Rows) (PersonKey, error) { return scanKey(r.Scan) })
}

// AddKey stores a key with its session, in place of the one of its fingerprint that has ended.
func AddKey(ctx context.Context, q Querier, k PersonKey, s Session) error {
	if s.Kind != KindKey || s.ID != k.ID || s.Issuer != k.Issuer || s.Subject != k.Subject || s.Thumbprint != k.Fingerprint {
		return errors.New("state: a key and the session of another one")
	}
	if err := AddSession(ctx, q, s); err != nil {
		return err
	}
	if _, err := q.ExecContext(ctx, `DELETE FROM person_keys WHERE fingerprint=?`, k.Fingerprint); err != nil {
		return err
	}
	err := insert(ctx, q, `INSERT INTO person_keys (fingerprint, id, iss, sub, name, public_key, hardware, created, used) VALUES (?,?,?,?,?,?,?,?,0)`,
		k.Fingerprint, k.ID, k.Issuer, k.Subject, k.Name, k.PublicKey, flag(k.Hardware), Millis(k.Created))
	if err != nil {
		return err
	}
	if _, err = q.ExecContext(ctx, `INSERT INTO person_keys_moved (one, n) VALUES (1, 0) ON CONFLICT DO NOTHING`); err != nil {
		return err
	}
	return MoveKeys(ctx, q)
}

// UseKey records that a key opened something.
func UseKey(ctx context.Context, q Querier, id string, now time.Time) error {
	_, err := q.ExecContext(ctx, `UPDATE person_keys SET used=? WHERE id=?`, Millis(now), id)
	return err
}

// FollowLogin gives the keys of a person what a login of his has shown. Keys of a person without any cost
// a look into an index.
func FollowLogin(ctx context.Context, q Querier, login Session) error {
	groups, err := encodeGroups(login.Groups)
	if err != nil {
		return err
	}
	_, err = q.ExecContext(ctx, `UPDATE sessions SET email=?, name=?, groups=?, auth_time=CASE WHEN auth_time<? THEN CAST(? AS BIGINT) ELSE auth_time END
		WHERE iss=? AND sub=? AND kind=? AND ended=0`,
		login.Email, login.Name, groups, Millis(login.AuthTime), Millis(login.AuthTime), login.Issuer, login.Subject, KindKey)
	return err
}

// MoveKeys says that the set of live keys may be another one.
func MoveKeys(ctx context.Context, q Querier) error {
	_, err := q.ExecContext(ctx, `UPDATE person_keys_moved SET n=n+1`)
	return err
}

// KeysMoved is a number that rises when the set of live keys changes by more than time; 0 where there
// never was a key.
func KeysMoved(ctx context.Context, q Querier) (n int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT coalesce(max(n), 0) FROM person_keys_moved`).Scan(&n)
	return n, err
}

// addCertKey records what is known of the key of a certificate. One of a plain key has no row.
func addCertKey(ctx context.Context, q Querier, c Cert) error {
	if !c.Hardware {
		return nil
	}
	return insert(ctx, q, `INSERT INTO cert_keys (profile, serial, verified) VALUES (?,?,?)`, c.Profile, serialText(c.Serial), flag(c.Verified))
}

// readCertKey fills in what addCertKey has recorded.
func readCertKey(ctx context.Context, q Querier, c *Cert) error {
	var verified int64
	err := one(q.QueryRowContext(ctx, `SELECT verified FROM cert_keys WHERE profile=? AND serial=?`, c.Profile, serialText(c.Serial)).Scan(&verified))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	c.Hardware, c.Verified = err == nil, err == nil && verified != 0
	return err
}
