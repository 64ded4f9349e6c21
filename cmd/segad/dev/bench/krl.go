//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/sqlite"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/broker/state"
	"sega/sshca"
	"sega/sshca/krl"
)

const (
	revokedSerials = 1_000_000
	krlLogins      = 40  // with each list, in turns
	maxKRLLogin    = 1.2 // times a login with an empty list
	emptyKRL       = "an empty list"
)

// krlConfig is that of a host that knows the hop CA and obeys a list.
const krlConfig = `ListenAddress 127.0.0.1
Port %s
HostKey %s/host
PidFile none
TrustedUserCAKeys %[2]s/ca.pub
RevokedKeys %[2]s/revoked
AuthorizedKeysFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
MaxStartups 500
SetEnv HOME=%[2]s
`

// revokedKeys measures what a million revoked certificates cost: to make the list, to keep it, and at each login of a stock sshd.
func (b *bench) revokedKeys() error {
	return b.measureKRL(revokedSerials, krlLogins)
}

// krlLab is a stock sshd that obeys a list, and what logs in there.
type krlLab struct {
	*sshLab
	ca     ssh.Signer
	config *ssh.ClientConfig
}

func (b *bench) measureKRL(serials, logins int) error {
	l := &krlLab{sshLab: &sshLab{dir: filepath.Join(b.dir, "krl")}}
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		return err
	}
	if err := l.makeKeys(); err != nil {
		return err
	}
	read, all, err := l.readSerials(b.ctx, serials)
	if err != nil {
		return err
	}
	from := time.Now()
	sequential, err := l.list(all)
	if err != nil {
		return err
	}
	if _, err := krl.Sign(sequential, l.ca); err != nil {
		return err
	}
	made := time.Since(from)
	empty, err := l.list(nil)
	if err != nil {
		return err
	}
	gaps := make([]krl.Range, 0, len(all))
	for i, r := range all { // every tenth lives on
		if i%10 != 0 {
			gaps = append(gaps, r)
		}
	}
	scattered, err := l.list(gaps)
	if err != nil {
		return err
	}
	took, err := l.compare(b.ctx, logins, [][]byte{empty, sequential, scattered})
	if err != nil {
		return err
	}
	without := millis(took[0])
	name := fmt.Sprintf("revoke.krl.serials-%d", serials)
	b.add(result(name+".size", float64(len(sequential)), "bytes"), result(name+".read", millis(read), "ms"), result(name+".make", millis(made), "ms"),
		result(name+".login", millis(took[1]), "ms").against(emptyKRL, without).atMost(maxKRLLogin*without),
		result(name+".gaps.size", float64(len(scattered)), "bytes"), result(name+".gaps.login", millis(took[2]), "ms").against(emptyKRL, without))
	return nil
}

// list writes what the broker would, of serials of the hop CA.
func (l *krlLab) list(serials []krl.Range) ([]byte, error) {
	return krl.List{Version: uint64(time.Now().UnixMilli()), Generated: time.Now(), Comment: "bench", CAs: []krl.Certificates{{CA: l.ca.PublicKey(), Serials: serials}}}.Marshal()
}

// readSerials puts serials that follow each other into a database and reads them as the broker does.
func (l *krlLab) readSerials(ctx context.Context, n int) (took time.Duration, out []krl.Range, err error) {
	key, err := audit.GenerateLogKey("bench/audit")
	if err != nil {
		return 0, nil, err
	}
	log, err := sqlite.Open(ctx, sqlite.Config{Path: l.file("sega.db"), Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}})
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	_, err = log.Append(ctx, nil, func(ctx context.Context, tx store.Tx) error {
		_, err := tx.ExecContext(ctx, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<?)
			INSERT INTO revoked_certs (profile, serial, named, valid_before, idx, reason) SELECT 'hop', CAST(4294967296+i AS TEXT), 1, ?, 1, '' FROM n`,
			n, state.Millis(time.Now().Add(time.Hour)))
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	var serials []uint64
	from := time.Now()
	err = log.Read(ctx, func(ctx context.Context, tx store.Querier) (err error) {
		serials, err = state.RevokedSerials(ctx, tx, "hop")
		return err
	})
	took = time.Since(from)
	for _, s := range serials {
		out = append(out, krl.Serial(s))
	}
	return took, out, err
}

// makeKeys makes CA, host key, and a certificate whose serial is on no list.
func (l *krlLab) makeKeys() error {
	u, err := user.Current()
	if err != nil {
		return err
	}
	_, host, err := l.newKey("host")
	if err != nil {
		return err
	}
	caKey, _, err := l.newKey("ca")
	if err != nil {
		return err
	}
	if l.ca, err = ssh.NewSignerFromKey(caKey); err != nil {
		return err
	}
	key, public, err := l.newKey("user")
	if err != nil {
		return err
	}
	cert := &ssh.Certificate{Key: public, Serial: 1 << 40, CertType: ssh.UserCert, KeyId: "bench", ValidPrincipals: []string{u.Username},
		ValidAfter: uint64(time.Now().Add(-time.Minute).Unix()), ValidBefore: uint64(time.Now().Add(time.Hour).Unix())}
	if err := cert.SignCert(rand.Reader, l.ca); err != nil {
		return err
	}
	signer, err := l.certified("user", key, cert)
	if err != nil {
		return err
	}
	l.config = &ssh.ClientConfig{Config: ssh.Config{Ciphers: []string{cipher}, KeyExchanges: []string{keyExchange}}, User: u.Username,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(host), Timeout: 30 * time.Second}
	return os.WriteFile(l.file("ca.pub"), []byte(sshca.MarshalLine(l.ca.PublicKey())+"\n"), 0o600)
}

// compare logs in with each list in turns and returns the median time of each. What else the machine does hits all of them.
func (l *krlLab) compare(ctx context.Context, logins int, lists [][]byte) (medians []time.Duration, err error) {
	revoked := l.file("revoked")
	if err := krl.Replace(revoked, lists[0]); err != nil {
		return nil, err
	}
	if err := l.startSSHD(ctx); err != nil {
		return nil, errors.Join(err, l.stop())
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	all := make([][]time.Duration, len(lists))
	for range logins {
		for i, list := range lists {
			if err := krl.Replace(revoked, list); err != nil {
				return nil, err
			}
			from := time.Now()
			c, err := ssh.Dial("tcp", l.jump.addr, l.config)
			if err != nil {
				return nil, fmt.Errorf("a login with list %d of %d bytes: %w", i, len(list), err)
			}
			all[i] = append(all[i], time.Since(from))
			if err := c.Close(); err != nil {
				return nil, err
			}
		}
	}
	for _, samples := range all {
		medians = append(medians, median(samples))
	}
	return medians, nil
}

// startSSHD starts the system's sshd, which stop ends.
func (l *krlLab) startSSHD(ctx context.Context) error {
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		return errors.New("the list is shown to OpenSSH's sshd: run scripts/deps")
	}
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll("/run/sshd", 0o755), os.WriteFile(l.file("sshd_config"), fmt.Appendf(nil, krlConfig, port, l.dir), 0o600)); err != nil {
		return err
	}
	l.jump, err = l.serve(ctx, addr, sshd, "-D", "-e", "-f", l.file("sshd_config"))
	return err
}
