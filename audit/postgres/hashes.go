package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"
)

// hashesPerChunk hashes make a row of 2 KiB.
const hashesPerChunk = 64

// chunkReader reads stored hashes by their tlog index from the table tree.
type chunkReader struct {
	fetch  func(chunks []int64, add func(chunk int64, hashes []byte)) error
	chunks map[int64][]byte
}

// chunksOf reads on the committer's connection.
func chunksOf(ctx context.Context, c *pgx.Conn) *chunkReader {
	return &chunkReader{chunks: map[int64][]byte{}, fetch: func(chunks []int64, add func(int64, []byte)) error {
		rows, err := c.Query(ctx, sqlChunk, chunks)
		if err != nil {
			return err
		}
		var chunk int64
		var hashes []byte
		_, err = pgx.ForEachRow(rows, []any{&chunk, &hashes}, func() error {
			add(chunk, slices.Clone(hashes))
			return nil
		})
		return err
	}}
}

// chunksIn reads in a read transaction.
func chunksIn(ctx context.Context, tx *sql.Tx) *chunkReader {
	return &chunkReader{chunks: map[int64][]byte{}, fetch: func(chunks []int64, add func(int64, []byte)) error {
		rows, err := tx.QueryContext(ctx, sqlChunk, chunks)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var chunk int64
			var hashes []byte
			if err := rows.Scan(&chunk, &hashes); err != nil {
				return err
			}
			add(chunk, hashes)
		}
		return rows.Err()
	}}
}

// load fetches the chunks of indexes that are not here yet, in one statement.
func (r *chunkReader) load(indexes []int64) error {
	var missing []int64
	for _, index := range indexes {
		if _, ok := r.chunks[index/hashesPerChunk]; !ok {
			missing = append(missing, index/hashesPerChunk)
		}
	}
	slices.Sort(missing)
	if missing = slices.Compact(missing); len(missing) == 0 {
		return nil
	}
	err := r.fetch(missing, func(chunk int64, hashes []byte) { r.chunks[chunk] = hashes })
	if err != nil {
		return fmt.Errorf("read the tree's hashes: %w", err)
	}
	return nil
}

// ReadHashes implements tlog.HashReader.
func (r *chunkReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
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
func (r *chunkReader) hash(index int64) (tlog.Hash, bool) {
	at := int(index%hashesPerChunk) * tlog.HashSize
	if b := r.chunks[index/hashesPerChunk]; index >= 0 && len(b) >= at+tlog.HashSize {
		return tlog.Hash(b[at : at+tlog.HashSize]), true
	}
	return tlog.Hash{}, false
}

// tail returns the bytes of the last chunk of a tree of that size as far as the tree uses them, and
// the chunk's number: where the next hash goes.
func (r *chunkReader) tail(size int64) (chunk int64, tail []byte, err error) {
	count := tlog.StoredHashCount(size)
	chunk = count / hashesPerChunk
	used := int(count%hashesPerChunk) * tlog.HashSize
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
