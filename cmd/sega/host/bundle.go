//go:build linux

package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
)

// cached is what a host judges logins by, as it lies on its disk.
type cached struct {
	Bundle  api.HostBundle `json:"bundle"`
	Blocked bool           `json:"blocked,omitempty"` // the broker has said that the host was revoked

	contact time.Time // when the broker was heard last
	heard   bool      // it was, by this process: what the bundle asks for has been tried
	krl     int64     // version of the revocation list that lies on the disk; 0: none does
}

// maxBundle bounds a bundle on the disk; of the broker comes as much as the client takes.
const maxBundle = 16 << 20

// readBundle reads the last bundle. One that somebody else may have written is none.
func readBundle(path string) (cached, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return cached{}, errors.New("the host has no bundle yet")
	}
	if err != nil {
		return cached{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return cached{}, err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 || !info.Mode().IsRegular() || info.Size() > maxBundle {
		return cached{}, errors.New("the bundle is not root's alone to write")
	}
	d := json.NewDecoder(f)
	var c cached
	if err := d.Decode(&c); err != nil {
		return cached{}, fmt.Errorf("the bundle is broken: %w", err)
	}
	if err := checkBundle(c.Bundle); err != nil {
		return cached{}, fmt.Errorf("the bundle is broken: %w", err)
	}
	c.contact = info.ModTime()
	return c, nil
}

// checkBundle refuses what no broker sends.
func checkBundle(b api.HostBundle) error {
	if b.Version < 1 {
		return errors.New("it has no version")
	}
	if err := sshca.CheckHostName(b.HostID); err != nil {
		return err
	}
	if _, err := sshca.ParseBundle(b.HopCAs); err != nil || len(b.HopCAs) == 0 {
		return errors.Join(errors.New("it has no good list of hop CAs"), err)
	}
	if _, err := sshca.ParseBundle(b.HostCAs); err != nil {
		return err
	}
	for _, login := range b.AllLogins() {
		if _, err := sshca.HopPrincipal(login, b.HostID); err != nil {
			return err
		}
	}
	return nil
}

// errOlder is for a bundle that is older than the one in force: its broker, or what stands in for it, has
// forgotten something.
var errOlder = errors.New("the broker's bundle is older than the one in force")

// accept decides whether a bundle takes the place of another: it is for this host, whole, and not older.
func (c cached) accept(name string, b api.HostBundle) error {
	if err := checkBundle(b); err != nil {
		return fmt.Errorf("the broker's bundle: %w", err)
	}
	if b.Name != name {
		return fmt.Errorf("the broker's bundle is for host %q, and this is %q", b.Name, name)
	}
	if b.Version < c.Bundle.Version || b.Trust < c.Bundle.Trust || b.KRL < c.Bundle.KRL {
		return fmt.Errorf("%w: version %d after %d", errOlder, b.Version, c.Bundle.Version)
	}
	return nil
}

// Question is what sshd asks about a certificate that its CA list and its clock have let pass.
type Question struct {
	Login  string `json:"login"`  // %u
	Serial string `json:"serial"` // %s
	CA     string `json:"ca"`     // %F: SHA256: fingerprint
	KeyID  string `json:"key_id"` // %i
}

// judge returns the principal that opens a login, or why none does.
func (c cached) judge(q Question) (string, error) {
	b := c.Bundle
	if c.Blocked {
		return "", errors.New("the host was revoked")
	}
	if !slices.Contains(b.AllLogins(), q.Login) {
		return "", fmt.Errorf("%q is no account for people here", q.Login)
	}
	serial, err := sshca.ParseSerial(q.Serial)
	if err != nil {
		return "", err
	}
	id, err := sshca.ParseKeyID(q.KeyID)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(id.Session, api.IDSSH) {
		return "", errors.New("the certificate is of no SSH session")
	}
	if err := hopCA(b.HopCAs, q.CA); err != nil {
		return "", err
	}
	if slices.Contains(b.Revoked, id.Session) {
		return "", fmt.Errorf("session %s (serial %s) was revoked", id.Session, serial)
	}
	return sshca.HopPrincipal(q.Login, b.HostID)
}

func hopCA(lines []string, fingerprint string) error {
	cas, err := sshca.ParseBundle(lines)
	if err != nil {
		return err
	}
	for _, ca := range cas {
		if ssh.FingerprintSHA256(ca) == fingerprint {
			return nil
		}
	}
	return errors.New("the certificate's CA is no hop CA any more")
}

// age says how long ago the broker was heard, to the second.
func (c cached) age(now time.Time) time.Duration { return now.Sub(c.contact).Round(time.Second) }

// in describes a bundle in a line of the log.
func (c cached) in(now time.Time) string {
	return "bundle " + strconv.FormatInt(c.Bundle.Version, 10) + ", confirmed " + c.age(now).String() + " ago"
}
