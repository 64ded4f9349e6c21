// Package store is the contract between the broker and the backends of the audit log: one
// committer through which every event and every change of state goes, in one transaction. What
// follows from the contract alone (proofs, roots) is here too.
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
	"sega/audit/query"
)

// ErrUnavailable means that the caller may release nothing. Nothing was made durable, but where the
// database went away during a commit: then the whole append may be in the log, and the error says that its fate is
// unknown. The backend recovers by itself when its disk or database does, except from ErrSetBack.
var ErrUnavailable = errors.New("audit store: events cannot be made durable")

// ErrDuplicate, beside ErrUnavailable in one error, means that an event's ID is in the log already;
// that append alone changed nothing, and a retry would not either.
var ErrDuplicate = errors.New("audit store: an event of this ID exists")

// ErrUnreadable means that the database does not answer: nothing can be said of what is in it.
var ErrUnreadable = errors.New("audit store: the database does not answer")

// ErrNoEvent means that the log has no event of an ID.
var ErrNoEvent = errors.New("audit store: no such event")

// ErrTooManyGroups means that a count has more than MaxGroups groups: ask for less time or fewer dimensions.
var ErrTooManyGroups = errors.New("audit store: too many groups")

// ErrTooBroad means that a search or count would have to look at too much of the log one by one; the
// error says what to ask instead.
var ErrTooBroad = errors.New("audit store: too broad a question")

// ErrSetBack, beside ErrUnavailable or ErrUnreadable in one error, means that the database no longer
// holds the log that this process has signed or seen: it was restored, or failed over to a standby that
// was behind. Nothing is appended and nothing read until the process is started anew (design R10).
var ErrSetBack = errors.New("audit store: the database was set back beneath this process")

// MaxGroups bounds the answer of Count.
const MaxGroups = 100_000

// Querier reads and writes in a transaction. Statements are of the SQL that SQLite and PostgreSQL
// share, with ? for arguments; integers are 64-bit, booleans are integers.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Tx is the transaction of an append.
type Tx struct {
	Querier
	Next int64 // index in the log that the first event of this append will have
}

// Log is an append-only Merkle log beside the state that shares its transactions.
type Log interface {
	// Append makes events durable and, in the same transaction and before them, applies apply
	// (which may be nil). When it returns nil, events, tree, what the rollups are derived of, checkpoint and state are on disk.
	// An error of apply discards this append alone and is returned as it is; any other failure
	// is ErrUnavailable (wrapped) and has changed nothing, or its fate is unknown. Appends of many callers share a commit.
	// apply runs on the committer's goroutine: it must be short and do no I/O but through Tx.
	// The first event gets the returned index, the others follow. Several processes may append to one log
	// where the backend is a server: each apply sees all that was committed before.
	Append(ctx context.Context, events []audit.Event, apply func(ctx context.Context, tx Tx) error) (first int64, err error)

	// Head returns the signed checkpoint (a note, C2SP tlog-checkpoint) and its tree, of the last
	// commit that this process knows of: its own, or one of another process not more than a second ago.
	Head() (checkpoint []byte, tree tlog.Tree)

	// Rows yields rows from..to-1 exactly as stored, columns included, in order.
	Rows(ctx context.Context, from, to int64) iter.Seq2[audit.Row, error]

	// Event returns the row of an event's ID as Rows does, or ErrNoEvent.
	Event(ctx context.Context, id string) (audit.Row, error)

	// Search yields the rows that q.Match selects, in the order that q asks for, up to q.Limit. Few
	// searches and counts are carried out at once, on connections of their own: the others wait in
	// order, until ctx ends. Nothing of the database is held while the consumer has a row.
	Search(ctx context.Context, q query.Query) iter.Seq2[audit.Row, error]

	// Count counts what q selects (Limit and Newest are not looked at) by dimensions, sorted by key.
	Count(ctx context.Context, q query.Query, by []query.Dimension) ([]query.Group, error)

	// Rollups yields every rollup as counts are answered from it, in any order. They cover the first upTo events,
	// audit.RolledUp of the log's size at that moment: the moment of the call, which copies them all
	// aside and takes seconds for millions. Whoever reads them slowly then holds nothing of the database;
	// they can be read once, and are dropped at the end, or with ctx. Few consumers are served at
	// once: a call may wait for another's end, until ctx ends.
	Rollups(ctx context.Context) (upTo int64, rollups iter.Seq2[audit.Rollup, error])

	// Hashes returns stored hashes of the tree by their tlog index (tlog.StoredHashIndex).
	Hashes(ctx context.Context, indexes []int64) ([]tlog.Hash, error)

	// Read runs f in a read transaction that does not block the committer. Its error is that of f, or
	// ErrUnreadable (wrapped) where the database failed.
	Read(ctx context.Context, f func(ctx context.Context, q Querier) error) error

	// Close waits for what is under way and closes the database.
	Close() error
}
