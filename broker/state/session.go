package state

import (
	"context"
	"database/sql"
	"time"
)

// Kinds of session.
const (
	KindLogin   = "login"
	KindMachine = "machine"
	KindKey     = "key" // a registered public key; see PersonKey
)

// Why a session ended.
const (
	EndedLogout   = "logout"
	EndedRevoked  = "revoked"
	EndedReplaced = "replaced" // a machine asked for a new one
	EndedRecovery = "recovery" // the database was restored from a backup
	EndedRemoved  = "removed"  // a registered key, by its own person
)

// Session is a login of a person or of a machine (whose Subject is its ID and Email its name).
type Session struct {
	ID, Kind                     string
	TokenHash                    []byte // SHA-256 of the token
	Thumbprint                   string // of the DPoP key that it is bound to
	Issuer, Subject, Email, Name string
	Groups                       []string
	Method                       string
	MFA                          bool
	AuthTime                     time.Time
	Nonce                        string // of the ID token that opened it
	Source, Client               string
	Created, Expires, NotAfter   time.Time
	Epoch                        int64 // of the subject when it was opened
	Rev                          int64 // raised when this session alone is revoked
	Ended                        time.Time
	EndedWhy                     string
}

const sessionColumns = `id, kind, token_hash, thumbprint, iss, sub, email, name, groups, method, mfa, auth_time, nonce, source, client, created, expires, not_after, epoch, rev, ended, ended_why`

func scanSession(scan func(...any) error) (Session, error) {
	var s Session
	var groups string
	var mfa, auth, created, expires, notAfter, ended int64
	err := scan(&s.ID, &s.Kind, &s.TokenHash, &s.Thumbprint, &s.Issuer, &s.Subject, &s.Email, &s.Name, &groups, &s.Method, &mfa,
		&auth, &s.Nonce, &s.Source, &s.Client, &created, &expires, &notAfter, &s.Epoch, &s.Rev, &ended, &s.EndedWhy)
	if err != nil {
		return s, err
	}
	s.AuthTime, s.Created, s.Expires, s.NotAfter, s.Ended = Time(auth), Time(created), Time(expires), Time(notAfter), Time(ended)
	s.MFA = mfa != 0
	s.Groups, err = decodeGroups(groups)
	return s, err
}

// SessionByToken returns the session of a token's hash, ended ones too.
func SessionByToken(ctx context.Context, q Querier, hash []byte) (Session, error) {
	s, err := scanSession(q.QueryRowContext(ctx, `SELECT `+sessionColumns+` FROM sessions WHERE token_hash=?`, hash).Scan)
	return s, one(err)
}

// SessionByID returns the session, ended ones too.
func SessionByID(ctx context.Context, q Querier, id string) (Session, error) {
	s, err := scanSession(q.QueryRowContext(ctx, `SELECT `+sessionColumns+` FROM sessions WHERE id=?`, id).Scan)
	return s, one(err)
}

// LiveSessions returns sessions that have neither ended nor expired; with sub, those of a subject.
func LiveSessions(ctx context.Context, q Querier, iss, sub string, now time.Time) ([]Session, error) {
	rows, err := q.QueryContext(ctx, `SELECT `+sessionColumns+` FROM sessions
		WHERE ended=0 AND not_after>? AND (CAST(? AS TEXT)='' OR (iss=? AND sub=?)) ORDER BY created, id`, Millis(now), sub, iss, sub)
	return collect(rows, err, func(r *sql.Rows) (Session, error) { return scanSession(r.Scan) })
}

// AddSession stores a new session.
func AddSession(ctx context.Context, q Querier, s Session) error {
	groups, err := encodeGroups(s.Groups)
	if err != nil {
		return err
	}
	return insert(ctx, q, `INSERT INTO sessions (`+sessionColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,0,'')`,
		s.ID, s.Kind, s.TokenHash, s.Thumbprint, s.Issuer, s.Subject, s.Email, s.Name, groups, s.Method, flag(s.MFA),
		Millis(s.AuthTime), s.Nonce, s.Source, s.Client, Millis(s.Created), Millis(s.Expires), Millis(s.NotAfter), s.Epoch, s.Rev)
}

// RenewSession sets a new token, expiry and groups.
func RenewSession(ctx context.Context, q Querier, id string, tokenHash []byte, groups []string, expires time.Time) error {
	g, err := encodeGroups(groups)
	if err != nil {
		return err
	}
	_, err = q.ExecContext(ctx, `UPDATE sessions SET token_hash=?, groups=?, expires=? WHERE id=? AND ended=0`, tokenHash, g, Millis(expires), id)
	return err
}

// EndSession ends a session that is live and raises its counter.
func EndSession(ctx context.Context, q Querier, id, why string, now time.Time) error {
	_, err := q.ExecContext(ctx, `UPDATE sessions SET rev=rev+1, ended=?, ended_why=? WHERE id=? AND ended=0`, Millis(now), why, id)
	return err
}

// EndSessionsOf ends every live session of a subject.
func EndSessionsOf(ctx context.Context, q Querier, iss, sub, why string, now time.Time) error {
	_, err := q.ExecContext(ctx, `UPDATE sessions SET rev=rev+1, ended=?, ended_why=? WHERE iss=? AND sub=? AND ended=0`, Millis(now), why, iss, sub)
	return err
}

// UseIDToken records an ID token's digest; ErrExists where it was used before. Digests that have
// expired are dropped on the way.
func UseIDToken(ctx context.Context, q Querier, digest string, expires, now time.Time) error {
	if _, err := q.ExecContext(ctx, `DELETE FROM id_tokens WHERE expires<?`, Millis(now)); err != nil {
		return err
	}
	return insert(ctx, q, `INSERT INTO id_tokens (digest, expires) VALUES (?, ?)`, digest, Millis(expires))
}
