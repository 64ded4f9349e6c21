package postgres

import (
	"context"
	"database/sql"

	"sega/audit/store"
)

// querier runs statements of the shared SQL: it rewrites their placeholders, and hides what would
// end a transaction.
type querier struct{ q store.Querier }

// ExecContext implements store.Querier.
func (q querier) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return q.q.ExecContext(ctx, placeholders(query), args...)
}

// QueryContext implements store.Querier.
func (q querier) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return q.q.QueryContext(ctx, placeholders(query), args...)
}

// QueryRowContext implements store.Querier.
func (q querier) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return q.q.QueryRowContext(ctx, placeholders(query), args...)
}
