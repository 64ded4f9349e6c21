// Package postgres keeps the audit log in a PostgreSQL database: events, the hashes of their Merkle
// tree, the signed head, rollups and a text index, and beside them the tables of the broker's state,
// which change in the transactions of their events. Several processes may append to one log: each
// transaction locks the row of the head first, and goes on from what it finds there.
//
// It owns these tables and nothing of the state's, and translates what SQL the state shares with
// SQLite. What an event means and how the log is judged is package audit; the contract is audit/store.
//
// It serves the flow "every decision is an event" of docs/architecture.md (design R3, R9, R10, I6).
package postgres
