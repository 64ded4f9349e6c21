package idp

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Failures of a login. Their texts are for people and never contain a token.
var (
	ErrUnreachable  = errors.New("the identity provider did not answer, try again")
	ErrDenied       = errors.New("the login was refused or cancelled at the identity provider")
	ErrPending      = errors.New("the login has not been approved yet")
	ErrSlowDown     = errors.New("the identity provider asks to poll more slowly")
	ErrExpired      = errors.New("the code has expired, log in again")
	ErrInvalidGrant = errors.New("the identity provider no longer accepts this login, log in again")
	ErrACR          = errors.New("the identity provider could not reach the required level of authentication, enrol a second factor there")
	ErrNoIDToken    = errors.New("the identity provider returned no ID token, have the scope openid allowed for this client")
	ErrPortsBusy    = errors.New("every registered loopback port is in use")
	ErrNoAnswer     = errors.New("no answer came from the browser")
	ErrState        = errors.New("this is not the answer to the pending login, log in again and use the newest address")
	ErrCallback     = errors.New("the identity provider's answer is malformed, log in again")
	ErrMixUp        = errors.New("the answer names another identity provider, do not log in from this page")
	ErrPaste        = errors.New("this is not the address at which the login ended, paste it whole")
	ErrNoBrowser    = errors.New("no browser could be started")
	ErrUnsupported  = errors.New("the identity provider does not offer this")
	ErrConfig       = errors.New("invalid configuration")
)

// Failures of verification, one for each check. Their texts are for people and never contain
// anything of the token.
var (
	ErrMalformed       = errors.New("the ID token is malformed")
	ErrAlgorithm       = errors.New("the ID token is signed with an algorithm that is not accepted")
	ErrTokenType       = errors.New("this is a token of another type, not an ID token")
	ErrKeyUnknown      = errors.New("the ID token names a key that the identity provider does not publish")
	ErrKeysUnavailable = errors.New("the identity provider's keys cannot be fetched, try again")
	ErrSignature       = errors.New("the ID token's signature does not verify")
	ErrIssuer          = errors.New("the ID token is of another issuer")
	ErrAudience        = errors.New("the ID token is for another client")
	ErrAuthorizedParty = errors.New("the ID token was given to another client")
	ErrSubject         = errors.New("the ID token names no usable subject")
	ErrTokenExpired    = errors.New("the ID token has expired, log in again")
	ErrNotYetValid     = errors.New("the ID token is not valid yet, compare the clocks of broker and identity provider")
	ErrTokenOld        = errors.New("the ID token was issued too long ago, log in again")
	ErrAuthTime        = errors.New("the ID token's time of authentication lies in the future")
	ErrNonce           = errors.New("the ID token belongs to another login")
	ErrRenewal         = errors.New("the refreshed ID token is not of the same login")
	ErrGroupsUnknown   = errors.New("the identity provider does not say which groups the person is in")
)

// OAuthError is an error answer of the identity provider (RFC 6749 §4.1.2.1, §5.2; RFC 8628 §3.5).
// It matches the sentinel of its code with errors.Is.
type OAuthError struct {
	Code        string // as sent, "" where the answer was not an OAuth error
	Description string // made printable; what we sent is redacted from it
	Status      int    // HTTP status, 0 for an answer by redirect
}

// Error implements error.
func (e *OAuthError) Error() string {
	switch {
	case e.Code == "":
		return fmt.Sprintf("the identity provider answered with HTTP status %d", e.Status)
	case e.Description == "":
		return "the identity provider answered " + e.Code
	}
	return fmt.Sprintf("the identity provider answered %s: %s", e.Code, e.Description)
}

// Is matches the sentinel that stands for the code.
func (e *OAuthError) Is(target error) bool {
	switch e.Code {
	case "access_denied", "user_canceled_request":
		return target == ErrDenied
	case "authorization_pending":
		return target == ErrPending
	case "slow_down":
		return target == ErrSlowDown
	case "expired_token":
		return target == ErrExpired
	case "invalid_grant":
		return target == ErrInvalidGrant
	case "unmet_authentication_requirements":
		return target == ErrACR
	case "temporarily_unavailable", "server_error":
		return target == ErrUnreachable
	}
	return false
}

// printable makes foreign text safe for a terminal: printable characters alone, at most limit runes.
func printable(s string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > limit {
			b.WriteString("…")
			break
		}
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			r = ' '
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}
