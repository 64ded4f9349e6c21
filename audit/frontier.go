package audit

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Frontier is the right edge of a Merkle tree (RFC 6962): the roots of its complete subtrees, one
// for each bit that is set in its size. It is all that is needed to go on, O(log n) memory. The
// zero value is the empty tree.
type Frontier struct {
	size  int64
	nodes [63]tlog.Hash // nodes[l] is the root of the complete subtree of 2^l leaves where bit l of size is set
}

// LoadFrontier reads the edge of a tree of that size from its stored hashes.
func LoadFrontier(size int64, r tlog.HashReader) (Frontier, error) {
	if size < 0 {
		return Frontier{}, fmt.Errorf("audit: tree of size %d", size)
	}
	f := Frontier{size: size}
	var levels []int
	var indexes []int64
	for l := 62; l >= 0; l-- {
		if size>>l&1 == 1 {
			levels = append(levels, l)
			indexes = append(indexes, tlog.StoredHashIndex(l, size>>l-1))
		}
	}
	hashes, err := r.ReadHashes(indexes)
	if err != nil {
		return Frontier{}, fmt.Errorf("audit: read the edge of the tree: %w", err)
	}
	for i, l := range levels {
		f.nodes[l] = hashes[i]
	}
	return f, nil
}

// LoadProvenFrontier is LoadFrontier for a tree whose root is known: what r says need not be trusted.
func LoadProvenFrontier(tree tlog.Tree, r tlog.HashReader) (Frontier, error) {
	f, err := LoadFrontier(tree.N, r)
	if err != nil {
		return Frontier{}, err
	}
	if got := f.Root(); got != tree.Hash {
		return Frontier{}, fmt.Errorf("%w: the hashes of the tree of %d events give the root %s, want %s", ErrFork, tree.N, got, tree.Hash)
	}
	return f, nil
}

// Size returns the number of leaves.
func (f *Frontier) Size() int64 { return f.size }

// Add appends a leaf (tlog.RecordHash of its bytes) and appends to stored the hashes that
// tlog.StoredHashes would return for it: the leaf and every subtree that it completes.
func (f *Frontier) Add(leaf tlog.Hash, stored []tlog.Hash) []tlog.Hash {
	stored = append(stored, leaf)
	h := leaf
	l := 0
	for ; f.size>>l&1 == 1; l++ {
		h = tlog.NodeHash(f.nodes[l], h)
		stored = append(stored, h)
	}
	f.nodes[l] = h
	f.size++
	return stored
}

// Root returns the root hash; of the empty tree it is the hash of nothing.
func (f *Frontier) Root() tlog.Hash {
	if f.size == 0 {
		return EmptyRoot()
	}
	l := bits.TrailingZeros64(uint64(f.size))
	h := f.nodes[l]
	for l++; f.size>>l != 0; l++ {
		if f.size>>l&1 == 1 {
			h = tlog.NodeHash(f.nodes[l], h)
		}
	}
	return h
}

// Tree returns size and root.
func (f *Frontier) Tree() tlog.Tree { return tlog.Tree{N: f.size, Hash: f.Root()} }

// EmptyRoot is the root hash of the empty tree (RFC 6962 §2.1).
func EmptyRoot() tlog.Hash {
	h, _ := tlog.TreeHash(0, nil) // reads nothing and cannot fail at size 0
	return h
}
