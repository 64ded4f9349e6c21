package state

import (
	"context"
	"database/sql"
	"time"
)

// Phases of a CA's key. Of each CA there is at most one key that is next, one that is current and one that is
// old. All but the retired ones are in the trust bundles.
const (
	CABeside  = "beside"  // trusted, and never signs: one that the configuration names
	CANext    = "next"    // published, and does not sign yet
	CACurrent = "current" // signs
	CAOld     = "old"     // has signed: what it signed may still live
	CARetired = "retired" // nobody trusts it any more, and never will: one that has signed, or that was withdrawn before it did
)

// CAKey is the public key of a CA, and where its life stands.
type CAKey struct {
	CA        string // access, hop, front or host
	Key       string // authorized_keys form, without a comment
	Phase     string
	Version   int64     // of the first trust that holds it
	Published time.Time // when that was
	Replaced  time.Time // when it stopped signing; zero where it has not, or never has signed
	Until     time.Time // when all that it has signed has expired; zero while it signs
	Retired   time.Time // when it left the trust; zero where it has not
}

const caColumns = `ca, key, phase, version, published, replaced, until, retired`

// CAKeys returns all keys of the CAs, retired ones too, in the order in which each CA published them.
func CAKeys(ctx context.Context, q Querier) ([]CAKey, error) {
	rows, err := q.QueryContext(ctx, `SELECT `+caColumns+` FROM ca_keys ORDER BY ca, version, key`)
	return collect(rows, err, func(r *sql.Rows) (CAKey, error) {
		var k CAKey
		var published, replaced, until, retired int64
		err := r.Scan(&k.CA, &k.Key, &k.Phase, &k.Version, &published, &replaced, &until, &retired)
		k.Published, k.Replaced, k.Until, k.Retired = Time(published), Time(replaced), Time(until), Time(retired)
		return k, err
	})
}

// AddCAKey records a key; ErrExists where any CA has or had it, or where its phase is taken.
func AddCAKey(ctx context.Context, q Querier, k CAKey) error {
	return insert(ctx, q, `INSERT INTO ca_keys (`+caColumns+`) VALUES (?,?,?,?,?,?,?,?)`,
		k.CA, k.Key, k.Phase, k.Version, Millis(k.Published), Millis(k.Replaced), Millis(k.Until), Millis(k.Retired))
}

// MoveCAKey moves a key from one phase to another, and records the times that it has; ErrNotFound where it is not in that phase.
func MoveCAKey(ctx context.Context, q Querier, k CAKey, to string) error {
	return touched(q.ExecContext(ctx, `UPDATE ca_keys SET phase=?, version=?, published=?, replaced=?, until=?, retired=? WHERE key=? AND phase=?`,
		to, k.Version, Millis(k.Published), Millis(k.Replaced), Millis(k.Until), Millis(k.Retired), k.Key, k.Phase))
}

// LastCert returns when the last certificate of a profile ends that is recorded; zero where there is none.
func LastCert(ctx context.Context, q Querier, profile string) (time.Time, error) {
	var last int64
	err := q.QueryRowContext(ctx, `SELECT COALESCE(max(valid_before), 0) FROM certs WHERE profile=?`, profile).Scan(&last)
	return Time(last), err
}

// KeepCALife records how long certificates may live that a key signs. The longest that any broker was ever configured with counts.
func KeepCALife(ctx context.Context, q Querier, key string, life time.Duration) error {
	_, err := q.ExecContext(ctx, `INSERT INTO ca_lives (key, life) VALUES (?,?)
		ON CONFLICT (key) DO UPDATE SET life=CASE WHEN ca_lives.life<excluded.life THEN excluded.life ELSE ca_lives.life END`, key, life.Milliseconds())
	return err
}

// CALife returns the longest life of certificates of a CA's keys that are not retired; zero where none is recorded.
func CALife(ctx context.Context, q Querier, ca string) (time.Duration, error) {
	var life int64
	err := q.QueryRowContext(ctx, `SELECT COALESCE(max(l.life), 0) FROM ca_lives AS l JOIN ca_keys AS k ON k.key=l.key WHERE k.ca=? AND k.phase<>'retired'`, ca).Scan(&life)
	return time.Duration(life) * time.Millisecond, err
}

// DropCAKey forgets a key that is trusted beside; ErrNotFound where it is not.
func DropCAKey(ctx context.Context, q Querier, key string) error {
	return touched(q.ExecContext(ctx, `DELETE FROM ca_keys WHERE key=? AND phase='beside'`, key))
}

// touched is ErrNotFound where a statement changed nothing.
func touched(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// TrustVersion returns the version of the trust bundles, 0 before the first.
func TrustVersion(ctx context.Context, q Querier) (version int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT version FROM ca_trust WHERE one=1`).Scan(&version)
	return version, one(err)
}

// RaiseTrust returns the version of the bundles that the caller's transaction makes.
func RaiseTrust(ctx context.Context, q Querier) (version int64, err error) {
	err = q.QueryRowContext(ctx, `UPDATE ca_trust SET version=version+1 WHERE one=1 RETURNING version`).Scan(&version)
	return version, one(err)
}
