package sshca

import (
	"fmt"
	"strings"
)

const (
	minIDChars   = 16 // after the prefix; the broker makes 20, 100 bits
	maxIDChars   = 40
	minPerson    = 2
	maxPerson    = 64
	maxHostKeyID = 128
)

// KeyID is the key ID of a user certificate. sshd logs it at each login, which joins the host's own
// log to the session and to the person.
type KeyID struct {
	Session string // ses_… in an access certificate, ssh_… in a hop certificate
	Person  string // as in AWS SourceIdentity: [A-Za-z0-9_+=,.@-]{2,64}
}

// String returns "SESSION PERSON".
func (k KeyID) String() string { return k.Session + " " + k.Person }

// ParseKeyID parses what String returns, and nothing else.
func ParseKeyID(s string) (KeyID, error) {
	session, person, ok := strings.Cut(s, " ")
	if !ok {
		return KeyID{}, fmt.Errorf("%w: want session, blank, person", ErrKeyID)
	}
	k := KeyID{Session: session, Person: person}
	if err := k.check(); err != nil {
		return KeyID{}, err
	}
	return k, nil
}

func (k KeyID) check() error {
	if !isID(k.Session, prefixLogin) && !isID(k.Session, prefixSSH) {
		return fmt.Errorf("%w: %q is no session's ID", ErrKeyID, clip(k.Session))
	}
	if len(k.Person) < minPerson || len(k.Person) > maxPerson {
		return fmt.Errorf("%w: person of %d characters, %d to %d allowed", ErrKeyID, len(k.Person), minPerson, maxPerson)
	}
	for i := range len(k.Person) {
		if !alnum(k.Person[i]) && !strings.ContainsRune("_+=,.@-", rune(k.Person[i])) {
			return fmt.Errorf("%w: person %q holds %q", ErrKeyID, k.Person, k.Person[i])
		}
	}
	return nil
}

// isID reports whether s is prefix and 16 to 40 lower-case letters and digits.
func isID(s, prefix string) bool {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok || len(rest) < minIDChars || len(rest) > maxIDChars {
		return false
	}
	for i := range len(rest) {
		if !lowerOrDigit(rest[i]) {
			return false
		}
	}
	return true
}

// checkHostKeyID accepts 1 to 128 printable ASCII characters without a blank at either end: a key
// ID goes into logs as it is.
func checkHostKeyID(s string) error {
	if s == "" || len(s) > maxHostKeyID {
		return fmt.Errorf("%w: %d characters, 1 to %d allowed", ErrKeyID, len(s), maxHostKeyID)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return fmt.Errorf("%w: %q holds more than printable ASCII", ErrKeyID, s)
		}
	}
	if s[0] == ' ' || s[len(s)-1] == ' ' {
		return fmt.Errorf("%w: blank at an end of %q", ErrKeyID, s)
	}
	return nil
}

// clip keeps what somebody else wrote short in an error.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
