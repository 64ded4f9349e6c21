//go:build linux

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/cmd/segad/config"
	"sega/cmd/segad/dev/freeport"
	"sega/sshca"
	"sega/sshca/softkey"
)

// The routes to the one host: hosts of the lab's ssh_config.
const (
	viaBastion     = "sega"         // ssh LOGIN+HOST@BASTION
	viaBastionJump = "sega-jump"    // ssh -J BASTION HOST
	viaJump        = "openssh-jump" // ssh -J to a stock sshd
	viaBare        = "bare"         // a bare x/crypto/ssh proxy
	direct         = "direct"
)

// What everybody must agree on, so that all are compared at the same work.
const (
	cipher      = "aes128-gcm@openssh.com"
	keyExchange = "curve25519-sha256"
)

const (
	jumpPeer   = "ssh -J"
	directPeer = "ssh direct"
	barePeer   = "bare x/crypto/ssh proxy"
)

// sshLab is every way to the host of the environment, ours and the peers', with one key exchange and one cipher.
type sshLab struct {
	dir    string
	config string
	env    []string
	login  string
	host   string // host:port
	access ssh.Signer
	hop    ssh.Signer
	jumper ssh.Signer
	trust  ssh.HostKeyCallback
	jump   *server
	bare   *server
	known  []string // lines of known_hosts
}

// server is a peer's server.
type server struct {
	*exec.Cmd
	addr string
	done chan struct{}
}

// lab starts the peers on first use.
func (b *bench) lab() (*environment, *sshLab, error) {
	e, err := b.environment()
	if err != nil || b.ssh != nil {
		return e, b.ssh, err
	}
	l := &sshLab{dir: filepath.Join(b.dir, "ssh"), env: e.environ(b.dir), login: e.Host.Login}
	b.ssh = l
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		return e, l, err
	}
	for _, step := range []func(context.Context, *environment) error{l.readEnvironment, l.certifyHop, b.certifyAccess, l.startJump, l.startBare, l.writeConfig} {
		if err := step(b.ctx, e); err != nil {
			return e, l, err
		}
	}
	return e, l, nil
}

// readEnvironment finds where the host is and whom it and the bastion are certified by.
func (l *sshLab) readEnvironment(_ context.Context, e *environment) error {
	c, err := config.LoadBroker(filepath.Join(e.data, "broker.yaml"))
	if err != nil {
		return err
	}
	l.host = c.Hosts[0].Address
	var cas sshca.Bundle
	for _, name := range []string{"front", "host"} {
		ca, err := e.ca(name)
		if err != nil {
			return err
		}
		cas = append(cas, ca.PublicKey())
		l.known = append(l.known, "@cert-authority * "+sshca.MarshalLine(ca.PublicKey()))
	}
	checker := ssh.CertChecker{IsHostAuthority: func(key ssh.PublicKey, _ string) bool { return cas.Has(key) },
		HostKeyFallback: func(string, net.Addr, ssh.PublicKey) error { return errors.New("the host shows no certificate") }}
	l.trust = checker.CheckHostKey
	return nil
}

// ca opens one of the environment's CAs.
func (e *environment) ca(name string) (ssh.Signer, error) {
	pass, err := config.Secret(filepath.Join(e.data, "ca.passphrase"))
	if err != nil {
		return nil, err
	}
	return softkey.Open(filepath.Join(e.data, "ca", name), pass)
}

// certifyHop makes what opens the host itself, as the bastion has it: the peers reach the same
// sshd by the same kind of certificate.
func (l *sshLab) certifyHop(_ context.Context, e *environment) error {
	key, public, err := l.newKey("hop")
	if err != nil {
		return err
	}
	ca, err := e.ca("hop")
	if err != nil {
		return err
	}
	serial, err := sshca.NewSerial(1<<31, 1)
	if err != nil {
		return err
	}
	after, before := sshca.Hop.Window(time.Now(), time.Hour)
	cert, err := sshca.NewHop(sshca.HopParams{Key: public, Serial: serial, KeyID: sshca.KeyID{Session: api.NewID(api.IDSSH), Person: "bench"},
		Login: l.login, HostID: e.Host.Name, ValidAfter: after, ValidBefore: before, SourceAddresses: []string{"127.0.0.1/32"}, PTY: true})
	if err != nil {
		return err
	}
	if err := sshca.Sign(cert, sshca.Hop, ca); err != nil {
		return err
	}
	l.hop, err = l.certified("hop", key, cert)
	return err
}

// certifyAccess logs somebody in and gets what opens the bastion.
func (b *bench) certifyAccess(ctx context.Context, e *environment) error {
	people, err := b.newcomers(e, 1)
	if err != nil {
		return err
	}
	defer people[0].leave()
	b.ssh.access, err = b.ssh.certify(ctx, people[0], "access")
	return err
}

// certify makes a key and has the broker certify it for a person.
func (l *sshLab) certify(ctx context.Context, p *person, name string) (ssh.Signer, error) {
	key, public, err := l.newKey(name)
	if err != nil {
		return nil, err
	}
	answer, err := p.Certificate(ctx, api.CertificateRequest{PublicKey: sshca.MarshalLine(public)})
	if err != nil {
		return nil, err
	}
	cert, err := sshca.ParseCertificate(answer.Certificate)
	if err != nil {
		return nil, err
	}
	return l.certified(name, key, cert)
}

func (l *sshLab) file(name string) string { return filepath.Join(l.dir, name) }

// newKey makes a key and writes it in OpenSSH's form.
func (l *sshLab) newKey(name string) (ed25519.PrivateKey, ssh.PublicKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, name)
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, signer.PublicKey(), os.WriteFile(l.file(name), pem.EncodeToMemory(block), 0o600)
}

// certified writes a key's certificate beside it.
func (l *sshLab) certified(name string, key ed25519.PrivateKey, cert *ssh.Certificate) (ssh.Signer, error) {
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(l.file(name+"-cert.pub"), []byte(sshca.MarshalLine(cert)+"\n"), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewCertSigner(cert, signer)
}

// serve starts a peer's server and waits until it answers.
func (l *sshLab) serve(ctx context.Context, addr string, argv ...string) (*server, error) {
	log, err := os.Create(l.file(filepath.Base(argv[0]) + ".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	s := &server{Cmd: exec.Command(argv[0], argv[1:]...), addr: addr, done: make(chan struct{})}
	s.Stdout, s.Stderr = log, log
	if err := startTied(s.Cmd); err != nil {
		return nil, err
	}
	go func() { _ = s.Wait(); close(s.done) }() // ends with stop
	return s, await(ctx, upTime, argv[0]+" on "+addr, func() error {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%w\n%s", err, text)
		}
		return c.Close()
	})
}

func (l *sshLab) stop() error {
	var errs []error
	for _, s := range []*server{l.jump, l.bare} {
		if s == nil {
			continue
		}
		_ = s.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.done:
		case <-time.After(downTime):
			errs = append(errs, fmt.Errorf("%s does not stop", s.Path), s.Process.Kill())
		}
		_ = syscall.Kill(-s.Process.Pid, syscall.SIGKILL) // what it left of its group
	}
	return errors.Join(errs...)
}

func freeAddress() (string, error) {
	port, err := freeport.Pick()
	return freeport.Address(port), err
}

// startBare starts this program once more as the bare proxy.
func (l *sshLab) startBare(ctx context.Context, _ *environment) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	_, public, err := l.newKey("bare-host")
	if err != nil {
		return err
	}
	raw, err := json.Marshal(bareFile{Listen: addr, Host: l.host, Login: l.login})
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.file(bareConfig), raw, 0o600); err != nil {
		return err
	}
	l.known = append(l.known, viaBare+" "+sshca.MarshalLine(public))
	l.bare, err = l.serve(ctx, addr, self, "-bare-proxy", l.dir)
	return err
}
