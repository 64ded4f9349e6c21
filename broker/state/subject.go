package state

import (
	"context"
	"database/sql"
	"time"
)

// Subject is a person as the broker knows him: (Issuer, Subject) is the identity (design R2).
type Subject struct {
	Issuer, Subject, Email, Name string
	Epoch                        int64 // raised by every revocation of the person
	Blocked                      bool
	BlockedIssuer, BlockedSub    string // who did it
	BlockedReason                string
	Seen                         time.Time
}

const subjectColumns = `iss, sub, email, name, epoch, blocked, blocked_iss, blocked_sub, blocked_reason, seen`

func scanSubject(scan func(...any) error) (Subject, error) {
	var s Subject
	var blocked, seen int64
	err := scan(&s.Issuer, &s.Subject, &s.Email, &s.Name, &s.Epoch, &blocked, &s.BlockedIssuer, &s.BlockedSub, &s.BlockedReason, &seen)
	s.Blocked, s.Seen = blocked != 0, Time(seen)
	return s, err
}

// SubjectByID returns the subject, or ErrNotFound.
func SubjectByID(ctx context.Context, q Querier, iss, sub string) (Subject, error) {
	s, err := scanSubject(q.QueryRowContext(ctx, `SELECT `+subjectColumns+` FROM subjects WHERE iss=? AND sub=?`, iss, sub).Scan)
	return s, one(err)
}

// SubjectsByEmail returns all subjects that were last seen with that e-mail.
func SubjectsByEmail(ctx context.Context, q Querier, email string) ([]Subject, error) {
	rows, err := q.QueryContext(ctx, `SELECT `+subjectColumns+` FROM subjects WHERE email=? ORDER BY iss, sub`, email)
	return collect(rows, err, func(r *sql.Rows) (Subject, error) { return scanSubject(r.Scan) })
}

// SeeSubject records that the person was seen with this e-mail and name, and returns the record.
func SeeSubject(ctx context.Context, q Querier, iss, sub, email, name string, now time.Time) (Subject, error) {
	_, err := q.ExecContext(ctx, `INSERT INTO subjects (iss, sub, email, name, epoch, blocked, blocked_iss, blocked_sub, blocked_reason, seen)
		VALUES (?, ?, ?, ?, 1, 0, '', '', '', ?)
		ON CONFLICT (iss, sub) DO UPDATE SET email=excluded.email, name=excluded.name, seen=excluded.seen`,
		iss, sub, email, name, Millis(now))
	if err != nil {
		return Subject{}, err
	}
	return SubjectByID(ctx, q, iss, sub)
}

// BlockSubject raises the subject's epoch and blocks it; an unknown subject is recorded as blocked.
func BlockSubject(ctx context.Context, q Querier, iss, sub, byIss, bySub, reason string) error {
	_, err := q.ExecContext(ctx, `INSERT INTO subjects (iss, sub, email, name, epoch, blocked, blocked_iss, blocked_sub, blocked_reason, seen)
		VALUES (?, ?, '', '', 2, 1, ?, ?, ?, 0)
		ON CONFLICT (iss, sub) DO UPDATE SET epoch=subjects.epoch+1, blocked=1, blocked_iss=excluded.blocked_iss,
			blocked_sub=excluded.blocked_sub, blocked_reason=excluded.blocked_reason`,
		iss, sub, byIss, bySub, reason)
	return err
}

// UnblockSubject lifts a block; the epoch stays raised, so nothing old comes back.
func UnblockSubject(ctx context.Context, q Querier, iss, sub string) error {
	_, err := q.ExecContext(ctx, `UPDATE subjects SET blocked=0, blocked_iss='', blocked_sub='', blocked_reason='' WHERE iss=? AND sub=?`, iss, sub)
	return err
}
