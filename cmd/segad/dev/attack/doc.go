// Package attack holds tests alone: it plays whoever wants what is not his. It runs the broker
// over a real log, real policy, the strict provider and the STS double, behind TLS, with a real
// bastion and sshd where SSH matters, and holds design.md §6 against it: each attack is refused with
// the right kind of error, leaves the right event in the log, and gets nothing handed out.
//
// It owns no product code, and no tests of single packages. It serves every flow of
// docs/architecture.md.
package attack
