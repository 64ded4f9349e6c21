//go:build linux

package host

import (
	"context"
	"fmt"
	"os"
	"time"

	"sega/sshca"
)

// Status is how a host stands.
type Status struct {
	Name        string    `json:"name"`
	Broker      string    `json:"broker"`
	Daemon      bool      `json:"daemon"`
	Version     int64     `json:"version"` // of the bundle in force; 0: none
	Trust       int64     `json:"trust"`
	KRL         int64     `json:"krl"`
	Confirmed   time.Time `json:"confirmed"` // by the broker, last
	Age         string    `json:"age"`
	Blocked     bool      `json:"blocked"`
	Logins      []string  `json:"logins"`
	Certificate time.Time `json:"certificate_until,omitzero"`
	Lost        time.Time `json:"broker_lost_since,omitzero"` // by the daemon, which asks it again and again
	LostWhy     string    `json:"broker_fault,omitempty"`     // of the daemon's last try, for root
	PlainKeys   bool      `json:"plain_keys,omitempty"`
	Fault       string    `json:"fault,omitempty"`
	Renewal     string    `json:"renewal_fault,omitempty"` // why the daemon's last try to renew the certificate came to nothing, for root
	SSHD        *SSHD     `json:"sshd,omitempty"`          // for root alone
}

// SSHD is how the host's sshd stands.
type SSHD struct {
	Process int    `json:"process"`         // 0: none that runs was found
	Fault   string `json:"fault,omitempty"` // what keeps it from judging by sega's files
}

// ReadStatus looks at the files of a host and asks its daemon.
func ReadStatus(ctx context.Context, dir string, now time.Time) (Status, error) {
	c, err := Load(dir)
	if err != nil {
		return Status{}, err
	}
	s := Status{Name: c.Name, Broker: c.Broker, PlainKeys: c.PlainKeys, Logins: []string{}}
	owner, err := ownerOf(c.file(configName))
	if err != nil {
		return s, err
	}
	answer, err := ask(c.Socket, owner, request{Op: opStatus}, askTime)
	s.Daemon, s.Renewal = err == nil, answer.Why
	s.Lost, s.LostWhy = answer.Lost, answer.LostWhy
	if os.Geteuid() == 0 {
		s.SSHD = c.lookAtSSHD(ctx)
	}
	v, err := readBundle(c.file(bundleName))
	if err != nil {
		s.Fault = err.Error() + ": every login is refused"
		return s, nil
	}
	s.Version, s.Trust, s.KRL, s.Blocked, s.Logins = v.Bundle.Version, v.Bundle.Trust, c.krlVersion(), v.Blocked, v.Bundle.AllLogins()
	s.Confirmed, s.Age = v.contact.UTC(), v.age(now).String()
	if line, err := os.ReadFile(c.Certificate); err == nil {
		if cert, err := sshca.ParseCertificate(string(line)); err == nil {
			s.Certificate = time.Unix(int64(cert.ValidBefore), 0).UTC()
		}
	}
	return s, nil
}

// lookAtSSHD has sshd check its configuration, and finds the one that runs by it.
func (c Config) lookAtSSHD(ctx context.Context) *SSHD {
	e, err := c.tested(ctx, true)
	if e == nil {
		return &SSHD{Fault: err.Error()}
	}
	_, is, findErr := findSSHD(e)
	s := &SSHD{Process: is.pid}
	switch {
	case err != nil:
		s.Fault = err.Error()
	case findErr != nil:
		s.Fault = findErr.Error()
	default:
		s.Fault = c.unread(is)
	}
	return s
}

// unread names a file of ours that sshd reads when it starts, and that is newer than what runs.
func (c Config) unread(is process) string {
	for _, path := range []string{c.Snippet, c.Certificate} {
		if info, err := os.Stat(path); err == nil && !is.since.IsZero() && is.since.Before(info.ModTime()) {
			return fmt.Sprintf("it has not read %s, which has changed since: run systemctl reload ssh", path)
		}
	}
	return ""
}
