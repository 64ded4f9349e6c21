package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// EnrolledHost is a host that has enrolled, and what it was seen with last. All but HostKeys and the
// last four comes from whoever let it enrol, never from the host.
type EnrolledHost struct {
	Name, Machine string // its host ID is its name; the machine is that which holds its key
	Terms         HostTerms
	HostKeys      []string // authorized_keys lines, as the host showed them when it enrolled
	Method        string   // "token" or "aws"
	Enrolled      time.Time

	Seen       time.Time // of its last question; a minute late at most
	Trust, KRL int64     // versions that it had in force then
	Version    int64     // of the bundle that it was given last
	Digest     string    // of that bundle
}

// HostTerms are what a host enrols for: the part of the inventory that its token, or a rule, says.
type HostTerms struct {
	Address   string            `json:"address"` // host:port that bastions dial
	Logins    []string          `json:"logins"`
	Labels    map[string]string `json:"labels"`
	PlainKeys bool              `json:"plain_keys,omitempty"` // its sshd knows no certificates
	Groups    []string          `json:"groups,omitempty"`     // people of which have accounts of their own there
	Replaces  string            `json:"replaces,omitempty"`   // machine of that name in whose place it may come; "": none
}

// AddHostTerms stores what the join token of a hash is for.
func AddHostTerms(ctx context.Context, q Querier, hash []byte, t HostTerms) error {
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return insert(ctx, q, `INSERT INTO host_terms (hash, terms) VALUES (?, ?)`, hash, string(text))
}

// HostTermsOf returns what a join token is for.
func HostTermsOf(ctx context.Context, q Querier, hash []byte) (t HostTerms, err error) {
	var text string
	if err := q.QueryRowContext(ctx, `SELECT terms FROM host_terms WHERE hash=?`, hash).Scan(&text); err != nil {
		return t, one(err)
	}
	return t, json.Unmarshal([]byte(text), &t)
}

// DropHostTokens forgets the join tokens of hosts that expired before a time, spent or not, and what they were for. Those of
// other machines stay: their operator's file may make them anew, and one that was spent must not be good again.
func DropHostTokens(ctx context.Context, q Querier, before time.Time) error {
	const old = `SELECT j.hash FROM join_tokens AS j JOIN host_terms AS t ON t.hash=j.hash WHERE j.expires<?`
	if _, err := q.ExecContext(ctx, `DELETE FROM join_tokens WHERE hash IN (`+old+`)`, Millis(before)); err != nil {
		return err
	}
	_, err := q.ExecContext(ctx, `DELETE FROM host_terms WHERE NOT EXISTS (SELECT 1 FROM join_tokens AS j WHERE j.hash=host_terms.hash)`)
	return err
}

// PutHost stores a host that has enrolled, in the place of one of that name. The version of its bundle goes on.
func PutHost(ctx context.Context, q Querier, h EnrolledHost) error {
	terms, err := json.Marshal(h.Terms)
	if err != nil {
		return err
	}
	keys, err := json.Marshal(h.HostKeys)
	if err != nil {
		return err
	}
	_, err = q.ExecContext(ctx, `INSERT INTO hosts (name, machine, terms, host_keys, method, enrolled, seen, trust, krl, version, digest) VALUES (?,?,?,?,?,?,0,0,0,0,'')
		ON CONFLICT (name) DO UPDATE SET machine=excluded.machine, terms=excluded.terms, host_keys=excluded.host_keys, method=excluded.method,
			enrolled=excluded.enrolled, seen=0, trust=0, krl=0, digest=''`,
		h.Name, h.Machine, string(terms), string(keys), h.Method, Millis(h.Enrolled))
	return err
}

const hostSelect = `SELECT name, machine, terms, host_keys, method, enrolled, seen, trust, krl, version, digest FROM hosts`

func scanHost(scan func(...any) error) (EnrolledHost, error) {
	var h EnrolledHost
	var terms, keys string
	var enrolled, seen int64
	if err := scan(&h.Name, &h.Machine, &terms, &keys, &h.Method, &enrolled, &seen, &h.Trust, &h.KRL, &h.Version, &h.Digest); err != nil {
		return h, err
	}
	h.Enrolled, h.Seen = Time(enrolled), Time(seen)
	if err := json.Unmarshal([]byte(terms), &h.Terms); err != nil {
		return h, fmt.Errorf("state: terms of host %s: %w", h.Name, err)
	}
	if err := json.Unmarshal([]byte(keys), &h.HostKeys); err != nil {
		return h, fmt.Errorf("state: keys of host %s: %w", h.Name, err)
	}
	return h, nil
}

// HostByName returns an enrolled host, or ErrNotFound.
func HostByName(ctx context.Context, q Querier, name string) (EnrolledHost, error) {
	h, err := scanHost(q.QueryRowContext(ctx, hostSelect+` WHERE name=?`, name).Scan)
	return h, one(err)
}

// HostByMachine returns the host that a machine enrolled as, or ErrNotFound.
func HostByMachine(ctx context.Context, q Querier, id string) (EnrolledHost, error) {
	h, err := scanHost(q.QueryRowContext(ctx, hostSelect+` WHERE machine=?`, id).Scan)
	return h, one(err)
}

// EnrolledHosts returns all, by name.
func EnrolledHosts(ctx context.Context, q Querier) ([]EnrolledHost, error) {
	rows, err := q.QueryContext(ctx, hostSelect+` ORDER BY name`)
	return collect(rows, err, func(r *sql.Rows) (EnrolledHost, error) { return scanHost(r.Scan) })
}

// SawHost records that a host asked, and what it has in force.
func SawHost(ctx context.Context, q Querier, machine string, now time.Time, trust, krl int64) error {
	_, err := q.ExecContext(ctx, `UPDATE hosts SET seen=?, trust=?, krl=? WHERE machine=?`, Millis(now), trust, krl, machine)
	return err
}

// NumberBundle gives a host's bundle of a digest its version and returns it: that of before where nothing
// has changed, else a higher one that is no smaller than floor. With the time for a floor the version
// goes on after a database was restored, too.
func NumberBundle(ctx context.Context, q Querier, machine, digest string, floor int64) (version int64, err error) {
	err = q.QueryRowContext(ctx, `UPDATE hosts SET
		version=CASE WHEN digest=? THEN version WHEN version+1>CAST(? AS BIGINT) THEN version+1 ELSE CAST(? AS BIGINT) END, digest=?
		WHERE machine=? RETURNING version`, digest, floor, floor, digest, machine).Scan(&version)
	return version, one(err)
}

// RevokedOnHost returns the SSH sessions of a host that were begun after a time and that a revocation has
// ended since: that of the person, of the login, of a certificate that they stand on, or their own. Their
// certificates may not have expired.
func RevokedOnHost(ctx context.Context, q Querier, host string, after time.Time) ([]string, error) {
	rows, err := q.QueryContext(ctx, `SELECT s.id FROM ssh_sessions AS s WHERE s.host=? AND s.started>? AND (EXISTS (
		SELECT 1 FROM revocations AS r WHERE r.session_id=s.id OR (r.login_id<>'' AND r.login_id=s.login_id)
			OR (r.sub<>'' AND r.iss=s.iss AND r.sub=s.sub AND r.at>=s.started))
		OR EXISTS (SELECT 1 FROM ssh_certs AS c JOIN revoked_certs AS v
			ON (v.profile='access' AND v.serial=c.access) OR (v.profile='hop' AND v.serial=c.hop) OR (v.profile='host' AND v.serial=c.host)
			WHERE c.id=s.id)) ORDER BY s.id`, host, Millis(after))
	return collect(rows, err, func(r *sql.Rows) (id string, err error) { return id, r.Scan(&id) })
}

// UseInstance records that a cloud's instance has enrolled by its identity document; ErrExists where it has before.
func UseInstance(ctx context.Context, q Querier, instance string, now time.Time) error {
	return insert(ctx, q, `INSERT INTO enrolled_instances (instance, at) VALUES (?, ?)`, instance, Millis(now))
}
