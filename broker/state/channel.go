package state

import (
	"context"
	"time"
)

// Answer is what a bastion was told when it asked whether something may begin in a session.
type Answer struct {
	ID     string // the machine's and the request's
	Digest []byte // of the request: another one under the same ID gets no answer
	Grant  []byte // JSON
}

// AddAnswer stores an answer; ErrExists where its ID has one.
func AddAnswer(ctx context.Context, q Querier, a Answer, now time.Time) error {
	return insert(ctx, q, `INSERT INTO channel_answers (id, digest, answer, at) VALUES (?,?,?,?)`, a.ID, a.Digest, a.Grant, Millis(now))
}

// AnswerByID returns an answer.
func AnswerByID(ctx context.Context, q Querier, id string) (Answer, error) {
	a := Answer{ID: id}
	err := q.QueryRowContext(ctx, `SELECT digest, answer FROM channel_answers WHERE id=?`, id).Scan(&a.Digest, &a.Grant)
	return a, one(err)
}

// DropAnswers forgets answers from before a time.
func DropAnswers(ctx context.Context, q Querier, before time.Time) error {
	_, err := q.ExecContext(ctx, `DELETE FROM channel_answers WHERE at<?`, Millis(before))
	return err
}

// RevokedSSH reports whether an SSH session was revoked by its own ID, by a certificate that it stands on, or with its
// host. Its login may stand.
func RevokedSSH(ctx context.Context, q Querier, id string) (bool, error) {
	const byCert = `(SELECT count(*) FROM ssh_certs AS c JOIN revoked_certs AS r ON r.profile=? AND r.serial=c.`
	var n int
	err := q.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM revocations WHERE session_id=?)
		+ `+byCert+`access WHERE c.id=?) + `+byCert+`hop WHERE c.id=?) + `+byCert+`host WHERE c.id=?)
		+ (SELECT count(*) FROM ssh_sessions AS s JOIN blocked_hosts AS b ON b.host=s.host WHERE s.id=?)`,
		id, "access", id, "hop", id, "host", id, id).Scan(&n)
	return n > 0, err
}
