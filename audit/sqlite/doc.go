// Package sqlite keeps the audit log in an embedded SQLite database: events, the hashes of their
// Merkle tree, the signed head, and beside them the tables of the broker's state, which change in
// the transactions of their events. One committer goroutine owns the only connection that writes
// and commits for many callers at once.
//
// It owns the tables events, tree and head and nothing of the state's. What an event means and how
// the log is judged is package audit; the contract is audit/store.
//
// It serves the flow "every decision is an event" of docs/architecture.md (design R3, R10, I6).
package sqlite
