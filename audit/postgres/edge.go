package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
)

// head is the row of the table head.
type head struct {
	tree       tlog.Tree
	checkpoint []byte
	stamp      int64 // random, of the commit that wrote it: tells whose commit is the last
}

// unread is a stamp that no commit has.
const unread = -1

func newStamp() int64 { return int64(rand.Uint64() >> 1) }

// scanHead reads what sqlHead answers.
func scanHead(scan func(dest ...any) error) (head, error) {
	var h head
	var root []byte
	if err := scan(&h.tree.N, &root, &h.checkpoint, &h.stamp); err != nil {
		return head{}, fmt.Errorf("read the head of the log: %w", err)
	}
	if len(root) != tlog.HashSize {
		return head{}, fmt.Errorf("the root of the log has %d bytes, want %d", len(root), tlog.HashSize)
	}
	h.tree.Hash = tlog.Hash(root)
	return h, nil
}

// edge is where the log goes on: what an append needs to know of all that is stored. It is a copy
// of what the database holds, true as long as the stamp is.
type edge struct {
	head
	frontier audit.Frontier
	chunk    int64  // number of the row of tree that the next hash goes to
	tail     []byte // what that row holds already
}

// loadEdge reads the edge, under the lock of the head, and checks that the stored hashes give the
// head's root, and that the log continues the one that is known.
func loadEdge(ctx context.Context, c *pgx.Conn, known tlog.Tree) (edge, error) {
	h, err := scanHead(c.QueryRow(ctx, sqlHead).Scan)
	if err != nil {
		return edge{}, err
	}
	r := chunksOf(ctx, c)
	e := edge{head: h}
	if e.frontier, err = audit.LoadFrontier(h.tree.N, r); err != nil {
		return edge{}, err
	}
	if got := e.frontier.Root(); got != h.tree.Hash {
		return edge{}, fmt.Errorf("the stored hashes give the root %s, the head says %s for %d events", got, h.tree.Hash, h.tree.N)
	}
	if err := store.CheckExtends(known, h.tree, r); err != nil {
		return edge{}, err
	}
	if e.chunk, e.tail, err = r.tail(h.tree.N); err != nil {
		return edge{}, err
	}
	return e, nil
}

// growth is what a transaction changes of the edge.
type growth struct {
	next   edge
	chunks []int64  // rows of tree that are written,
	hashes [][]byte // and what they then hold
}

// grow computes the edge with more leaves, and signs its checkpoint.
func (e *edge) grow(leaves []tlog.Hash, signer note.Signer) (growth, error) {
	g := growth{next: edge{frontier: e.frontier, chunk: e.chunk, tail: e.tail, head: head{stamp: newStamp(), tree: e.tree, checkpoint: e.checkpoint}}}
	if len(leaves) == 0 {
		return g, nil
	}
	var stored []tlog.Hash
	for _, leaf := range leaves {
		stored = g.next.frontier.Add(leaf, stored)
	}
	tail := make([]byte, len(e.tail), len(e.tail)+len(stored)*tlog.HashSize)
	copy(tail, e.tail)
	for i := range stored {
		tail = append(tail, stored[i][:]...)
	}
	g.split(tail)
	g.next.tree = g.next.frontier.Tree()
	var err error
	g.next.checkpoint, err = audit.SignCheckpoint(signer.Name(), g.next.tree, signer)
	return g, err
}

// split cuts the hashes from the last chunk on into chunks.
func (g *growth) split(tail []byte) {
	const size = hashesPerChunk * tlog.HashSize
	for ; len(tail) >= size; tail = tail[size:] {
		g.chunks, g.hashes = append(g.chunks, g.next.chunk), append(g.hashes, tail[:size])
		g.next.chunk++
	}
	if len(tail) > 0 {
		g.chunks, g.hashes = append(g.chunks, g.next.chunk), append(g.hashes, tail)
	}
	g.next.tail = tail
}
