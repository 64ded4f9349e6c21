//go:build linux

package attack

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/recording/bucket"
	"sega/broker"
	"sega/broker/api"
	"sega/broker/bastion"
	"sega/broker/client"
	"sega/cmd/segad/dev/devtest"
	"sega/cmd/segad/dev/freeport"
	"sega/keychain/secret"
	"sega/sshca"
)

// sshWorld is a world with a real bastion and two hosts that are the system's own sshd.
type sshWorld struct {
	*world
	addr    string // of the bastion
	account string // of the tests, on every host
	hosts   map[string]string
	own     *machine // the bastion, as the broker knows it
}

// identity says how a host is to prove itself, rightly or not.
type identity struct {
	ca   func(caKeys) ssh.Signer
	name string // in its certificate; "": its own
}

func newSSHWorld(t testing.TB, more map[string]identity) *sshWorld {
	t.Helper()
	return newSSHWorldOf(t, caKeys{Access: newSigner(t), Hop: newSigner(t), Front: newSigner(t), Host: newSigner(t)}, more)
}

// newSSHWorldOf is newSSHWorld with keys of the CAs that the caller has.
func newSSHWorldOf(t testing.TB, keys caKeys, more map[string]identity, changes ...change) *sshWorld {
	t.Helper()
	devtest.Need(t, "/usr/sbin/sshd")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &sshWorld{account: me.Username, hosts: map[string]string{}}
	l := listen(t)
	s.addr = l.Addr().String()
	right := identity{ca: func(c caKeys) ssh.Signer { return c.Host }}
	s.world = newWorldOf(t, keys, append(changes, func(w *world, c *broker.Config) {
		c.Bastions, c.Hosts = c.Bastions[:1], nil
		c.Bastions[0].Address = s.addr
		c.Times.RevokeWait = 5 * time.Second
		for name, id := range map[string]identity{"host-a": right, "host-b": right} {
			s.addHost(w, c, name, id)
		}
		for name, id := range more {
			s.addHost(w, c, name, id)
		}
	})...)
	s.startBastion(l)
	return s
}

func (s *sshWorld) addHost(w *world, c *broker.Config, name string, id identity) {
	s.hosts[name] = w.startSSHD(name, s.account, id)
	c.Hosts = append(c.Hosts, broker.Host{Name: name, ID: name, Address: s.hosts[name], Logins: []string{s.account}, Labels: map[string]string{"env": "dev"}})
}

// startSSHD runs a stock sshd that trusts the hop CA for LOGIN@name alone (R5).
func (w *world) startSSHD(name, login string, id identity) (addr string) {
	t := w.t
	t.Helper()
	_ = os.MkdirAll("/run/sshd", 0o755) // sshd's privilege separation, where the test may make it
	dir := t.TempDir()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certName := name
	if id.name != "" {
		certName = id.name
	}
	cert := &ssh.Certificate{Key: signer.PublicKey(), Serial: 1, CertType: ssh.HostCert, KeyId: name, ValidPrincipals: []string{certName},
		ValidAfter: uint64(time.Now().Add(-time.Minute).Unix()), ValidBefore: uint64(time.Now().Add(30 * time.Minute).Unix())}
	if err := cert.SignCert(rand.Reader, id.ca(w.cas)); err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	port := freeport.For(t)
	addr = freeport.Address(port)
	for file, text := range map[string]string{"key": string(pem.EncodeToMemory(block)), "key-cert.pub": sshca.MarshalLine(cert), "hop_ca.pub": sshca.MarshalLine(w.cas.Hop.PublicKey()),
		"principals": login + "@" + name, "config": fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %[2]s/key\nHostCertificate %[2]s/key-cert.pub\nTrustedUserCAKeys %[2]s/hop_ca.pub\n"+
			"AuthorizedPrincipalsFile %[2]s/principals\nAuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nUsePAM no\nStrictModes no\nPidFile none\nLogLevel VERBOSE\nSetEnv HOME=%[2]s\n", port, dir)} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.sshds = append(w.sshds, sshd{dir, runSSHD(t, filepath.Join(dir, "config"))})
	eventually(t, "sshd", func() bool {
		c, err := net.Dial("tcp", addr)
		return err == nil && c.Close() == nil
	})
	return addr
}

func runSSHD(t testing.TB, config string) *os.Process {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", config)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd:\n%s", log.String())
		}
	})
	return cmd.Process
}

// link is the broker as a bastion has it.
type link struct {
	*client.Client
	mu    sync.Mutex
	token secret.Secret
}

func (l *link) current() secret.Secret {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token
}

func (s *sshWorld) startBastion(listener net.Listener) {
	t := s.t
	t.Helper()
	m := s.machine(bastionName)
	s.own = m
	roots := x509.NewCertPool()
	roots.AddCert(s.web.Certificate())
	control := &link{token: m.Token}
	var err error
	if control.Client, err = client.New(client.Config{Origin: s.web.URL, RootCAs: roots, Key: m.key.Key, Token: control.current}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(control.Close)
	store, err := bucket.OpenDir(filepath.Join(s.dir, "recordings"))
	if err != nil {
		t.Fatal(err)
	}
	var recipients []age.Recipient
	for range 2 {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		recipients = append(recipients, id.Recipient())
	}
	b, err := bastion.New(bastion.Config{Name: bastionName, Listener: listener, Control: control, DataDir: filepath.Join(s.dir, "bastion"), Bucket: store,
		Recipients: recipients, RecipientNames: []string{"one", "two"}, RefuseWindow: time.Millisecond, Log: slog.New(slog.NewTextHandler(testLog{t}, nil)), Now: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, func(ctx context.Context) error { return errors.Join(b.Run(ctx), store.Close()) })
	eventually(t, "the bastion's certificate", func() bool {
		return s.count(`SELECT count(*) FROM certs WHERE profile='front'`) > 0
	})
}

// access is somebody's key with an access certificate.
type access struct {
	plain ssh.Signer
	cert  *ssh.Certificate
}

func (p *person) access() access {
	p.t.Helper()
	a := access{plain: newSigner(p.t)}
	c := into[api.Certificate](p.t, p.send(p.post(api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(a.plain.PublicKey())})))
	var err error
	if a.cert, err = sshca.ParseCertificate(c.Certificate); err != nil {
		p.t.Fatal(err)
	}
	return a
}

// shown shows any certificate at all; ssh.NewCertSigner would check it.
type shown struct {
	ssh.Signer
	cert ssh.PublicKey
}

func (s shown) PublicKey() ssh.PublicKey { return s.cert }

func (a access) signer() ssh.Signer { return shown{a.plain, a.cert} }

// forged is the certificate with a change, signed anew by ca; nil keeps the old signature.
func (a access) forged(ca ssh.Signer, change func(*ssh.Certificate)) ssh.Signer {
	cert := *a.cert
	change(&cert)
	if ca != nil {
		if err := cert.SignCert(rand.Reader, ca); err != nil {
			panic(err) // an Ed25519 key in memory
		}
	}
	return shown{a.plain, &cert}
}

// dial connects to the bastion, which must show a certificate of the front CA.
func (s *sshWorld) dial(user string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	front := sshca.Bundle{s.cas.Front.PublicKey()}
	return ssh.Dial("tcp", s.addr, &ssh.ClientConfig{User: user, Auth: auth, Timeout: patience, HostKeyCallback: frontOnly(front, bastionName)})
}

func frontOnly(front sshca.Bundle, name string) ssh.HostKeyCallback {
	return func(_ string, _ net.Addr, key ssh.PublicKey) error {
		cert, ok := key.(*ssh.Certificate)
		if !ok {
			return errors.New("no certificate")
		}
		return sshca.CheckHost(cert, front, name, time.Now())
	}
}

// run runs a command through a connection.
func run(c *ssh.Client, command string) (stdout, stderr string, err error) {
	session, err := c.NewSession()
	if err != nil {
		return "", "", err
	}
	defer func() { _ = session.Close() }()
	var out, errs bytes.Buffer
	session.Stdout, session.Stderr = &out, &errs
	err = session.Run(command)
	return out.String(), errs.String(), err
}

// await waits for an event since a size of the log, and returns it.
func (s *sshWorld) await(size int64, kind string, outcome audit.Outcome) logged {
	s.t.Helper()
	var found logged
	eventually(s.t, kind+" "+string(outcome), func() bool {
		for _, e := range s.since(size) {
			if e.Kind == kind && e.Outcome == outcome && e.Reason != heldBack {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// heldBack is the reason of what a bastion reports of a source once, behind whichever attempt was one too many.
const heldBack = "too many wrong attempts: this source waits its turn"

// nothingOpened checks that no hop was given and no session began since a size of the log.
func (s *sshWorld) nothingOpened(size int64) {
	s.t.Helper()
	for _, e := range s.since(size) {
		if e.Outcome == audit.Success && (e.Kind == "ssh.hop" || e.Kind == "session.start") {
			s.t.Errorf("event %s %s", e.Kind, e.Outcome)
		}
	}
}

func (s *sshWorld) at(t testing.TB) *sshWorld {
	c := *s
	c.world = s.world.at(t)
	return &c
}
