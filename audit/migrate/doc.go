// Package migrate moves a log, with the state beside it, from one database to another of either
// backend: the same events byte for byte, the same tree, the same signed checkpoint. It owns the order in which
// that happens, so that there are never two logs of one key that both go on, and the verification of what
// arrived. How a database is locked, read and filled is the backends' (audit/sqlite, audit/postgres).
//
// It serves the flow "the log moves" of docs/operations.md.
//
// # Order
//
//  1. The source is locked for the whole time, and verified from its bytes.
//  2. The target is filled in one transaction, verified, marked as arriving, committed: nothing opens it yet.
//  3. The source loses its head and is marked as gone, in one transaction: nothing opens it any more.
//  4. The target's mark is taken away: it goes on.
//
// A crash before 3 leaves the source as it was, a crash after it a target that is complete; the same
// command, run again, ends what was begun.
package migrate
