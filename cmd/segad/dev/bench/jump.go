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
	"time"

	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

// jumpConfig is the environment's own sshd_config (package dev), but for what a jump host lets pass.
const jumpConfig = `ListenAddress 127.0.0.1
Port %s
HostKey %s/jump-host
PidFile none
TrustedUserCAKeys %[2]s/jump-ca.pub
AuthorizedKeysFile none
AllowUsers %[3]s
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
MaxStartups 500
LogLevel VERBOSE
SetEnv HOME=%[2]s
AllowTcpForwarding local
`

// startJump runs a stock sshd as the jump host, under a CA of its own.
func (l *sshLab) startJump(ctx context.Context, _ *environment) error {
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		return errors.New("the peers need OpenSSH's sshd: run scripts/deps")
	}
	if err := l.certifyJumper(); err != nil {
		return err
	}
	_, public, err := l.newKey("jump-host")
	if err != nil {
		return err
	}
	l.known = append(l.known, "openssh-door "+sshca.MarshalLine(public))
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.file("sshd_config"), fmt.Appendf(nil, jumpConfig, port, l.dir, l.login), 0o600); err != nil {
		return err
	}
	l.jump, err = l.serve(ctx, addr, sshd, "-D", "-e", "-f", l.file("sshd_config"))
	return err
}

// certifyJumper makes the CA and what opens the jump host.
func (l *sshLab) certifyJumper() error {
	caKey, _, err := l.newKey("jump-ca")
	if err != nil {
		return err
	}
	ca, err := ssh.NewSignerFromKey(caKey)
	if err != nil {
		return err
	}
	key, public, err := l.newKey("jumper")
	if err != nil {
		return err
	}
	cert := &ssh.Certificate{Key: public, CertType: ssh.UserCert, KeyId: "bench", ValidPrincipals: []string{l.login},
		ValidAfter: uint64(time.Now().Add(-time.Minute).Unix()), ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{"permit-port-forwarding": ""}}}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		return err
	}
	if l.jumper, err = l.certified("jumper", key, cert); err != nil {
		return err
	}
	return os.WriteFile(l.file("jump-ca.pub"), []byte(sshca.MarshalLine(ca.PublicKey())+"\n"), 0o600)
}
