package store

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
)

// HashReader lends a log's stored hashes to tlog for the time of one call.
func HashReader(ctx context.Context, l Log) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) { return l.Hashes(ctx, indexes) })
}

// Prove returns the consistency proof between two sizes of the tree (RFC 6962). From size 0 it is
// empty: every tree begins with nothing.
func Prove(ctx context.Context, l Log, from, to int64) (tlog.TreeProof, error) {
	if _, tree := l.Head(); from < 0 || from > to || to > tree.N {
		return nil, fmt.Errorf("audit store: no proof from %d to %d events: the log has %d", from, to, tree.N)
	}
	if from == 0 {
		return tlog.TreeProof{}, nil
	}
	proof, err := tlog.ProveTree(to, from, HashReader(ctx, l))
	if err != nil {
		return nil, fmt.Errorf("audit store: prove %d to %d: %w", from, to, err)
	}
	return proof, nil
}

// ProveRecord returns the inclusion proof of an event in the tree of a size (RFC 6962).
func ProveRecord(ctx context.Context, l Log, index, size int64) (tlog.RecordProof, error) {
	if _, tree := l.Head(); index < 0 || index >= size || size > tree.N {
		return nil, fmt.Errorf("audit store: no proof of event %d in %d events: the log has %d", index, size, tree.N)
	}
	proof, err := tlog.ProveRecord(size, index, HashReader(ctx, l))
	if err != nil {
		return nil, fmt.Errorf("audit store: prove event %d in %d: %w", index, size, err)
	}
	return proof, nil
}

// Root returns the root hash of the tree at an earlier or the present size.
func Root(ctx context.Context, l Log, size int64) (tlog.Hash, error) {
	if _, tree := l.Head(); size < 0 || size > tree.N {
		return tlog.Hash{}, fmt.Errorf("audit store: no root of %d events: the log has %d", size, tree.N)
	}
	if size == 0 {
		return audit.EmptyRoot(), nil
	}
	root, err := tlog.TreeHash(size, HashReader(ctx, l))
	if err != nil {
		return tlog.Hash{}, fmt.Errorf("audit store: root of %d: %w", size, err)
	}
	return root, nil
}
