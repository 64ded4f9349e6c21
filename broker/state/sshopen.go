package state

import (
	"context"
	"database/sql"
	"time"
)

// openSSH selects what counts as open at a time: sessions before their own end that have started, or
// were permitted a short while ago, on bastions of which nothing says that their lease is over. What a
// bastion without a lease held it has closed, whether or not it ever comes back to report that.
// Parameters: the time, since when a session that is opening counts, the time again.
const openSSH = `state<>'ended' AND not_after>? AND (state='live' OR started>?)
	AND (NOT EXISTS (SELECT 1 FROM followers WHERE followers.name=ssh_sessions.node)
		OR EXISTS (SELECT 1 FROM followers WHERE followers.name=ssh_sessions.node AND followers.lease>?))`

// OpenSSHOf returns the open SSH sessions of a person, the oldest first. opening is for how long one
// counts that was permitted and of which its bastion has said nothing yet.
func OpenSSHOf(ctx context.Context, q Querier, iss, sub string, now time.Time, opening time.Duration) ([]SSHSession, error) {
	at := Millis(now)
	rows, err := q.QueryContext(ctx, sshSelect+` WHERE iss=? AND sub=? AND `+openSSH+` ORDER BY started, id`, iss, sub, at, Millis(now.Add(-opening)), at)
	return collect(rows, err, func(r *sql.Rows) (SSHSession, error) { return scanSSH(r.Scan) })
}

// CountSSHOn counts everybody's open SSH sessions on a host, by the name that people type.
func CountSSHOn(ctx context.Context, q Querier, host string, now time.Time, opening time.Duration) (n int, err error) {
	at := Millis(now)
	err = q.QueryRowContext(ctx, `SELECT count(*) FROM ssh_sessions WHERE host=? AND `+openSSH, host, at, Millis(now.Add(-opening)), at).Scan(&n)
	return n, err
}
