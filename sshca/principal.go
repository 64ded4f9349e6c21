package sshca

import (
	"fmt"
	"strings"
)

const (
	maxPrincipal = 128
	maxLogin     = 32 // what useradd and utmp hold
	maxHostName  = 253
	maxLabel     = 63
)

// Prefixes of the IDs that appear in certificates.
const (
	prefixLogin = "ses_" // a login at the broker
	prefixSSH   = "ssh_" // an SSH session
)

// CheckPrincipal checks the grammar of every principal: 1 to 128 of [A-Za-z0-9._@+=-], the first a
// letter, digit or underscore. An empty list or name means "anybody" to some verifiers
// (CVE-2024-7594), a comma is two principals to others (CVE-2026-35414), a wildcard is more than one host.
func CheckPrincipal(p string) error {
	if p == "" || len(p) > maxPrincipal {
		return fmt.Errorf("%w: %d characters, 1 to %d allowed", ErrPrincipal, len(p), maxPrincipal)
	}
	if !alnum(p[0]) && p[0] != '_' {
		return fmt.Errorf("%w: %q must start with a letter, a digit or an underscore", ErrPrincipal, p)
	}
	for i := range len(p) {
		if !alnum(p[i]) && !strings.ContainsRune("._@+=-", rune(p[i])) {
			return fmt.Errorf("%w: %q holds %q", ErrPrincipal, p, p[i])
		}
	}
	return nil
}

// CheckLogin checks the name of an account on a host: [a-z_][a-z0-9_.-]{0,31}. Upper case is
// refused, since sshd compares principals by case and some hosts do not compare accounts so. Names
// that look like IDs of sega are refused, so that the principal of an access certificate is no account.
func CheckLogin(login string) error {
	if login == "" || len(login) > maxLogin {
		return fmt.Errorf("%w: login of %d characters, 1 to %d allowed", ErrPrincipal, len(login), maxLogin)
	}
	if !lower(login[0]) && login[0] != '_' {
		return fmt.Errorf("%w: login %q must start with a lower-case letter or an underscore", ErrPrincipal, login)
	}
	for i := range len(login) {
		if !lowerOrDigit(login[i]) && !strings.ContainsRune("_.-", rune(login[i])) {
			return fmt.Errorf("%w: login %q holds %q", ErrPrincipal, login, login[i])
		}
	}
	if strings.HasPrefix(login, prefixLogin) || strings.HasPrefix(login, prefixSSH) {
		return fmt.Errorf("%w: login %q looks like a session's ID", ErrPrincipal, login)
	}
	return nil
}

// CheckHostName checks the name of a host, which is also its host ID: lower-case labels of 1 to 63
// letters, digits, inner hyphens and underscores, joined by dots, 253 characters at most. There is
// no wildcard, no trailing dot and no port.
func CheckHostName(name string) error {
	if name == "" || len(name) > maxHostName {
		return fmt.Errorf("%w: host name of %d characters, 1 to %d allowed", ErrPrincipal, len(name), maxHostName)
	}
	for label := range strings.SplitSeq(name, ".") {
		if !hostLabel(label) {
			return fmt.Errorf("%w: host name %q is no lower-case DNS name", ErrPrincipal, name)
		}
	}
	return nil
}

func hostLabel(label string) bool {
	if label == "" || len(label) > maxLabel {
		return false
	}
	for i := range len(label) {
		if !lowerOrDigit(label[i]) && label[i] != '-' && label[i] != '_' {
			return false
		}
	}
	return lowerOrDigit(label[0]) && lowerOrDigit(label[len(label)-1])
}

// HopPrincipal returns the one principal of a hop certificate, LOGIN@HOST-ID. Each host lists it in
// its AuthorizedPrincipalsFile or Command, never the bare login.
func HopPrincipal(login, hostID string) (string, error) {
	if err := CheckLogin(login); err != nil {
		return "", err
	}
	if err := CheckHostName(hostID); err != nil {
		return "", err
	}
	p := login + "@" + hostID
	if err := CheckPrincipal(p); err != nil {
		return "", err
	}
	return p, nil
}

// checkHopPrincipal accepts what HopPrincipal returns. Neither half may hold an '@', so the cut is unique.
func checkHopPrincipal(p string) error {
	login, hostID, ok := strings.Cut(p, "@")
	if !ok {
		return fmt.Errorf("%w: %q is not LOGIN@HOST-ID", ErrPrincipal, p)
	}
	_, err := HopPrincipal(login, hostID)
	return err
}

func lower(c byte) bool        { return 'a' <= c && c <= 'z' }
func digit(c byte) bool        { return '0' <= c && c <= '9' }
func lowerOrDigit(c byte) bool { return lower(c) || digit(c) }
func alnum(c byte) bool        { return lowerOrDigit(c) || 'A' <= c && c <= 'Z' }
