package backend

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
)

// Head is the row of the table head.
type Head struct {
	Tree       tlog.Tree
	Checkpoint []byte
	Stamp      int64 // random, of the commit that wrote it: tells whose commit is the last
}

// Unread is a stamp that no commit has.
const Unread = -1

// NewStamp returns a stamp for a commit.
func NewStamp() int64 { return int64(rand.Uint64() >> 1) }

// ScanHead reads the columns size, root, checkpoint and stamp.
func ScanHead(scan func(dest ...any) error) (Head, error) {
	var h Head
	var root []byte
	if err := scan(&h.Tree.N, &root, &h.Checkpoint, &h.Stamp); err != nil {
		return Head{}, fmt.Errorf("read the head of the log: %w", err)
	}
	if len(root) != tlog.HashSize {
		return Head{}, fmt.Errorf("the root of the log has %d bytes, want %d", len(root), tlog.HashSize)
	}
	h.Tree.Hash = tlog.Hash(root)
	return h, nil
}

// FirstHead is the head of the empty log.
func FirstHead(signer note.Signer) (Head, error) {
	tree := tlog.Tree{Hash: audit.EmptyRoot()}
	checkpoint, err := audit.SignCheckpoint(signer.Name(), tree, signer)
	return Head{tree, checkpoint, NewStamp()}, err
}

// Edge is where the log goes on: what an append needs to know of all that is stored. It is a copy
// of what the database holds, true as long as the stamp is.
type Edge struct {
	Head
	frontier audit.Frontier
	chunk    int64  // number of the row of tree that the next hash goes to
	tail     []byte // what that row holds already
}

// LoadEdge reads the edge of a head, and checks that the stored hashes give its root, and that the log
// continues the one that is known.
func LoadEdge(h Head, r *Chunks, known tlog.Tree) (Edge, error) {
	e := Edge{Head: h}
	var err error
	if e.frontier, err = audit.LoadFrontier(h.Tree.N, r); err != nil {
		return Edge{}, err
	}
	if got := e.frontier.Root(); got != h.Tree.Hash {
		return Edge{}, fmt.Errorf("the stored hashes give the root %s, the head says %s for %d events", got, h.Tree.Hash, h.Tree.N)
	}
	if err := CheckExtends(known, h.Tree, r); err != nil {
		return Edge{}, err
	}
	if e.chunk, e.tail, err = r.tail(h.Tree.N); err != nil {
		return Edge{}, err
	}
	return e, nil
}

// Growth is what a transaction changes of the edge.
type Growth struct {
	Next   Edge
	Chunks []int64  // rows of tree that are written,
	Hashes [][]byte // and what they then hold
}

// Grow computes the edge with more leaves, and signs its checkpoint.
func (e *Edge) Grow(leaves []tlog.Hash, signer note.Signer) (Growth, error) {
	g := Growth{Next: *e}
	g.Next.Stamp = NewStamp()
	if len(leaves) == 0 {
		return g, nil
	}
	var stored []tlog.Hash
	for _, leaf := range leaves {
		stored = g.Next.frontier.Add(leaf, stored)
	}
	tail := make([]byte, len(e.tail), len(e.tail)+len(stored)*tlog.HashSize)
	copy(tail, e.tail)
	for i := range stored {
		tail = append(tail, stored[i][:]...)
	}
	g.split(tail)
	g.Next.Tree = g.Next.frontier.Tree()
	var err error
	g.Next.Checkpoint, err = audit.SignCheckpoint(signer.Name(), g.Next.Tree, signer)
	return g, err
}

// split cuts the hashes from the last chunk on into chunks.
func (g *Growth) split(tail []byte) {
	const size = HashesPerChunk * tlog.HashSize
	for ; len(tail) >= size; tail = tail[size:] {
		g.Chunks, g.Hashes = append(g.Chunks, g.Next.chunk), append(g.Hashes, tail[:size])
		g.Next.chunk++
	}
	if len(tail) > 0 {
		g.Chunks, g.Hashes = append(g.Chunks, g.Next.chunk), append(g.Hashes, tail)
	}
	g.Next.tail = tail
}

// Check checks what a crash, a restore of half a backup or a wrong key would break, and LoadEdge has
// not looked at: the checkpoint is signed by our key for this tree, the events end where it does
// (beyond is the index after the last one), and the last one, whose body body returns, is its last leaf.
func (e *Edge) Check(verifier note.Verifier, r *Chunks, beyond int64, body func(index int64) ([]byte, error)) error {
	c, err := audit.OpenCheckpoint(e.Checkpoint, verifier)
	if err != nil {
		return fmt.Errorf("the checkpoint in the database: %w", err)
	}
	size := e.Tree.N
	switch {
	case c.Tree != e.Tree:
		return fmt.Errorf("the checkpoint signs %d events with the root %s, the head says %d with %s", c.Tree.N, c.Tree.Hash, size, e.Tree.Hash)
	case beyond != size:
		return fmt.Errorf("the events end at %d, the head says %d", beyond, size)
	case size == 0:
		return nil
	}
	last, err := body(size - 1)
	if err != nil {
		return err
	}
	leaf, err := r.ReadHashes([]int64{tlog.StoredHashIndex(0, size-1)})
	if err != nil {
		return err
	}
	if leaf[0] != tlog.RecordHash(last) {
		return fmt.Errorf("event %d is not the one in the tree", size-1)
	}
	return nil
}
