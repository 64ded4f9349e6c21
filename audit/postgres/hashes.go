package postgres

import (
	"context"
	"database/sql"
	"slices"

	"github.com/jackc/pgx/v5"

	"sega/audit/store/backend"
)

// chunksOf reads stored hashes on the committer's connection.
func chunksOf(ctx context.Context, c *pgx.Conn) *backend.Chunks {
	return backend.NewChunks(func(chunks []int64, add func(int64, []byte)) error {
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
	})
}

// chunksIn reads them in a read transaction.
func chunksIn(ctx context.Context, tx *sql.Tx) *backend.Chunks {
	return backend.NewChunks(func(chunks []int64, add func(int64, []byte)) error {
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
	})
}
