package state

import (
	"context"
	"database/sql"
	"strings"
	"time"
)

// Followed is what may change of a person's session while its feed lives.
type Followed struct {
	ID       string
	Groups   string // as stored: two are equal where the groups are
	Expires  time.Time
	Ended    time.Time
	EndedWhy string
	Current  bool // neither ended nor outdated by a revocation of the person
}

// followedPage is how many sessions are asked for in one statement, of which there are few forms: a
// database keeps each prepared.
const followedPage = 250

// FollowedSessions returns the sessions of IDs, in any order; what is not there is left out.
func FollowedSessions(ctx context.Context, q Querier, ids []string) ([]Followed, error) {
	out := make([]Followed, 0, len(ids))
	for len(ids) > 0 {
		n := min(len(ids), followedPage)
		page, err := followedSessions(ctx, q, ids[:n])
		if err != nil {
			return nil, err
		}
		out, ids = append(out, page...), ids[n:]
	}
	return out, nil
}

func followedSessions(ctx context.Context, q Querier, ids []string) ([]Followed, error) {
	size := 1
	for size < len(ids) {
		size = min(4*size, followedPage)
	}
	args := make([]any, size)
	for i := range args {
		args[i] = ids[min(i, len(ids)-1)] // the last one again and again
	}
	rows, err := q.QueryContext(ctx, `SELECT s.id, s.groups, s.expires, s.ended, s.ended_why,
			CASE WHEN s.ended=0 AND COALESCE(u.blocked, 0)=0 AND COALESCE(u.epoch, s.epoch)=s.epoch THEN 1 ELSE 0 END
		FROM sessions s LEFT JOIN subjects u ON u.iss=s.iss AND u.sub=s.sub
		WHERE s.id IN (?`+strings.Repeat(`,?`, size-1)+`)`, args...)
	return collect(rows, err, func(r *sql.Rows) (Followed, error) {
		var f Followed
		var expires, ended, current int64
		err := r.Scan(&f.ID, &f.Groups, &expires, &ended, &f.EndedWhy, &current)
		f.Expires, f.Ended, f.Current = Time(expires), Time(ended), current != 0
		return f, err
	})
}

// LastRevocation returns the index of the newest revocation, -1 where there is none.
func LastRevocation(ctx context.Context, q Querier) (index int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT COALESCE(max(idx), -1) FROM revocations`).Scan(&index)
	return index, err
}
