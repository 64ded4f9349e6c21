package state

import (
	"context"
	"errors"
	"time"
)

// KRL is what the database knows of the list of revoked certificates: how often what stands in it has changed, and the
// version that was made last.
type KRL struct {
	Changes   int64
	Version   int64
	Digest    string // of what that version says
	Generated time.Time
}

// KRLState returns what is known; the zero value where no list was made yet.
func KRLState(ctx context.Context, q Querier) (KRL, error) {
	var k KRL
	var generated int64
	err := one(q.QueryRowContext(ctx, `SELECT changes, version, digest, generated FROM krl WHERE one=1`).Scan(&k.Changes, &k.Version, &k.Digest, &generated))
	if errors.Is(err, ErrNotFound) {
		return KRL{}, nil
	}
	k.Generated = Time(generated)
	return k, err
}

// TouchKRL counts a change of what stands in the list.
func TouchKRL(ctx context.Context, q Querier) error {
	_, err := q.ExecContext(ctx, `INSERT INTO krl (one, changes, version, digest, generated) VALUES (1, 1, 0, '', 0)
		ON CONFLICT (one) DO UPDATE SET changes=krl.changes+1`)
	return err
}

// NextKRL records that a list was made. Its version is higher than every one before, and not below the clock's
// milliseconds: a database that was restored does not know the versions that it has lost, and they were made before now.
func NextKRL(ctx context.Context, q Querier, digest string, now time.Time) (KRL, error) {
	was, err := KRLState(ctx, q)
	if err != nil {
		return was, err
	}
	is := KRL{Changes: was.Changes, Version: max(was.Version+1, now.UnixMilli()), Digest: digest, Generated: Time(Millis(now))}
	_, err = q.ExecContext(ctx, `INSERT INTO krl (one, changes, version, digest, generated) VALUES (1, ?, ?, ?, ?)
		ON CONFLICT (one) DO UPDATE SET version=excluded.version, digest=excluded.digest, generated=excluded.generated`,
		is.Changes, is.Version, is.Digest, Millis(now))
	return is, err
}
