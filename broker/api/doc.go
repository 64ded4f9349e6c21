// Package api owns the wire between sega's parts: routes, request and response types, the closed
// set of error kinds and the feed's items. It is a leaf: both ends import it, it imports neither.
//
// Secrets travel in fields of type secret.Secret, which marshal redacted. A response that must
// carry one implements Revealer, and only the code that writes an HTTP body calls it.
//
// It serves every flow of docs/architecture.md.
package api

// Revealer is implemented by wire types that carry secrets. Wire returns a value whose JSON holds
// the secrets in the clear; it goes to an HTTP body or a sealed file and nowhere else.
type Revealer interface{ Wire() any }
