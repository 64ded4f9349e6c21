package state

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// HostBlock says that nothing is granted for a host until somebody lifts it.
type HostBlock struct {
	Host    string    `json:"host"`
	Index   int64     `json:"idx"`         // of the event
	Issuer  string    `json:"blocked_iss"` // who did it
	Subject string    `json:"blocked_sub"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

const hostBlockSelect = `SELECT host, idx, blocked_iss, blocked_sub, reason, at FROM blocked_hosts`

func scanHostBlock(scan func(...any) error) (b HostBlock, err error) {
	var at int64
	err = scan(&b.Host, &b.Index, &b.Issuer, &b.Subject, &b.Reason, &at)
	b.At = Time(at)
	return b, err
}

// BlockHost blocks a host; a block that is there already becomes this one.
func BlockHost(ctx context.Context, q Querier, b HostBlock) error {
	_, err := q.ExecContext(ctx, `INSERT INTO blocked_hosts (host, idx, blocked_iss, blocked_sub, reason, at) VALUES (?,?,?,?,?,?)
		ON CONFLICT (host) DO UPDATE SET idx=excluded.idx, blocked_iss=excluded.blocked_iss, blocked_sub=excluded.blocked_sub, reason=excluded.reason, at=excluded.at`,
		b.Host, b.Index, b.Issuer, b.Subject, b.Reason, Millis(b.At))
	return err
}

// HostBlockOf returns the block of a host, or ErrNotFound.
func HostBlockOf(ctx context.Context, q Querier, host string) (HostBlock, error) {
	b, err := scanHostBlock(q.QueryRowContext(ctx, hostBlockSelect+` WHERE host=?`, host).Scan)
	return b, one(err)
}

// HostBlocks returns the blocks of all hosts, by host.
func HostBlocks(ctx context.Context, q Querier) (map[string]HostBlock, error) {
	rows, err := q.QueryContext(ctx, hostBlockSelect)
	all, err := collect(rows, err, func(r *sql.Rows) (HostBlock, error) { return scanHostBlock(r.Scan) })
	out := map[string]HostBlock{}
	for _, b := range all {
		out[b.Host] = b
	}
	return out, err
}

// UnblockHost lifts the block of an index, and none that came since: then it answers ErrNotFound.
func UnblockHost(ctx context.Context, q Querier, host string, index int64) error {
	res, err := q.ExecContext(ctx, `DELETE FROM blocked_hosts WHERE host=? AND idx=?`, host, index)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, ErrNotFound)
	}
	return nil
}

// SSHCerts are the serials of the certificates that an SSH session stands on; 0 where one is not known.
type SSHCerts struct{ Access, Hop, Host uint64 }

// AddSSHCerts records with which certificates a session is opened.
func AddSSHCerts(ctx context.Context, q Querier, id string, c SSHCerts) error {
	return insert(ctx, q, `INSERT INTO ssh_certs (id, access, hop, host) VALUES (?,?,?,?)`, id, serialText(c.Access), serialText(c.Hop), serialText(c.Host))
}

// SetSSHHost records which certificate the host has shown.
func SetSSHHost(ctx context.Context, q Querier, id string, serial uint64) error {
	_, err := q.ExecContext(ctx, `UPDATE ssh_certs SET host=? WHERE id=?`, serialText(serial), id)
	return err
}

// sshCertColumns are the columns of ssh_certs, by profile.
var sshCertColumns = map[string]string{"access": "access", "hop": "hop", "host": "host"}

// SSHByCert returns the SSH sessions that stand on a certificate and have not ended.
func SSHByCert(ctx context.Context, q Querier, profile string, serial uint64) ([]SSHSession, error) {
	column, ok := sshCertColumns[profile]
	if !ok {
		return nil, nil
	}
	rows, err := q.QueryContext(ctx, sshSelect+` WHERE state IN ('opening', 'live') AND id IN (SELECT id FROM ssh_certs WHERE `+column+`=?) ORDER BY started, id`, serialText(serial))
	return collect(rows, err, func(r *sql.Rows) (SSHSession, error) { return scanSSH(r.Scan) })
}

// SSHByHost returns the SSH sessions to a host that have not ended.
func SSHByHost(ctx context.Context, q Querier, host string) ([]SSHSession, error) {
	rows, err := q.QueryContext(ctx, sshSelect+` WHERE state IN ('opening', 'live') AND host=? ORDER BY started, id`, host)
	return collect(rows, err, func(r *sql.Rows) (SSHSession, error) { return scanSSH(r.Scan) })
}
