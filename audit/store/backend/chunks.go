package backend

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
)

// HashesPerChunk stored hashes of tlog (StoredHashIndex) make a row of the table tree, of 2 KiB.
const HashesPerChunk = 64

// Chunks reads stored hashes by their tlog index from the table tree. It keeps what it has read, and
// is for one transaction and one goroutine.
type Chunks struct {
	fetch  func(chunks []int64, add func(chunk int64, hashes []byte)) error
	chunks map[int64][]byte
}

// NewChunks reads by fetch, which calls add with those of the chunks that are there.
func NewChunks(fetch func(chunks []int64, add func(chunk int64, hashes []byte)) error) *Chunks {
	return &Chunks{fetch, map[int64][]byte{}}
}

// load fetches the chunks of indexes that are not here yet.
func (r *Chunks) load(indexes []int64) error {
	var missing []int64
	for _, index := range indexes {
		if _, ok := r.chunks[index/HashesPerChunk]; !ok {
			missing = append(missing, index/HashesPerChunk)
		}
	}
	slices.Sort(missing)
	if missing = slices.Compact(missing); len(missing) == 0 {
		return nil
	}
	if err := r.fetch(missing, func(chunk int64, hashes []byte) { r.chunks[chunk] = hashes }); err != nil {
		return fmt.Errorf("read the tree's hashes: %w", err)
	}
	return nil
}

// ReadHashes implements tlog.HashReader.
func (r *Chunks) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	if err := r.load(indexes); err != nil {
		return nil, err
	}
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		h, ok := r.hash(index)
		if !ok {
			return nil, fmt.Errorf("stored hash %d is missing", index)
		}
		hashes[i] = h
	}
	return hashes, nil
}

// hash returns a hash of a loaded chunk.
func (r *Chunks) hash(index int64) (tlog.Hash, bool) {
	at := int(index%HashesPerChunk) * tlog.HashSize
	if b := r.chunks[index/HashesPerChunk]; index >= 0 && len(b) >= at+tlog.HashSize {
		return tlog.Hash(b[at : at+tlog.HashSize]), true
	}
	return tlog.Hash{}, false
}

// tail returns the bytes of the last chunk of a tree of that size as far as the tree uses them, and
// the chunk's number: where the next hash goes.
func (r *Chunks) tail(size int64) (chunk int64, tail []byte, err error) {
	count := tlog.StoredHashCount(size)
	chunk = count / HashesPerChunk
	used := int(count%HashesPerChunk) * tlog.HashSize
	if used == 0 {
		return chunk, nil, nil
	}
	if err := r.load([]int64{count - 1}); err != nil {
		return 0, nil, err
	}
	if b := r.chunks[chunk]; len(b) != used {
		return 0, nil, fmt.Errorf("the last stored hashes have %d bytes, want %d for %d events", len(b), used, size)
	}
	return chunk, r.chunks[chunk], nil
}

// Leaves fills in the rows' stored leaf hashes; a hash that is not there stays out.
func (r *Chunks) Leaves(page []audit.Row) error {
	indexes := make([]int64, len(page))
	for i := range page {
		indexes[i] = tlog.StoredHashIndex(0, page[i].Index)
	}
	if err := r.load(indexes); err != nil {
		return err
	}
	for i, index := range indexes {
		if h, ok := r.hash(index); ok {
			page[i].Leaf = h[:]
		}
	}
	return nil
}

// Querier is *sql.DB, *sql.Conn or *sql.Tx.
type Querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}
