//go:build linux

package dev

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/cmd/segad/dev/host"
	"sega/keychain/atomicfile"
	"sega/sshca"
)

// hostCertLife is how long the host's certificate lives; it is made anew at each start.
const hostCertLife = 30 * 24 * time.Hour

// sshdPaths are where systems keep sshd.
var sshdPaths = []string{"/usr/sbin/sshd", "/usr/local/sbin/sshd", "/opt/homebrew/sbin/sshd"}

// findSSHD returns the system's sshd, or "".
func findSSHD() string {
	for _, p := range sshdPaths {
		if _, err := exec.LookPath(p); err == nil {
			return p
		}
	}
	return ""
}

// makeHostKey makes the host's key and a fresh certificate of the host CA for it.
func (e *environment) makeHostKey() (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	serial, err := sshca.NewSerial(1, uint32(time.Now().Unix()))
	if err != nil {
		return nil, err
	}
	after, before := sshca.Host.Window(time.Now(), hostCertLife)
	cert, err := sshca.NewHost(sshca.HostParams{Key: signer.PublicKey(), Serial: serial, KeyID: "host " + hostName, Names: []string{hostName}, ValidAfter: after, ValidBefore: before})
	if err != nil {
		return nil, err
	}
	if err := sshca.Sign(cert, sshca.Host, e.hostCA); err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "dev host")
	if err != nil {
		return nil, err
	}
	err = errors.Join(atomicfile.Replace(e.file("host", "key"), pem.EncodeToMemory(block), 0o600), atomicfile.Replace(e.file("host", "key-cert.pub"), []byte(sshca.MarshalLine(cert)+"\n"), 0o600))
	if err != nil {
		return nil, err
	}
	return ssh.NewCertSigner(cert, signer)
}

// startHost runs the system's sshd, trusting the hop CA alone and one principal for one login (R5),
// or the stand-in where there is none.
func (e *environment) startHost(ctx context.Context) error {
	signer, err := e.makeHostKey()
	if err != nil {
		return err
	}
	sshd := findSSHD()
	if sshd == "" {
		e.log.Warn("no sshd is installed: a stand-in plays the host")
		return e.startStandIn(ctx, signer)
	}
	// sshd wants its privilege separation folder; Debian makes it when the service starts.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		e.log.Warn("sshd cannot run here: a stand-in plays the host", "error", err)
		return e.startStandIn(ctx, signer)
	}
	principal, err := sshca.HopPrincipal(e.login, hostName)
	if err != nil {
		return err
	}
	conf := fmt.Sprintf(`ListenAddress 127.0.0.1
Port %d
HostKey "%[2]s/host/key"
HostCertificate "%[2]s/host/key-cert.pub"
PidFile none
TrustedUserCAKeys "%[2]s/host/hop_ca.pub"
AuthorizedPrincipalsFile "%[2]s/host/principals"
AuthorizedKeysFile none
AllowUsers %[3]s
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
MaxStartups 500
MaxSessions 100
LogLevel VERBOSE
AcceptEnv LANG LC_*
SetEnv HOME="%[2]s/host/home"
Subsystem sftp internal-sftp
`, e.ports["host"], e.data, e.login)
	// A home of its own: what root's start-up files do here is nothing to people who try sega, and may take a minute.
	err = errors.Join(os.MkdirAll(e.file("host", "home"), 0o700), atomicfile.Replace(e.file("host", "principals"), []byte(principal+"\n"), 0o600), atomicfile.Replace(e.file("host", "sshd_config"), []byte(conf), 0o600))
	if err != nil {
		return err
	}
	e.start(ctx, &process{name: "host", argv: []string{sshd, "-D", "-e", "-f", e.file("host", "sshd_config")}, log: e.file("log", "host.log")})
	return nil
}

func (e *environment) startStandIn(ctx context.Context, signer ssh.Signer) error {
	l, err := net.Listen("tcp", e.address("host"))
	if err != nil {
		return err
	}
	server, err := host.New(host.Config{Listener: l, HostKey: signer, UserCAs: e.hopCAs, Login: e.login, Home: e.file("host", "home"), HostID: hostName, Now: time.Now, Log: e.log})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	e.group.Go(func() error { return server.Run(ctx) })
	return nil
}
