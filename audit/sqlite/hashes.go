package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// hashesPerChunk hashes make a row of 2 KiB, two to a page.
const hashesPerChunk = 64

// errNoHash means that a hash is not in the table, as opposed to a table that cannot be read.
var errNoHash = errors.New("it is missing")

// chunkReader reads stored hashes by their tlog index from the table tree.
type chunkReader struct {
	ctx    context.Context // of the one call that the reader lives for
	db     querier
	chunks map[int64][]byte
}

func newChunkReader(ctx context.Context, db querier) *chunkReader {
	return &chunkReader{ctx: ctx, db: db, chunks: map[int64][]byte{}}
}

// ReadHashes implements tlog.HashReader.
func (r *chunkReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 {
			return nil, fmt.Errorf("stored hash %d does not exist", index)
		}
		chunk, err := r.chunk(index / hashesPerChunk)
		if err != nil {
			return nil, err
		}
		at := int(index%hashesPerChunk) * tlog.HashSize
		if len(chunk) < at+tlog.HashSize {
			return nil, fmt.Errorf("stored hash %d: %w", index, errNoHash)
		}
		hashes[i] = tlog.Hash(chunk[at : at+tlog.HashSize])
	}
	return hashes, nil
}

func (r *chunkReader) chunk(n int64) ([]byte, error) {
	if b, ok := r.chunks[n]; ok {
		return b, nil
	}
	var b []byte
	err := r.db.QueryRowContext(r.ctx, sqlGetChunk, n).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoHash
	}
	if err != nil {
		return nil, fmt.Errorf("stored hashes %d to %d: %w", n*hashesPerChunk, (n+1)*hashesPerChunk-1, err)
	}
	r.chunks[n] = b
	return b, nil
}

// loadTail returns the bytes of the last chunk of a tree of that size as far as the tree uses them,
// and the chunk's number: where the next hash goes.
func loadTail(r *chunkReader, size int64) (chunk int64, tail []byte, err error) {
	count := tlog.StoredHashCount(size)
	chunk = count / hashesPerChunk
	used := int(count%hashesPerChunk) * tlog.HashSize
	if used == 0 {
		return chunk, nil, nil
	}
	b, err := r.chunk(chunk)
	if err != nil {
		return 0, nil, err
	}
	if len(b) != used {
		return 0, nil, fmt.Errorf("the last stored hashes have %d bytes, want %d for %d events", len(b), used, size)
	}
	return chunk, b, nil
}
