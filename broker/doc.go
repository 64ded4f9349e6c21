// Package broker is the service that decides: it verifies logins, asks policy, hands out AWS
// credentials and SSH certificates, revokes, and answers reviewers. Every endpoint runs in the
// skeleton of skeleton.go: authenticate, authorise, record, act, record, reply; an endpoint fills in
// what to decide and how to act, and cannot forget the rest.
//
// It owns no wire types (broker/api), no policy (broker/policy), no records (broker/state) and no
// log (audit/…). It serves every flow of docs/architecture.md.
package broker
