// Package state owns the broker's records beside the audit log: subjects and their epochs,
// sessions, certificates, AWS grants, SSH sessions, revocations, machines. Every function takes
// the transaction of the caller, who got it from the audit log's committer, so that a change of
// state and its event are one commit (design R3, R4). It decides nothing and writes no event.
//
// Times are Unix milliseconds, UTC. It serves every flow of docs/architecture.md.
package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrNotFound means that there is no such record.
var ErrNotFound = errors.New("state: not found")

// ErrExists means that a record which may exist once exists already.
var ErrExists = errors.New("state: exists already")

// Querier is the transaction of the caller (audit/store).
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Schema is the DDL, idempotent, for SQLite.
var Schema = []string{
	`CREATE TABLE IF NOT EXISTS serials (ca TEXT PRIMARY KEY, era INTEGER NOT NULL, next INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS subjects (
		iss TEXT NOT NULL, sub TEXT NOT NULL, email TEXT NOT NULL, name TEXT NOT NULL,
		epoch INTEGER NOT NULL, blocked INTEGER NOT NULL, blocked_iss TEXT NOT NULL, blocked_sub TEXT NOT NULL,
		blocked_reason TEXT NOT NULL, seen INTEGER NOT NULL, PRIMARY KEY (iss, sub)) STRICT`,
	`CREATE INDEX IF NOT EXISTS subjects_email ON subjects (email)`,
	`CREATE TABLE IF NOT EXISTS sessions (
		id TEXT PRIMARY KEY, kind TEXT NOT NULL, token_hash BLOB NOT NULL UNIQUE, thumbprint TEXT NOT NULL,
		iss TEXT NOT NULL, sub TEXT NOT NULL, email TEXT NOT NULL, name TEXT NOT NULL, groups TEXT NOT NULL,
		method TEXT NOT NULL, mfa INTEGER NOT NULL, auth_time INTEGER NOT NULL, nonce TEXT NOT NULL,
		source TEXT NOT NULL, client TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL, not_after INTEGER NOT NULL,
		epoch INTEGER NOT NULL, rev INTEGER NOT NULL, ended INTEGER NOT NULL, ended_why TEXT NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS sessions_subject ON sessions (iss, sub)`,
	`CREATE TABLE IF NOT EXISTS certs (
		profile TEXT NOT NULL, serial TEXT NOT NULL, login_id TEXT NOT NULL, iss TEXT NOT NULL, sub TEXT NOT NULL,
		epoch INTEGER NOT NULL, rev INTEGER NOT NULL, fingerprint TEXT NOT NULL, digest TEXT NOT NULL, valid_before INTEGER NOT NULL,
		reason TEXT NOT NULL, ticket TEXT NOT NULL,
		PRIMARY KEY (profile, serial)) STRICT`,
	`CREATE INDEX IF NOT EXISTS certs_subject ON certs (iss, sub, valid_before)`,
	`CREATE INDEX IF NOT EXISTS certs_expiry ON certs (valid_before)`,
	`CREATE TABLE IF NOT EXISTS grants (
		access_key_id TEXT PRIMARY KEY, role TEXT NOT NULL, login_id TEXT NOT NULL, iss TEXT NOT NULL, sub TEXT NOT NULL,
		epoch INTEGER NOT NULL, rev INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS grants_subject ON grants (iss, sub, expires)`,
	`CREATE TABLE IF NOT EXISTS ssh_sessions (
		id TEXT PRIMARY KEY, login_id TEXT NOT NULL, iss TEXT NOT NULL, sub TEXT NOT NULL, email TEXT NOT NULL,
		host TEXT NOT NULL, login TEXT NOT NULL, source TEXT NOT NULL, node TEXT NOT NULL, started INTEGER NOT NULL,
		not_after INTEGER NOT NULL, epoch INTEGER NOT NULL, rev INTEGER NOT NULL, state TEXT NOT NULL,
		reason TEXT NOT NULL, ticket TEXT NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS ssh_sessions_subject ON ssh_sessions (iss, sub)`,
	`CREATE INDEX IF NOT EXISTS ssh_sessions_state ON ssh_sessions (state)`,
	`CREATE TABLE IF NOT EXISTS revocations (
		idx INTEGER PRIMARY KEY, event_id TEXT NOT NULL, iss TEXT NOT NULL, sub TEXT NOT NULL,
		login_id TEXT NOT NULL, session_id TEXT NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS id_tokens (digest TEXT PRIMARY KEY, expires INTEGER NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS id_tokens_expiry ON id_tokens (expires)`,
	`CREATE TABLE IF NOT EXISTS machines (
		id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, thumbprint TEXT NOT NULL UNIQUE, created INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS join_tokens (
		hash BLOB PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, expires INTEGER NOT NULL, used INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS intents (action TEXT PRIMARY KEY, node TEXT NOT NULL, body BLOB NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS probe (one INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT`,
	`CREATE TABLE IF NOT EXISTS marks (size INTEGER NOT NULL, root TEXT NOT NULL, PRIMARY KEY (size, root)) STRICT`,
	`CREATE TABLE IF NOT EXISTS reports (id TEXT PRIMARY KEY) STRICT`,
}

// Millis is t as stored; the zero time is 0.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Time is a stored time; 0 is the zero time.
func Time(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func one(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// insert runs an INSERT OR IGNORE and answers ErrExists where the row was there already.
func insert(ctx context.Context, q Querier, query string, args ...any) error {
	res, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, ErrExists)
	}
	return nil
}

func collect[T any](rows *sql.Rows, err error, scan func(*sql.Rows) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

func encodeGroups(groups []string) (string, error) {
	if groups == nil {
		groups = []string{}
	}
	b, err := json.Marshal(groups)
	return string(b), err
}

func decodeGroups(s string) ([]string, error) {
	var groups []string
	if err := json.Unmarshal([]byte(s), &groups); err != nil {
		return nil, fmt.Errorf("state: groups: %w", err)
	}
	return groups, nil
}
