// Package store is the contract between the broker and the backends of the audit log: one
// committer through which every event and every change of state goes, in one transaction.
//
// It serves the flow "every decision is an event" of docs/architecture.md (design R3, I1, I6).
package store

import (
	"context"
	"database/sql"
	"errors"
	"iter"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
)

// ErrUnavailable means that nothing was made durable and the caller may release nothing; the
// backend recovers by itself when its disk or database does.
var ErrUnavailable = errors.New("audit store: events cannot be made durable")

// ErrDuplicate, beside ErrUnavailable in one error, means that an event's ID is in the log already;
// that append alone changed nothing, and a retry would not either.
var ErrDuplicate = errors.New("audit store: an event of this ID exists")

// Tx is the transaction of an append.
type Tx struct {
	*sql.Tx
	Next int64 // index in the log that the first event of this append will have
}

// Log is an append-only Merkle log beside the state that shares its transactions.
type Log interface {
	// Append makes events durable and, in the same transaction and before them, applies apply
	// (which may be nil). When it returns nil, events, tree, checkpoint and state are on disk.
	// An error of apply discards this append alone and is returned as it is; any other failure
	// is ErrUnavailable (wrapped) and has changed nothing. Appends of many callers share a commit.
	// apply runs on the committer's goroutine: it must be short and do no I/O but through Tx.
	// The first event gets the returned index, the others follow.
	Append(ctx context.Context, events []audit.Event, apply func(ctx context.Context, tx Tx) error) (first int64, err error)

	// Head returns the signed checkpoint (a note, C2SP tlog-checkpoint) of the last commit and its tree.
	Head() (checkpoint []byte, tree tlog.Tree)

	// Rows yields rows from..to-1 exactly as stored, columns included, in order.
	Rows(ctx context.Context, from, to int64) iter.Seq2[audit.Row, error]

	// Query yields matching rows in order of index.
	Query(ctx context.Context, f audit.Filter) iter.Seq2[audit.Row, error]

	// Prove returns the consistency proof between two sizes of the tree.
	Prove(ctx context.Context, from, to int64) (tlog.TreeProof, error)

	// Root returns the root hash of the tree at an earlier or the present size.
	Root(ctx context.Context, size int64) (tlog.Hash, error)

	// Read runs f in a read transaction that does not block the committer.
	Read(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error

	// Close waits for what is under way and closes the database.
	Close() error
}
