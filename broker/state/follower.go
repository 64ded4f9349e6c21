package state

import (
	"context"
	"database/sql"
	"time"
)

// Follower is a bastion that follows the feed, as every broker of the database may see it.
type Follower struct {
	Machine, Name string
	Node          string    // of the broker whose feed it follows
	Acked         int64     // highest index of a revocation that it has carried out
	Closed        int64     // sessions that it has cut for that
	AckedAt       time.Time // zero where it acknowledged nothing
	Lease         time.Time // when what lives there has ended at the latest, if nothing more is sent
}

// PutFollower records where a machine follows the feed, from which index on, and until when at the
// latest it may hold anything open. What it has acknowledged stays.
func PutFollower(ctx context.Context, q Querier, f Follower) error {
	_, err := q.ExecContext(ctx, `INSERT INTO followers (machine, name, node, acked, closed, acked_at, lease) VALUES (?,?,?,?,0,0,?)
		ON CONFLICT (machine) DO UPDATE SET name=excluded.name, node=excluded.node, lease=excluded.lease,
			acked=CASE WHEN followers.acked<excluded.acked THEN excluded.acked ELSE followers.acked END`,
		f.Machine, f.Name, f.Node, f.Acked, Millis(f.Lease))
	return err
}

// KeepFollower prolongs the lease of a machine that follows a broker's feed still.
func KeepFollower(ctx context.Context, q Querier, machine, node string, lease time.Time) error {
	_, err := q.ExecContext(ctx, `UPDATE followers SET lease=? WHERE machine=? AND node=?`, Millis(lease), machine, node)
	return err
}

// AckFollower records that a machine has carried out every revocation up to an index.
func AckFollower(ctx context.Context, q Querier, machine string, index, closed int64, now time.Time) error {
	_, err := q.ExecContext(ctx, `UPDATE followers SET acked=?, closed=?, acked_at=? WHERE machine=? AND acked<?`, index, closed, Millis(now), machine, index)
	return err
}

// ForgetAcks makes of every acknowledgement of an index or a higher one that of the index before.
func ForgetAcks(ctx context.Context, q Querier, index int64) error {
	_, err := q.ExecContext(ctx, `UPDATE followers SET acked=?, closed=0, acked_at=0 WHERE acked>=?`, index-1, index)
	return err
}

// Followers returns the machines whose lease has not ended.
func Followers(ctx context.Context, q Querier, now time.Time) ([]Follower, error) {
	rows, err := q.QueryContext(ctx, `SELECT machine, name, node, acked, closed, acked_at, lease FROM followers WHERE lease>? ORDER BY machine`, Millis(now))
	return collect(rows, err, func(r *sql.Rows) (Follower, error) {
		var f Follower
		var at, lease int64
		err := r.Scan(&f.Machine, &f.Name, &f.Node, &f.Acked, &f.Closed, &at, &lease)
		f.AckedAt, f.Lease = Time(at), Time(lease)
		return f, err
	})
}
