package state

import (
	"context"
	"database/sql"
	"time"
)

// Seen is a machine's word on the trust that it has in force.
type Seen struct {
	Machine string // mch_…; of a broker its node
	Name    string
	Kind    string // bastion, host or broker
	Version int64
	At      time.Time // when it said so last
}

// SawTrust records what a machine has in force. Its last word counts, also where that is an older version.
func SawTrust(ctx context.Context, q Querier, s Seen) error {
	_, err := q.ExecContext(ctx, `INSERT INTO trust_seen (machine, name, kind, version, at) VALUES (?,?,?,?,?)
		ON CONFLICT (machine) DO UPDATE SET name=excluded.name, kind=excluded.kind, version=excluded.version, at=excluded.at`,
		s.Machine, s.Name, s.Kind, s.Version, Millis(s.At))
	return err
}

// TrustSeen returns the last word of every machine, those that are not enrolled any more included.
func TrustSeen(ctx context.Context, q Querier) ([]Seen, error) {
	rows, err := q.QueryContext(ctx, `SELECT machine, name, kind, version, at FROM trust_seen ORDER BY kind, name, machine`)
	return collect(rows, err, func(r *sql.Rows) (Seen, error) {
		var s Seen
		var at int64
		err := r.Scan(&s.Machine, &s.Name, &s.Kind, &s.Version, &at)
		s.At = Time(at)
		return s, err
	})
}

// Machines returns the machines of a kind that are enrolled now, by name.
func Machines(ctx context.Context, q Querier, kind string) ([]Machine, error) {
	rows, err := q.QueryContext(ctx, `SELECT id, name, kind, thumbprint, created FROM machines WHERE kind=? ORDER BY name`, kind)
	return collect(rows, err, func(r *sql.Rows) (Machine, error) {
		var m Machine
		var created int64
		err := r.Scan(&m.ID, &m.Name, &m.Kind, &m.Thumbprint, &created)
		m.Created = Time(created)
		return m, err
	})
}
