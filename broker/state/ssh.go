package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// States of an SSH session.
const (
	SSHOpening = "opening" // a hop certificate was issued
	SSHLive    = "live"    // the bastion reported its start
	SSHEnded   = "ended"
)

// SSHSession is a connection of a person to a host through a bastion.
type SSHSession struct {
	ID string
	Bearer
	Email, Host, Login, Source string
	Node                       string // name of the bastion
	Started, NotAfter          time.Time
	State                      string
	Reason, Ticket             string
	Labels                     map[string]string // of the host when it was opened; nil: not known, empty: none
	Hardware, Verified         bool              // of the key that opened it, as in Cert
}

// noLabels stands for labels that nobody knows, unsettled for those that a start of the broker will settle.
const (
	noLabels  = "null"
	unsettled = ""
)

const sshSelect = `SELECT ` + sshColumns + `, COALESCE((SELECT labels FROM ssh_labels WHERE ssh_labels.id=ssh_sessions.id), ''),
	COALESCE((SELECT 1+verified FROM ssh_keys WHERE ssh_keys.id=ssh_sessions.id), 0) FROM ssh_sessions`

const sshColumns = `id, login_id, iss, sub, email, host, login, source, node, started, not_after, epoch, rev, state, reason, ticket`

func scanSSH(scan func(...any) error) (SSHSession, error) {
	var s SSHSession
	var started, notAfter, key int64
	var labels string
	err := scan(&s.ID, &s.LoginID, &s.Issuer, &s.Subject, &s.Email, &s.Host, &s.Login, &s.Source, &s.Node, &started, &notAfter, &s.Epoch, &s.Rev, &s.State, &s.Reason, &s.Ticket, &labels, &key)
	s.Started, s.NotAfter, s.Hardware, s.Verified = Time(started), Time(notAfter), key > 0, key > 1
	if err == nil && labels != unsettled {
		if err = json.Unmarshal([]byte(labels), &s.Labels); err != nil {
			err = fmt.Errorf("state: labels of %s: %w", s.ID, err)
		}
	}
	return s, err
}

// AddSSH stores a session as opening.
func AddSSH(ctx context.Context, q Querier, s SSHSession) error {
	labels, err := json.Marshal(s.Labels)
	if err != nil {
		return err
	}
	err = insert(ctx, q, `INSERT INTO ssh_sessions (`+sshColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		s.ID, s.LoginID, s.Issuer, s.Subject, s.Email, s.Host, s.Login, s.Source, s.Node, Millis(s.Started), Millis(s.NotAfter), s.Epoch, s.Rev, SSHOpening, s.Reason, s.Ticket)
	if err != nil {
		return err
	}
	if err := insert(ctx, q, `INSERT INTO ssh_labels (id, labels) VALUES (?,?)`, s.ID, string(labels)); err != nil || !s.Hardware {
		return err
	}
	return insert(ctx, q, `INSERT INTO ssh_keys (id, verified) VALUES (?,?)`, s.ID, flag(s.Verified))
}

// SettleSSHLabels gives sessions of before version 3 the labels that their hosts have now, by the host's
// name. Those of other hosts are never known: a host that comes back under a name is not the one that was.
func SettleSSHLabels(ctx context.Context, q Querier, hosts map[string]map[string]string) error {
	for host, labels := range hosts {
		if labels == nil {
			labels = map[string]string{}
		}
		text, err := json.Marshal(labels)
		if err != nil {
			return err
		}
		if _, err := q.ExecContext(ctx, `UPDATE ssh_labels SET labels=? WHERE labels=? AND id IN (SELECT id FROM ssh_sessions WHERE host=?)`, string(text), unsettled, host); err != nil {
			return err
		}
	}
	_, err := q.ExecContext(ctx, `UPDATE ssh_labels SET labels=? WHERE labels=?`, noLabels, unsettled)
	return err
}

// UnsettledSSH reports whether there are sessions for SettleSSHLabels.
func UnsettledSSH(ctx context.Context, q Querier) (bool, error) {
	var n int64
	err := q.QueryRowContext(ctx, `SELECT count(*) FROM ssh_labels WHERE labels=?`, unsettled).Scan(&n)
	return n > 0, err
}

// SSHByID returns an SSH session, ended ones too.
func SSHByID(ctx context.Context, q Querier, id string) (SSHSession, error) {
	s, err := scanSSH(q.QueryRowContext(ctx, sshSelect+` WHERE id=?`, id).Scan)
	return s, one(err)
}

// LiveSSH returns SSH sessions that have neither ended nor reached their own end; with sub, those of a subject.
func LiveSSH(ctx context.Context, q Querier, iss, sub string, now time.Time) ([]SSHSession, error) {
	rows, err := q.QueryContext(ctx, sshSelect+`
		WHERE state='live' AND not_after>? AND (CAST(? AS TEXT)='' OR (iss=? AND sub=?)) ORDER BY started, id`, Millis(now), sub, iss, sub)
	return collect(rows, err, func(r *sql.Rows) (SSHSession, error) { return scanSSH(r.Scan) })
}

// SetSSHState moves a session on.
func SetSSHState(ctx context.Context, q Querier, id, state string) error {
	_, err := q.ExecContext(ctx, `UPDATE ssh_sessions SET state=? WHERE id=?`, state, id)
	return err
}

// UseReport records the ID of a bastion's report; ErrExists where it came before.
func UseReport(ctx context.Context, q Querier, id string, now time.Time) error {
	return insert(ctx, q, `INSERT INTO taken_reports (id, at) VALUES (?, ?)`, id, Millis(now))
}

// DropReports forgets the IDs of reports that were taken before a time. Those that an older version
// took, without a time, count as taken now.
func DropReports(ctx context.Context, q Querier, before, now time.Time) error {
	if _, err := q.ExecContext(ctx, `UPDATE taken_reports SET at=? WHERE at=0`, Millis(now)); err != nil {
		return err
	}
	_, err := q.ExecContext(ctx, `DELETE FROM taken_reports WHERE at<?`, Millis(before))
	return err
}
