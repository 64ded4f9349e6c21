package host

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

// Config is what New needs.
type Config struct {
	Listener net.Listener     // of a loopback address; the server closes it
	HostKey  ssh.Signer       // with a host certificate that names HostID, see ssh.NewCertSigner
	UserCAs  sshca.Bundle     // the hop CA alone
	Login    string           // the account that runs the server, the only one that opens
	Home     string           // of sessions; "" for the account's
	HostID   string           // certificates must have the one principal Login@HostID
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: none
}

func (c Config) check() error {
	if c.Listener == nil {
		return errors.New("dev host: no listener")
	}
	if a, ok := c.Listener.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return fmt.Errorf("dev host: %s is not a loopback address; this stand-in for sshd opens to nobody else", c.Listener.Addr())
	}
	if _, err := sshca.HopPrincipal(c.Login, c.HostID); err != nil {
		return fmt.Errorf("dev host: %w", err)
	}
	if len(c.UserCAs) == 0 {
		return errors.New("dev host: no user CA; nobody could log in")
	}
	for _, ca := range c.UserCAs {
		if err := sshca.CheckKey(ca); err != nil {
			return fmt.Errorf("dev host: user CA: %w", err)
		}
	}
	return c.checkHostKey()
}

// checkHostKey looks for what makes every bastion turn away. The signature on the certificate is for
// the bastion to judge.
func (c Config) checkHostKey() error {
	if c.HostKey == nil {
		return errors.New("dev host: no host key")
	}
	cert, ok := c.HostKey.PublicKey().(*ssh.Certificate)
	if !ok || cert.CertType != ssh.HostCert {
		return errors.New("dev host: the host key has no host certificate")
	}
	if !slices.Contains(cert.ValidPrincipals, c.HostID) {
		return fmt.Errorf("dev host: the host certificate does not name %q", c.HostID)
	}
	return nil
}
