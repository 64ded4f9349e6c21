//go:build linux

package host

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
)

// fetchBundle asks for the bundle, and waits for news where this process has had one. Of a bundle that an enrolment wrote, or
// the process before, nobody knows whether the accounts are made: the first is asked for at once.
func fetchBundle(ctx context.Context, m *machine, c Config, have cached) (cached, error) {
	version := have.Bundle.Version
	if have.Blocked || !have.heard { // that it may be in force again is news
		version = 0
	}
	b, err := with(ctx, m, func(ctx context.Context) (api.HostBundle, error) {
		return m.client.HostBundle(ctx, version, have.Bundle.Trust, have.krl)
	})
	if err != nil {
		return cached{}, err
	}
	if err := have.accept(c.Name, b); err != nil {
		return cached{}, err
	}
	b.Accounts = c.Accounts.allowed(b.Accounts)
	return have.next(b), nil
}

// next is what comes into force with a bundle that was just heard.
func (c cached) next(b api.HostBundle) cached {
	return cached{Bundle: b, contact: time.Now(), heard: true, krl: c.krl}
}

// mayRenew reports whether the broker gives the host a certificate now.
func (c cached) mayRenew() bool { return !c.Blocked && c.Bundle.Version != 0 }

// allowed returns the accounts that this host, too, makes for people.
func (a *Accounts) allowed(all []api.HostAccount) []api.HostAccount {
	out := []api.HostAccount{}
	if a == nil {
		return out
	}
	for _, v := range all {
		if slices.ContainsFunc(v.Groups, func(g string) bool { return slices.Contains(a.Groups, g) }) {
			out = append(out, v)
		}
	}
	return out
}

// filesOf are the files that a bundle makes: those that sshd reads at each login come by rename, and need no
// reload. The bundle is the last of them: by it one sees that all are there.
func (c Config) filesOf(v cached) (changes, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var all changes
	if !c.PlainKeys {
		all = append(all, change{c.file(hopCAsName), []byte(strings.Join(v.Bundle.HopCAs, "\n") + "\n"), 0o644})
	}
	if c.By == ByFile && !c.PlainKeys {
		files, err := c.principals(v)
		if err != nil {
			return nil, err
		}
		all = append(all, files...)
	}
	return append(all, change{c.file(bundleName), data, 0o644}), nil
}

// principals are the files of AuthorizedPrincipalsFile: one for each account, and none for those that were. A host
// that was revoked has none.
func (c Config) principals(v cached) (changes, error) {
	var all changes
	var logins []string
	if !v.Blocked {
		logins = v.Bundle.AllLogins()
	}
	for _, login := range logins {
		principal, err := sshca.HopPrincipal(login, v.Bundle.HostID)
		if err != nil {
			return nil, err
		}
		all = append(all, change{filepath.Join(c.file(principalsName), login), []byte(principal + "\n"), 0o644})
	}
	entries, err := os.ReadDir(c.file(principalsName))
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, entry := range entries {
		if !slices.Contains(logins, entry.Name()) {
			all = append(all, change{path: filepath.Join(c.file(principalsName), entry.Name())})
		}
	}
	return all, nil
}

// renewAt is the part of a certificate's life after which it is renewed, and jitter that by which hosts differ:
// those that enrolled together do not come back together.
const (
	renewAt = 0.60
	jitter  = 0.10
)

// due reports whether the host's certificate is to be renewed: none, of another key or name, of a CA that is
// no more, or old. share is this host's own place within the jitter, 0 to 1.
func due(line string, key ssh.PublicKey, b api.HostBundle, now time.Time, share float64) bool {
	cert, err := sshca.ParseCertificate(line)
	if err != nil {
		return true
	}
	cas, err := sshca.ParseBundle(b.HostCAs)
	if err != nil || sshca.CheckHost(cert, cas, b.HostID, now) != nil || !slices.Equal(cert.Key.Marshal(), key.Marshal()) {
		return true
	}
	from, to := time.Unix(int64(cert.ValidAfter), 0), time.Unix(int64(cert.ValidBefore), 0)
	return now.Sub(from) >= time.Duration(float64(to.Sub(from))*(renewAt+jitter*share))
}

// share is drawn once for a daemon's life.
func newShare() float64 { return rand.Float64() }

// renewed asks for a certificate where one is due or a revocation list names the one that is there, and returns the file that it goes
// into.
func (c Config) renewed(ctx context.Context, m *machine, v cached, list []byte) (*change, error) {
	key, err := readPublicKey(c.HostKey)
	if err != nil {
		return nil, err
	}
	have, err := os.ReadFile(c.Certificate)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	if !due(string(have), key, v.Bundle, time.Now(), 0) && !revokes(list, string(have)) {
		return nil, nil
	}
	return c.certificate(ctx, m, key, v.Bundle)
}

// certificate asks for a certificate and checks that it is one for this host.
func (c Config) certificate(ctx context.Context, m *machine, key ssh.PublicKey, b api.HostBundle) (*change, error) {
	got, err := with(ctx, m, func(ctx context.Context) (api.Certificate, error) {
		return m.client.HostCertificate(ctx, api.HostCertificateRequest{PublicKey: sshca.MarshalLine(key)})
	})
	if err != nil {
		return nil, err
	}
	cert, err := sshca.ParseCertificate(got.Certificate)
	if err != nil {
		return nil, err
	}
	cas, err := sshca.ParseBundle(b.HostCAs)
	if err == nil {
		err = sshca.CheckHost(cert, cas, b.HostID, time.Now())
	}
	if err != nil {
		return nil, err
	}
	return &change{c.Certificate, []byte(sshca.MarshalLine(cert) + "\n"), 0o644}, nil
}
