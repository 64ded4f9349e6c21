package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"

	"github.com/jackc/pgx/v5/stdlib"

	"sega/audit/store"
)

// applyConn lends the committer's connection to database/sql, so that changes of state run in the
// transaction that the committer began. A *sql.Tx on it neither begins nor ends anything: were an
// apply to commit or to roll back by itself, it would do so for every caller of the batch.
type applyConn struct {
	*stdlib.Conn
	undone bool // the *sql.Tx was rolled back
}

// BeginTx implements driver.ConnBeginTx.
func (c *applyConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	c.undone = false
	return applyTx{c}, nil
}

// Begin implements driver.Conn.
func (c *applyConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// Close implements driver.Conn. The connection is the committer's.
func (c *applyConn) Close() error { return nil }

// IsValid implements driver.Validator: the committer replaces the connection, not database/sql.
func (c *applyConn) IsValid() bool { return true }

// ResetSession implements driver.SessionResetter.
func (c *applyConn) ResetSession(context.Context) error { return nil }

type applyTx struct{ c *applyConn }

func (t applyTx) Commit() error { return nil }

func (t applyTx) Rollback() error {
	t.c.undone = true
	return nil
}

// Connect implements driver.Connector.
func (c *applyConn) Connect(context.Context) (driver.Conn, error) { return c, nil }

// Driver implements driver.Connector.
func (c *applyConn) Driver() driver.Driver { return applyDriver{} }

// applyDriver exists because driver.Connector asks for one.
type applyDriver struct{}

// Open implements driver.Driver.
func (applyDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("the committer's connection is not opened by name")
}

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
