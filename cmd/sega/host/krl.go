//go:build linux

package host

import (
	"context"
	"fmt"
	"os"

	"sega/sshca"
	"sega/sshca/krl"
)

// fetchKRL fetches the revocation list where it is newer than the one of a version, nil where it is not. A list that
// sshd would not read never reaches it: with one, it lets nobody in.
func fetchKRL(ctx context.Context, m *machine, have int64) ([]byte, int64, error) {
	data, err := m.client.KRL(ctx)
	if err != nil {
		return nil, have, err
	}
	list, err := krl.Parse(data)
	if err != nil {
		return nil, have, fmt.Errorf("the broker's revocation list: %w", err)
	}
	switch version := int64(list.Version); {
	case version < have:
		return nil, have, fmt.Errorf("%w: revocation list %d after %d", errOlder, version, have)
	case version == have:
		return nil, have, nil
	default:
		return data, version, nil
	}
}

// krlVersion is that of the list on the disk, 0 where none lies there.
func (c Config) krlVersion() int64 {
	data, err := os.ReadFile(c.file(krlName))
	if err != nil {
		return 0
	}
	list, err := krl.Parse(data)
	if err != nil {
		return 0
	}
	return int64(list.Version)
}

// revokes reports whether a revocation list names a certificate. What is no list names none: sshd refuses everybody with one, and
// the broker's next takes its place.
func revokes(list []byte, line string) bool {
	l, err := krl.Parse(list)
	if err != nil {
		return false
	}
	cert, err := sshca.ParseCertificate(line)
	return err == nil && l.Revokes(cert)
}

// looked is the last look at whether the list on the disk names the host's certificate: to read a long one takes a while.
type looked struct {
	version int64
	line    string
	revoked bool
}

// revoked reports whether the host's certificate is on the list in force: the host was revoked once, whoever ran then.
func (d *Daemon) revoked(v cached, line string) bool {
	if d.looked.version == v.krl && d.looked.line == line {
		return d.looked.revoked
	}
	list, err := os.ReadFile(d.cfg.file(krlName))
	if err != nil {
		return false
	}
	d.looked = looked{v.krl, line, revokes(list, line)}
	return d.looked.revoked
}
