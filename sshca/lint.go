package sshca

import (
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// Lint checks everything that a certificate says against its profile. Sign calls it; it looks at no
// signature and no clock.
func Lint(cert *ssh.Certificate, profile Profile) error {
	r, err := profile.rules()
	if err != nil {
		return err
	}
	if err := r.check(cert); err != nil {
		return err
	}
	return r.checkExtensions(cert)
}

// check covers all but the extensions: PROTOCOL.certkeys lets a verifier ignore those that it does
// not know, so a bastion must live with those of a newer broker.
func (r rules) check(cert *ssh.Certificate) error {
	if cert == nil {
		return fmt.Errorf("%w: none given", ErrMalformed)
	}
	if cert.CertType != r.certType {
		return fmt.Errorf("%w: %d, a certificate for %s has %d", ErrType, cert.CertType, r.name, r.certType)
	}
	if err := r.checkKey(cert.Key); err != nil {
		return err
	}
	if len(cert.Reserved) > 0 {
		return fmt.Errorf("%w: reserved field in use", ErrMalformed)
	}
	if err := Serial(cert.Serial).check(); err != nil {
		return err
	}
	if err := r.principals(cert); err != nil {
		return err
	}
	if err := r.checkLifetime(cert); err != nil {
		return err
	}
	return r.checkOptions(cert)
}

func (r rules) checkKey(key ssh.PublicKey) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if IsHardware(key) && !r.hardware {
		return fmt.Errorf("%w: %s in a certificate for %s", ErrKey, key.Type(), r.name)
	}
	return nil
}

func (r rules) checkLifetime(cert *ssh.Certificate) error {
	// Beyond int64 lie "forever" (2^64-1) and times before 1970; verifiers disagree about both.
	if cert.ValidBefore > math.MaxInt64 || cert.ValidAfter == 0 {
		return fmt.Errorf("%w: certificate without beginning or end", ErrLifetime)
	}
	if cert.ValidAfter >= cert.ValidBefore {
		return fmt.Errorf("%w: ends before it begins", ErrLifetime)
	}
	if seconds := cert.ValidBefore - cert.ValidAfter; seconds > uint64(r.longest/time.Second) {
		return fmt.Errorf("%w: %d s, a certificate for %s lives %s at most", ErrLifetime, seconds, r.name, r.longest)
	}
	return nil
}

func (r rules) checkOptions(cert *ssh.Certificate) error {
	for name, value := range cert.CriticalOptions {
		known := name == optSource && r.source != never || name == optVerify && r.hardware && value == ""
		if !known {
			return fmt.Errorf("%w: %q in a certificate for %s", ErrOption, clip(name), r.name)
		}
	}
	if _, ok := cert.CriticalOptions[optVerify]; ok && !IsHardware(cert.Key) {
		return fmt.Errorf("%w: %s of a key that can verify nobody", ErrOption, optVerify)
	}
	value, ok := cert.CriticalOptions[optSource]
	if !ok && r.source == always {
		return fmt.Errorf("%w: a certificate for %s needs %s", ErrOption, r.name, optSource)
	}
	if !ok {
		return nil
	}
	_, err := parseSources(value)
	return err
}

func (r rules) checkExtensions(cert *ssh.Certificate) error {
	for name, value := range cert.Extensions {
		if !slices.Contains(r.extensions, name) || value != "" {
			return fmt.Errorf("%w: %q in a certificate for %s", ErrExtension, clip(name), r.name)
		}
	}
	return nil
}

func lintAccess(cert *ssh.Certificate) error {
	id, principal, err := lintUser(cert, prefixLogin)
	if err != nil {
		return err
	}
	if principal != id.Session {
		return fmt.Errorf("%w: %q, an access certificate has its login's ID", ErrPrincipal, principal)
	}
	return nil
}

func lintHop(cert *ssh.Certificate) error {
	_, principal, err := lintUser(cert, prefixSSH)
	if err != nil {
		return err
	}
	return checkHopPrincipal(principal)
}

// lintUser checks key ID and the single principal of a user certificate and returns both.
func lintUser(cert *ssh.Certificate, prefix string) (KeyID, string, error) {
	id, err := ParseKeyID(cert.KeyId)
	if err != nil {
		return KeyID{}, "", err
	}
	if !isID(id.Session, prefix) {
		return KeyID{}, "", fmt.Errorf("%w: session %q where %s… must stand", ErrKeyID, id.Session, prefix)
	}
	if n := len(cert.ValidPrincipals); n != 1 {
		return KeyID{}, "", fmt.Errorf("%w: %d principals, exactly 1 allowed", ErrPrincipal, n)
	}
	return id, cert.ValidPrincipals[0], CheckPrincipal(cert.ValidPrincipals[0])
}

func lintHost(cert *ssh.Certificate) error {
	if err := checkHostKeyID(cert.KeyId); err != nil {
		return err
	}
	if n := len(cert.ValidPrincipals); n < 1 || n > maxHostNames {
		return fmt.Errorf("%w: %d names, 1 to %d allowed", ErrPrincipal, n, maxHostNames)
	}
	for i, name := range cert.ValidPrincipals {
		if err := CheckHostName(name); err != nil {
			return err
		}
		if slices.Contains(cert.ValidPrincipals[:i], name) {
			return fmt.Errorf("%w: %q twice", ErrPrincipal, name)
		}
	}
	return nil
}
