package sshca

import "errors"

// What can be wrong with a certificate. Lint, Sign, CheckAccess and CheckHost wrap exactly one of
// these, so that an audit event can name the failure.
var (
	ErrKey         = errors.New("key type not allowed")
	ErrProfile     = errors.New("no such certificate profile")
	ErrType        = errors.New("wrong certificate type")
	ErrMalformed   = errors.New("malformed certificate")
	ErrNestedCA    = errors.New("certificate signed by a certificate")
	ErrUnknownCA   = errors.New("certificate signed by an unknown authority")
	ErrAlgorithm   = errors.New("signature algorithm not allowed")
	ErrSignature   = errors.New("certificate signature does not verify")
	ErrSerial      = errors.New("serial not allowed")
	ErrKeyID       = errors.New("key ID not allowed")
	ErrPrincipal   = errors.New("principal not allowed")
	ErrLifetime    = errors.New("validity not allowed")
	ErrNotYetValid = errors.New("certificate not yet valid")
	ErrExpired     = errors.New("certificate has expired")
	ErrOption      = errors.New("critical option not allowed")
	ErrExtension   = errors.New("extension not allowed")
	ErrSource      = errors.New("source address not allowed")
	ErrProof       = errors.New("signature of the key not accepted") // of CheckProof alone
	ErrSigner      = errors.New("the CA's key did not sign")
)
