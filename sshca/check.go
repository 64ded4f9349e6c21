package sshca

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// CheckAccess checks an access certificate that somebody shows to a bastion: signed by a CA of the
// bundle, of the access profile, valid now, shown from where it may be. That its key has signed the
// connection is for the SSH handshake to prove. source matters only where the certificate has a
// source-address; then the zero address is refused.
//
// It is stricter than ssh.CertChecker, which takes empty principals for anybody's, any lifetime and
// any serial.
func CheckAccess(cert *ssh.Certificate, cas Bundle, now time.Time, source netip.Addr) error {
	if err := checkProfile(cert, Access, cas); err != nil {
		return err
	}
	if err := checkNow(cert, now); err != nil {
		return err
	}
	if _, ok := cert.Extensions[extNoTouch]; ok {
		return fmt.Errorf("%w: %q in a certificate for access", ErrExtension, extNoTouch)
	}
	value, ok := cert.CriticalOptions[optSource]
	if !ok {
		return nil
	}
	return checkSource(value, source)
}

// CheckHost checks a certificate that a host shows to a bastion which dials name: signed by a CA of
// the bundle, of the host profile, valid now, and naming exactly name.
func CheckHost(cert *ssh.Certificate, cas Bundle, name string, now time.Time) error {
	if err := CheckHostName(name); err != nil {
		return err
	}
	if err := checkProfile(cert, Host, cas); err != nil {
		return err
	}
	if !slices.Contains(cert.ValidPrincipals, name) {
		return fmt.Errorf("%w: the host's certificate does not name %q", ErrPrincipal, name)
	}
	return checkNow(cert, now)
}

// CheckFront checks a certificate that a bastion shows, its own or a mask's, whatever its name: signed
// by a CA of the bundle, of the front profile, valid now.
func CheckFront(cert *ssh.Certificate, cas Bundle, now time.Time) error {
	if err := checkProfile(cert, Front, cas); err != nil {
		return err
	}
	return checkNow(cert, now)
}

// checkProfile believes nothing that a certificate says before its signature has verified.
func checkProfile(cert *ssh.Certificate, profile Profile, cas Bundle) error {
	if err := checkSignature(cert, cas); err != nil {
		return err
	}
	r, err := profile.rules()
	if err != nil {
		return err
	}
	return r.check(cert)
}

func checkSignature(cert *ssh.Certificate, cas Bundle) error {
	if cert == nil || cert.SignatureKey == nil || cert.Signature == nil {
		return fmt.Errorf("%w: not signed", ErrMalformed)
	}
	if err := CheckKey(cert.Key); err != nil {
		return err
	}
	if _, ok := cert.SignatureKey.(*ssh.Certificate); ok {
		return ErrNestedCA
	}
	if !cas.Has(cert.SignatureKey) {
		return fmt.Errorf("%w: %s", ErrUnknownCA, ssh.FingerprintSHA256(cert.SignatureKey))
	}
	if got, want := cert.Signature.Format, signatureAlgorithm(cert.SignatureKey); got != want {
		return fmt.Errorf("%w: %q, not %q", ErrAlgorithm, clip(got), want)
	}
	if err := cert.SignatureKey.Verify(signedBytes(cert), cert.Signature); err != nil {
		return ErrSignature
	}
	return nil
}

// signedBytes returns the blob up to the signature, the last field of PROTOCOL.certkeys: without a
// signature the blob ends in that field's length of 4 bytes.
func signedBytes(cert *ssh.Certificate) []byte {
	unsigned := *cert
	unsigned.Signature = nil
	blob := unsigned.Marshal()
	return blob[:len(blob)-4]
}

// checkNow uses whole seconds and a half-open interval, as sshd does. checkLifetime has bounded both ends.
func checkNow(cert *ssh.Certificate, now time.Time) error {
	t := now.Unix()
	if t < int64(cert.ValidAfter) {
		return fmt.Errorf("%w: valid from %s", ErrNotYetValid, utc(cert.ValidAfter))
	}
	if t >= int64(cert.ValidBefore) {
		return fmt.Errorf("%w: valid until %s", ErrExpired, utc(cert.ValidBefore))
	}
	return nil
}

func utc(seconds uint64) string { return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339) }
