package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/sshca"
)

const (
	optSource = "source-address"
	extPTY    = "permit-pty"
)

// Why somebody does not get in. For the server's log; the client learns nothing but "no".
var (
	errAccount   = errors.New("no such account here")
	errPlainKey  = errors.New("plain keys are not accepted")
	errCA        = errors.New("certificate of an unknown authority")
	errAlgorithm = errors.New("certificate signed with an algorithm that is not allowed")
	errPrincipal = errors.New("certificate is not for this account on this host")
	errSource    = errors.New("certificate is not for this source address")
)

// gate decides who gets in. It keeps nothing between calls.
type gate struct {
	cas       sshca.Bundle
	login     string
	principal string // LOGIN@HOST-ID
	now       func() time.Time
}

// check returns key as a hop certificate that opens the account user from source. That the key has
// signed the connection is for the SSH handshake to prove.
//
// ssh.CertChecker alone would not do: it takes empty principals for anybody's, asks nobody about the
// authority in CheckCert, takes SHA-1 signatures of an RSA authority, and leaves source-address and
// the certificate's type to its caller.
func (g gate) check(user string, key ssh.PublicKey, source netip.Addr) (*ssh.Certificate, error) {
	if user != g.login {
		return nil, errAccount
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, errPlainKey
	}
	if err := g.checkSigned(cert); err != nil {
		return nil, err
	}
	if err := sshca.Lint(cert, sshca.Hop); err != nil {
		return nil, err
	}
	if !slices.Equal(cert.ValidPrincipals, []string{g.principal}) {
		return nil, fmt.Errorf("%w: %q", errPrincipal, cert.ValidPrincipals)
	}
	if !allows(cert.CriticalOptions[optSource], source) {
		return nil, fmt.Errorf("%w: %s", errSource, source)
	}
	return cert, nil
}

// checkSigned covers authority, signature, validity and critical options.
func (g gate) checkSigned(cert *ssh.Certificate) error {
	if cert.SignatureKey == nil || cert.Signature == nil || !g.cas.Has(cert.SignatureKey) {
		return errCA
	}
	if !slices.Contains(caAlgorithms(cert.SignatureKey), cert.Signature.Format) {
		return errAlgorithm
	}
	if cert.CertType != ssh.UserCert {
		return fmt.Errorf("certificate of type %d where a user's must stand", cert.CertType)
	}
	checker := ssh.CertChecker{Clock: g.now, SupportedCriticalOptions: []string{optSource}}
	return checker.CheckCert(g.principal, cert)
}

// caAlgorithms is sshd's CASignatureAlgorithms: for RSA without "ssh-rsa", which is SHA-1.
func caAlgorithms(ca ssh.PublicKey) []string {
	if ca.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{ca.Type()}
}

// allows reports whether source is among the addresses and CIDRs of a source-address that Lint has
// accepted. What cannot be read allows nothing.
func allows(list string, source netip.Addr) bool {
	source = source.Unmap().WithZone("")
	for part := range strings.SplitSeq(list, ",") {
		if a, err := netip.ParseAddr(part); err == nil && a == source {
			return true
		}
		if p, err := netip.ParsePrefix(part); err == nil && p.Contains(source) {
			return true
		}
	}
	return false
}
