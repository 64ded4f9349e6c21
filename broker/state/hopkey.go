package state

import (
	"context"
	"database/sql"
	"time"
)

// HopKey is the key of one connection to a host whose sshd knows no certificates.
type HopKey struct {
	Fingerprint string // SHA256:…
	Line        string // authorized_keys form
	Host, Login string
	SessionID   string // ssh_…
	From        string // comma-separated CIDRs: the egress of the session's bastion
	Options     string // of authorized_keys beside from= and expiry-time=
	Expires     time.Time
}

// AddHopKey remembers a key.
func AddHopKey(ctx context.Context, q Querier, k HopKey) error {
	return insert(ctx, q, `INSERT INTO hop_keys (fingerprint, line, host, login, session_id, sources, options, expires) VALUES (?,?,?,?,?,?,?,?)`,
		k.Fingerprint, k.Line, k.Host, k.Login, k.SessionID, k.From, k.Options, Millis(k.Expires))
}

const hopKeySelect = `SELECT k.fingerprint, k.line, k.host, k.login, k.session_id, k.sources, k.options, k.expires FROM hop_keys AS k`

func scanHopKey(scan func(...any) error) (HopKey, error) {
	var k HopKey
	var expires int64
	err := scan(&k.Fingerprint, &k.Line, &k.Host, &k.Login, &k.SessionID, &k.From, &k.Options, &expires)
	k.Expires = Time(expires)
	return k, err
}

// HopKeys returns the keys that open an account of a host now: not expired, of sessions that are opening, and
// that nothing has ended since, a revocation or anything else.
func HopKeys(ctx context.Context, q Querier, host, login string, now time.Time) ([]HopKey, error) {
	rows, err := q.QueryContext(ctx, hopKeySelect+` JOIN ssh_sessions AS s ON s.id=k.session_id
		JOIN sessions AS l ON l.id=s.login_id AND l.ended=0 AND l.rev=s.rev AND l.epoch=s.epoch
		LEFT JOIN subjects AS b ON b.iss=s.iss AND b.sub=s.sub
		WHERE k.host=? AND k.login=? AND k.expires>? AND s.state='opening' AND COALESCE(b.blocked, 0)=0 AND COALESCE(b.epoch, s.epoch)=s.epoch
			AND NOT EXISTS (SELECT 1 FROM revocations AS r WHERE r.session_id=s.id)
		ORDER BY k.session_id`, host, login, Millis(now))
	return collect(rows, err, func(r *sql.Rows) (HopKey, error) { return scanHopKey(r.Scan) })
}

// HopKeyByFingerprint returns a key that was remembered, an expired one too.
func HopKeyByFingerprint(ctx context.Context, q Querier, fingerprint string) (HopKey, error) {
	k, err := scanHopKey(q.QueryRowContext(ctx, hopKeySelect+` WHERE k.fingerprint=?`, fingerprint).Scan)
	return k, one(err)
}

// DropHopKeys forgets the keys that expired before a time.
func DropHopKeys(ctx context.Context, q Querier, before time.Time) error {
	_, err := q.ExecContext(ctx, `DELETE FROM hop_keys WHERE expires<?`, Millis(before))
	return err
}
