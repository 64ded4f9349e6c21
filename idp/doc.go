// Package idp owns identity as the company's OpenID provider asserts it: discovery, the logins
// that end in an ID token (browser, pasted address, device grant), refreshing and revoking, and
// the verification of ID tokens against the provider's keys.
//
// It does not own sessions, replay protection or policy: the broker has the database, so it takes
// each Identity.Digest once and judges MFA and the age of AuthTime. It does not open a keychain:
// tokens are handed out as secret.Secret, and who gets them stores them.
//
// The laptop uses Browser, Paste, Refresh and Revoke; the broker uses Verifier and the device
// grant, whose tokens carry no nonce and therefore never leave it.
//
// It serves the flow "log in" of docs/architecture.md, whose binding is rule R1: the nonce of a
// login is a hash of the DPoP key, the broker's origin and fresh randomness (see Nonce).
package idp
