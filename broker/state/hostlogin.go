package state

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Logins that hosts have told of: which a session was used for, and how many of those that nothing covers are in the log.

// ReportUsed reports whether a report's ID was recorded.
func ReportUsed(ctx context.Context, q Querier, id string) (used bool, err error) {
	var n int
	err = q.QueryRowContext(ctx, `SELECT count(*) FROM taken_reports WHERE id=?`, id).Scan(&n)
	return n > 0, err
}

// LoginOfSession returns the connection that an SSH session's certificate or key was used for first; "" where none is known.
func LoginOfSession(ctx context.Context, q Querier, session string) (connection string, err error) {
	err = q.QueryRowContext(ctx, `SELECT connection FROM host_logins WHERE session_id=?`, session).Scan(&connection)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return connection, err
}

// UseSession records the connection; ErrExists where one is known.
func UseSession(ctx context.Context, q Querier, session, connection string, now time.Time) error {
	return insert(ctx, q, `INSERT INTO host_logins (session_id, connection, at) VALUES (?,?,?)`, session, connection, Millis(now))
}

// DropLogins forgets the connections and the lines that were recorded before a time.
func DropLogins(ctx context.Context, q Querier, before time.Time) error {
	for _, query := range []string{`DELETE FROM host_logins WHERE at<?`, `DELETE FROM host_left_out WHERE at<?`} {
		if _, err := q.ExecContext(ctx, query, Millis(before)); err != nil {
			return err
		}
	}
	return nil
}

// LeftOut reports whether a line of a host's log was counted among those that are in no event.
func LeftOut(ctx context.Context, q Querier, host, line string) (was bool, err error) {
	var n int
	err = q.QueryRowContext(ctx, `SELECT count(*) FROM host_left_out WHERE host=? AND line=?`, host, line).Scan(&n)
	return n > 0, err
}

// LeftOutLines is how many lines of a host's log LeftOut knows.
func LeftOutLines(ctx context.Context, q Querier, host string) (n int, err error) {
	err = q.QueryRowContext(ctx, `SELECT count(*) FROM host_left_out WHERE host=?`, host).Scan(&n)
	return n, err
}

// LeaveOut records a line; ErrExists where it was.
func LeaveOut(ctx context.Context, q Querier, host, line string, now time.Time) error {
	return insert(ctx, q, `INSERT INTO host_left_out (host, line, at) VALUES (?,?,?)`, host, line, Millis(now))
}

// Bypasses count the logins of a host that nothing covers, in a while.
type Bypasses struct {
	Host    string
	Since   time.Time // when the while began
	Events  int       // in the log
	LeftOut int       // that are in no event, and that no event has told of yet
}

const bypassesSelect = `SELECT host, since, events, left_out FROM host_bypasses`

func scanBypasses(scan func(...any) error) (b Bypasses, err error) {
	var since int64
	err = scan(&b.Host, &since, &b.Events, &b.LeftOut)
	b.Since = Time(since)
	return b, err
}

// BypassesOf returns the count of a host, that of none where nothing was counted.
func BypassesOf(ctx context.Context, q Querier, host string) (Bypasses, error) {
	b, err := scanBypasses(q.QueryRowContext(ctx, bypassesSelect+` WHERE host=?`, host).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Bypasses{Host: host}, nil
	}
	return b, err
}

// UntoldBypasses returns the counts of whiles that began before a time, where some are to be told of.
func UntoldBypasses(ctx context.Context, q Querier, before time.Time) ([]Bypasses, error) {
	rows, err := q.QueryContext(ctx, bypassesSelect+` WHERE left_out>0 AND since<? ORDER BY host`, Millis(before))
	return collect(rows, err, func(r *sql.Rows) (Bypasses, error) { return scanBypasses(r.Scan) })
}

// CountBypasses stores a count in the place of what was read; ErrNotFound where that has changed.
func CountBypasses(ctx context.Context, q Querier, was, now Bypasses) error {
	at, err := BypassesOf(ctx, q, was.Host)
	if err == nil && at != was {
		err = ErrNotFound
	}
	if err != nil {
		return err
	}
	_, err = q.ExecContext(ctx, `INSERT INTO host_bypasses (host, since, events, left_out) VALUES (?,?,?,?)
		ON CONFLICT (host) DO UPDATE SET since=excluded.since, events=excluded.events, left_out=excluded.left_out`,
		was.Host, Millis(now.Since), now.Events, now.LeftOut)
	return err
}
