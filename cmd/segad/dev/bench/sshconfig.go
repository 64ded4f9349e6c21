//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"sega/cmd/segad/config"
)

// writeConfig writes the ssh_config of all routes.
func (l *sshLab) writeConfig(_ context.Context, e *environment) error {
	l.config = l.file("config")
	if err := os.WriteFile(l.file("known_hosts"), []byte(strings.Join(l.known, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	c, err := config.LoadBroker(filepath.Join(e.data, "broker.yaml"))
	if err != nil {
		return err
	}
	bastion, name := c.Bastions[0].Address, c.Bastions[0].Name
	var text strings.Builder
	for _, h := range []struct{ route, addr, user, alias, identity, jump string }{
		{viaBastion, bastion, l.login + "+" + e.Host.Name, name, "access", ""},
		{"sega-door", bastion, "sega", name, "access", ""},
		{viaBastionJump, e.Host.Name + ":22", l.login, e.Host.Name, "access", "sega-door"},
		{"openssh-door", l.jump.addr, l.login, "openssh-door", "jumper", ""},
		{viaJump, l.host, l.login, e.Host.Name, "hop", "openssh-door"},
		{viaBare, l.bare.addr, l.login, viaBare, "hop", ""},
		{direct, l.host, l.login, e.Host.Name, "hop", ""},
	} {
		host, port, err := net.SplitHostPort(h.addr)
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "Host %s\n HostName %s\n Port %s\n User %s\n HostKeyAlias %s\n IdentityFile %s\n CertificateFile %[6]s-cert.pub\n", h.route, host, port, h.user, h.alias, l.file(h.identity))
		if h.jump != "" {
			fmt.Fprintf(&text, " ProxyJump %s\n", h.jump)
		}
	}
	fmt.Fprintf(&text, "Host *\n Ciphers %s\n KexAlgorithms %s\n UserKnownHostsFile %s\n", cipher, keyExchange, l.file("known_hosts"))
	text.WriteString(` GlobalKnownHostsFile /dev/null
 StrictHostKeyChecking yes
 UpdateHostKeys no
 IdentitiesOnly yes
 IdentityAgent none
 PreferredAuthentications publickey
 BatchMode yes
 ControlPath none
 LogLevel ERROR
 IgnoreUnknown ObscureKeystrokeTiming
 ObscureKeystrokeTiming no
`)
	return os.WriteFile(l.config, []byte(text.String()), 0o600)
}

// command is a stock ssh on one of the routes.
func (l *sshLab) command(route string, args ...string) program {
	return program{argv: append([]string{"ssh", "-F", l.config, route}, args...), env: l.env}
}
