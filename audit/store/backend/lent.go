package backend

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime/debug"

	"sega/audit/store"
)

// Conn is what a driver's connection must be able to do to be lent.
type Conn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

// Lent lends the committer's connection to database/sql, so that changes of state run in the
// transaction that the committer began. A *sql.Tx on it neither begins nor ends anything: were an
// apply to commit or to roll back by itself, it would do so for every caller of the batch.
type Lent struct {
	DB *sql.DB // on the connection
	on *lentConn
}

// Lend lends a connection. Closing DB leaves it open.
func Lend(c Conn) Lent {
	on := &lentConn{Conn: c}
	db := sql.OpenDB(on)
	db.SetMaxOpenConns(1)
	return Lent{db, on}
}

// errPanic is what a caller gets whose apply panicked. What it panicked with may hold anything.
var errPanic = errors.New("audit store: the change of state panicked; the append was discarded")

// Apply runs a request's change of state on the connection, in the words that querier puts its
// statements into. ctx must not end with the caller's: were that to interrupt a statement, the whole batch would be lost.
// The database's transaction is the caller's to undo where it fails.
func (l Lent) Apply(ctx context.Context, r *Request, querier func(store.Querier) store.Querier) error {
	tx, err := l.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := guard(ctx, r, querier(tx)); err != nil {
		_ = tx.Rollback() // closes what apply left open
		return err
	}
	if err := tx.Commit(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return err
	}
	if l.on.undone {
		return errors.New("audit store: the change of state rolled its transaction back; the append was discarded")
	}
	return nil
}

// guard turns a panic of apply into an error, so that it does not take the committer along.
func guard(ctx context.Context, r *Request, q store.Querier) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w (%T)\n%s", errPanic, p, debug.Stack())
		}
	}()
	return r.apply(ctx, store.Tx{Querier: q, Next: r.First})
}

// Context is that of the request's caller, without its end.
func (r *Request) Context() context.Context { return context.WithoutCancel(r.ctx) }

type lentConn struct {
	Conn
	undone bool // the *sql.Tx was rolled back
}

// BeginTx implements driver.ConnBeginTx.
func (c *lentConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	c.undone = false
	return lentTx{c}, nil
}

// Begin implements driver.Conn.
func (c *lentConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// Close implements driver.Conn. The connection is the committer's.
func (c *lentConn) Close() error { return nil }

// CheckNamedValue implements driver.NamedValueChecker.
func (c *lentConn) CheckNamedValue(v *driver.NamedValue) error {
	if own, ok := c.Conn.(driver.NamedValueChecker); ok {
		return own.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type lentTx struct{ c *lentConn }

func (t lentTx) Commit() error { return nil }

func (t lentTx) Rollback() error {
	t.c.undone = true
	return nil
}

// Connect implements driver.Connector.
func (c *lentConn) Connect(context.Context) (driver.Conn, error) { return c, nil }

// Driver implements driver.Connector.
func (c *lentConn) Driver() driver.Driver { return lentDriver{} }

// lentDriver exists because driver.Connector asks for one.
type lentDriver struct{}

// Open implements driver.Driver.
func (lentDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("the committer's connection is not opened by name")
}
