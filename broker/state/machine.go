package state

import (
	"context"
	"time"
)

// Machine is an enrolled machine, known by the key that it enrolled with.
type Machine struct {
	ID, Name, Kind, Thumbprint string
	Created                    time.Time
}

// JoinToken is good for the enrolment of one machine.
type JoinToken struct {
	Hash       []byte // SHA-256 of the token
	Name, Kind string
	Expires    time.Time
}

// AddJoinToken stores a token's hash.
func AddJoinToken(ctx context.Context, q Querier, t JoinToken) error {
	return insert(ctx, q, `INSERT INTO join_tokens (hash, name, kind, expires, used) VALUES (?,?,?,?,0)`, t.Hash, t.Name, t.Kind, Millis(t.Expires))
}

// SpendJoinToken uses a token up; ErrNotFound where it is unknown, used or expired.
func SpendJoinToken(ctx context.Context, q Querier, hash []byte, now time.Time) (JoinToken, error) {
	t := JoinToken{Hash: hash}
	var expires int64
	err := q.QueryRowContext(ctx, `UPDATE join_tokens SET used=1 WHERE hash=? AND used=0 AND expires>? RETURNING name, kind, expires`, hash, Millis(now)).
		Scan(&t.Name, &t.Kind, &expires)
	t.Expires = Time(expires)
	return t, one(err)
}

// AddMachine enrols a machine; a machine of that name is replaced, as its key is gone.
func AddMachine(ctx context.Context, q Querier, m Machine) error {
	_, err := q.ExecContext(ctx, `INSERT INTO machines (id, name, kind, thumbprint, created) VALUES (?,?,?,?,?)
		ON CONFLICT (name) DO UPDATE SET id=excluded.id, kind=excluded.kind, thumbprint=excluded.thumbprint, created=excluded.created`,
		m.ID, m.Name, m.Kind, m.Thumbprint, Millis(m.Created))
	return err
}

func machine(ctx context.Context, q Querier, where, arg string) (Machine, error) {
	var m Machine
	var created int64
	err := q.QueryRowContext(ctx, `SELECT id, name, kind, thumbprint, created FROM machines WHERE `+where+`=?`, arg).
		Scan(&m.ID, &m.Name, &m.Kind, &m.Thumbprint, &created)
	m.Created = Time(created)
	return m, one(err)
}

// MachineByKey returns the machine enrolled with a DPoP key.
func MachineByKey(ctx context.Context, q Querier, thumbprint string) (Machine, error) {
	return machine(ctx, q, "thumbprint", thumbprint)
}

// MachineByName returns the machine enrolled under a name.
func MachineByName(ctx context.Context, q Querier, name string) (Machine, error) {
	return machine(ctx, q, "name", name)
}

// MachineByID returns a machine.
func MachineByID(ctx context.Context, q Querier, id string) (Machine, error) {
	return machine(ctx, q, "id", id)
}
