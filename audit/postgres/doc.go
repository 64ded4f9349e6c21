// Package postgres keeps the audit log in a PostgreSQL database: events, the hashes of their Merkle
// tree, the signed head, rollups and a text index, and beside them the tables of the broker's state,
// which change in the transactions of their events. Several processes may append to one log: each
// transaction locks the row of the head first, and goes on from what it finds there.
//
// It owns these tables and nothing of the state's, and translates what SQL the state shares with
// SQLite. What an event means and how the log is judged is package audit; the contract is audit/store.
//
// A search goes through an index for: id, action, session, user, role, host, resource, kind and outcome
// (but success), equal or by a prefix that few values begin with (id, action and outcome: equal alone);
// the smaller of two where it names both, and one of its own for what was refused or failed of a user, a
// role or a host. since and until bound it to the segments of that time. Free text, reason, ticket,
// source, node and policy go through the text index: a value that is everywhere costs what the first page
// does, one that is nowhere a look at the index. Whatever else (not, ~ in other fields, outcome:success)
// is looked for in the events themselves, in the order asked for, a page at a time: what few events
// have is found late. Counts of user, kind, outcome, role, host, day and time come from rollups.
//
// The committer writes the rollups of a segment in the transaction that completes it, as one row
// (rollup_parts). Beside it they are folded into the cubes, which a count adds to what is not folded.
//
// It serves the flow "every decision is an event" of docs/architecture.md (design R3, R9, R10, I6).
package postgres
