package state

import (
	"context"
	"database/sql"
	"time"
)

// Member is a person who has logged in of late, with the groups of his newest login.
type Member struct {
	Issuer, Subject, Email, Name string
	Groups                       []string
	Login                        string // account name that is his on all hosts; "": none yet
}

// memberSelect finds who has a login that had not ended by a time and is not blocked, each once.
const memberSelect = `SELECT s.iss, s.sub, s.email, s.name, s.groups, COALESCE(a.login, '') FROM sessions AS s
	LEFT JOIN account_names AS a ON a.iss=s.iss AND a.sub=s.sub
	WHERE s.kind='login' AND s.not_after>? AND s.ended_why<>'revoked'
		AND NOT EXISTS (SELECT 1 FROM sessions AS n WHERE n.kind='login' AND n.iss=s.iss AND n.sub=s.sub AND (n.created>s.created OR (n.created=s.created AND n.id>s.id)))
		AND NOT EXISTS (SELECT 1 FROM subjects AS b WHERE b.iss=s.iss AND b.sub=s.sub AND b.blocked<>0)`

func scanMember(scan func(...any) error) (m Member, err error) {
	var groups string
	if err := scan(&m.Issuer, &m.Subject, &m.Email, &m.Name, &groups, &m.Login); err != nil {
		return m, err
	}
	m.Groups, err = decodeGroups(groups)
	return m, err
}

// Members returns all of them, by issuer and subject.
func Members(ctx context.Context, q Querier, since time.Time) ([]Member, error) {
	rows, err := q.QueryContext(ctx, memberSelect+` ORDER BY s.iss, s.sub`, Millis(since))
	return collect(rows, err, func(r *sql.Rows) (Member, error) { return scanMember(r.Scan) })
}

// MemberByID returns one of them, or ErrNotFound.
func MemberByID(ctx context.Context, q Querier, iss, sub string, since time.Time) (Member, error) {
	m, err := scanMember(q.QueryRowContext(ctx, memberSelect+` AND s.iss=? AND s.sub=?`, Millis(since), iss, sub).Scan)
	return m, one(err)
}

// AccountNameTaken reports whether an account name is somebody's.
func AccountNameTaken(ctx context.Context, q Querier, login string) (taken bool, err error) {
	var n int
	err = q.QueryRowContext(ctx, `SELECT count(*) FROM account_names WHERE login=?`, login).Scan(&n)
	return n > 0, err
}

// GiveAccountName makes an account name a person's, until it is released. Where it is another's, or he has one, all stays as it is.
func GiveAccountName(ctx context.Context, q Querier, login, iss, sub string, now time.Time) error {
	_, err := q.ExecContext(ctx, `INSERT INTO account_names (login, iss, sub, at) VALUES (?,?,?,?) ON CONFLICT DO NOTHING`, login, iss, sub, Millis(now))
	return err
}

// AccountName is an account name and whose it is.
type AccountName struct {
	Login, Issuer, Subject string
	Email                  string // as last seen
	Since                  time.Time
}

// AccountNameOf returns whose an account name is, or ErrNotFound.
func AccountNameOf(ctx context.Context, q Querier, login string) (AccountName, error) {
	a := AccountName{Login: login}
	var at int64
	err := q.QueryRowContext(ctx, `SELECT a.iss, a.sub, COALESCE(s.email, ''), a.at FROM account_names AS a
		LEFT JOIN subjects AS s ON s.iss=a.iss AND s.sub=a.sub WHERE a.login=?`, login).Scan(&a.Issuer, &a.Subject, &a.Email, &at)
	a.Since = Time(at)
	return a, one(err)
}

// ReleaseAccountName makes an account name nobody's.
func ReleaseAccountName(ctx context.Context, q Querier, a AccountName) error {
	_, err := q.ExecContext(ctx, `DELETE FROM account_names WHERE login=? AND iss=? AND sub=?`, a.Login, a.Issuer, a.Subject)
	return err
}

// Holds says until when a person may come in by what he has, each zero where he has none of it: logins and registered keys,
// and certificates.
type Holds struct{ Sessions, Certs time.Time }

// HoldsOf returns what a person has.
func HoldsOf(ctx context.Context, q Querier, iss, sub string, now time.Time) (h Holds, err error) {
	var sessions, certs int64
	err = q.QueryRowContext(ctx, `SELECT COALESCE((SELECT MAX(not_after) FROM sessions WHERE iss=? AND sub=? AND ended=0 AND not_after>?), 0),
		COALESCE((SELECT MAX(valid_before) FROM certs WHERE iss=? AND sub=? AND valid_before>?), 0)`,
		iss, sub, Millis(now), iss, sub, Millis(now)).Scan(&sessions, &certs)
	return Holds{Time(sessions), Time(certs)}, err
}
