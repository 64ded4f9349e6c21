//go:build linux

package host

import (
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
	Fault       string    `json:"fault,omitempty"`
}

// ReadStatus looks at the files of a host and asks its daemon.
func ReadStatus(dir string, now time.Time) (Status, error) {
	c, err := Load(dir)
	if err != nil {
		return Status{}, err
	}
	s := Status{Name: c.Name, Broker: c.Broker, Logins: []string{}}
	owner, err := ownerOf(c.file(configName))
	if err != nil {
		return s, err
	}
	_, err = ask(c.Socket, owner, request{Op: opStatus}, askTime)
	s.Daemon = err == nil
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
