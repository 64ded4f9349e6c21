// Package sqlite keeps the audit log in an embedded SQLite database: events, the hashes of their
// Merkle tree, the signed head, rollups of the complete segments, and beside them the tables of the
// broker's state, which change in the transactions of their events. One committer goroutine owns the
// only connection that writes and commits for many callers at once; another copies the WAL into the
// database where it fills fast (wal.go).
//
// A search (search.go) translates its query into a condition of SQL that selects what the query
// does or more (predicate.go), finds candidates by the best indexes (plan.go), and asks
// query.Query.Match of each. Counts (count.go) read the smallest cube of rollups that knows the question,
// or the full one as it is kept in memory (memory.go), and rows for what no rollup covers. Free text has an index of its own in the file PATH-text
// (text.go): derived, filled behind the committer, at no time part of the truth. Whoever deletes
// details of events deletes that file too; it is built anew from what the log still has.
//
// It owns the tables events, tree, head, rolling and rollup_… and nothing of the state's. What an event means and how
// the log is judged is package audit; the contract is audit/store.
//
// It serves the flows "every decision is an event" and "a reviewer searches" of
// docs/architecture.md (design R3, R9, R10, I6).
package sqlite
