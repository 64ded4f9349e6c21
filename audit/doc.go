// Package audit owns the event schema, the Merkle tree over events, checkpoints, proofs and their
// verification: everything that a reviewer's own machine needs to judge the log without trusting
// the broker. It stays free of databases; audit/store is the contract of the backends and
// audit/sqlite one of them. Recordings of SSH sessions are audit/recording.
//
// It serves the flows "every decision is an event" and "verify" of docs/architecture.md.
package audit
