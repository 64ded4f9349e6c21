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

// flag is a boolean as stored.
func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func one(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// insert runs an INSERT and answers ErrExists where the row was there already.
func insert(ctx context.Context, q Querier, query string, args ...any) error {
	res, err := q.ExecContext(ctx, query+` ON CONFLICT DO NOTHING`, args...)
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
