package state

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Revocation is an entry of the feed: Index is that of its event in the log.
type Revocation struct {
	Index                               int64
	EventID                             string
	Issuer, Subject, LoginID, SessionID string
	Profile                             string // of a certificate
	Serial                              uint64
	Host                                string // by its name
	Reason                              string
	At                                  time.Time
}

// AddRevocation stores a revocation.
func AddRevocation(ctx context.Context, q Querier, r Revocation) error {
	err := insert(ctx, q, `INSERT INTO revocations (idx, event_id, iss, sub, login_id, session_id, reason, at) VALUES (?,?,?,?,?,?,?,?)`,
		r.Index, r.EventID, r.Issuer, r.Subject, r.LoginID, r.SessionID, r.Reason, Millis(r.At))
	if err != nil || r.Profile == "" && r.Host == "" {
		return err
	}
	return insert(ctx, q, `INSERT INTO revoked_subjects (idx, profile, serial, host) VALUES (?,?,?,?)`, r.Index, r.Profile, serialText(r.Serial), r.Host)
}

// RevocationsAfter returns up to limit revocations of a higher index, in order.
func RevocationsAfter(ctx context.Context, q Querier, after int64, limit int) ([]Revocation, error) {
	rows, err := q.QueryContext(ctx, `SELECT r.idx, r.event_id, r.iss, r.sub, r.login_id, r.session_id, r.reason, r.at,
			COALESCE(s.profile, ''), COALESCE(s.serial, '0'), COALESCE(s.host, '')
		FROM revocations AS r LEFT JOIN revoked_subjects AS s ON s.idx=r.idx WHERE r.idx>? ORDER BY r.idx LIMIT ?`, after, limit)
	return collect(rows, err, func(rows *sql.Rows) (Revocation, error) {
		var r Revocation
		var at int64
		var serial string
		err := rows.Scan(&r.Index, &r.EventID, &r.Issuer, &r.Subject, &r.LoginID, &r.SessionID, &r.Reason, &at, &r.Profile, &serial, &r.Host)
		if err == nil {
			r.At = Time(at)
			r.Serial, err = parseSerial(serial)
		}
		return r, err
	})
}

// RevokedWhy returns the reason of the last revocation that ends a login; "" where none does.
func RevokedWhy(ctx context.Context, q Querier, login Session) (reason string, err error) {
	err = q.QueryRowContext(ctx, `SELECT reason FROM revocations WHERE login_id=? OR iss=? AND sub=? AND sub<>'' ORDER BY idx DESC LIMIT 1`,
		login.ID, login.Issuer, login.Subject).Scan(&reason)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return reason, err
}

// Intent is an external effect that was begun.
type Intent struct {
	Action, Node string
	Body         []byte // the envelope of the intent's event
}

// OpenIntent records that an external effect begins.
func OpenIntent(ctx context.Context, q Querier, i Intent) error {
	return insert(ctx, q, `INSERT INTO intents (action, node, body) VALUES (?, ?, ?)`, i.Action, i.Node, i.Body)
}

// CloseIntent records that its outcome is known; ErrNotFound where it was known before, so that no
// intent gets two.
func CloseIntent(ctx context.Context, q Querier, action string) error {
	res, err := q.ExecContext(ctx, `DELETE FROM intents WHERE action=?`, action)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, ErrNotFound)
	}
	return nil
}

// OpenIntents returns the intents of a node whose outcome is not known.
func OpenIntents(ctx context.Context, q Querier, node string) ([]Intent, error) {
	rows, err := q.QueryContext(ctx, `SELECT action, node, body FROM intents WHERE node=? ORDER BY action`, node)
	return collect(rows, err, func(r *sql.Rows) (Intent, error) {
		var i Intent
		err := r.Scan(&i.Action, &i.Node, &i.Body)
		return i, err
	})
}

// Probe writes one small record, to see whether writes reach the disk.
func Probe(ctx context.Context, q Querier, now time.Time) error {
	_, err := q.ExecContext(ctx, `INSERT INTO probe (one, at) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET at=excluded.at`, Millis(now))
	return err
}

// MarkKnown reports whether a recovery for this mark (a tree that somebody remembers and that this
// log does not have) has happened.
func MarkKnown(ctx context.Context, q Querier, size int64, root string) (bool, error) {
	var n int
	err := q.QueryRowContext(ctx, `SELECT count(*) FROM marks WHERE size=? AND root=?`, size, root).Scan(&n)
	return n > 0, err
}

// LastMark is the size of the largest tree that is known to be lost, 0 where none is: this log was never restored.
func LastMark(ctx context.Context, q Querier) (size int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT COALESCE(MAX(size), 0) FROM marks`).Scan(&size)
	return size, err
}

// UseMark records a mark; ErrExists where it came before.
func UseMark(ctx context.Context, q Querier, size int64, root string) error {
	return insert(ctx, q, `INSERT INTO marks (size, root) VALUES (?, ?)`, size, root)
}

// Recover voids what a restored database may have wrong (design R10): every session ends, every
// subject's epoch and every CA's era moves on, certificates and grants are forgotten.
//
// The new era is taken from the clock, in minutes: the next number could have been used already, by
// a CA that the backup does not know yet, or after an earlier recovery from the same backup. The
// row of no CA keeps it for CAs that come later.
func Recover(ctx context.Context, q Querier, now time.Time) error {
	era := int64(uint32(now.Unix() / 60))
	for _, query := range []string{
		`UPDATE subjects SET epoch=epoch+1000000`,
		`DELETE FROM certs`,
		`DELETE FROM cert_keys`,
		`DELETE FROM grants`,
		`DELETE FROM grant_terms`,
		`UPDATE ca_trust SET version=version+1000000`, // what was seen of the missing part counts for nothing
		`UPDATE krl SET changes=changes+1`,
	} {
		if _, err := q.ExecContext(ctx, query); err != nil {
			return err
		}
	}
	if _, err := q.ExecContext(ctx, `INSERT INTO serials (ca, era, next) VALUES ('', 0, 1) ON CONFLICT DO NOTHING`); err != nil {
		return err
	}
	if _, err := q.ExecContext(ctx, `UPDATE serials SET era=CASE WHEN era<? THEN ? ELSE era+1 END, next=1`, era, era); err != nil {
		return err
	}
	_, err := q.ExecContext(ctx, `UPDATE sessions SET rev=rev+1, ended=?, ended_why=? WHERE ended=0`, Millis(now), EndedRecovery)
	return err
}
