package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
)

// keptStatements is how many prepared statements a connection keeps. The broker's requests know some thirty.
const keptStatements = 64

// keeper is a connection that keeps the statements which database/sql runs on it: SQLite takes longer to compile
// the short ones of the broker's state than to run them. Like every driver.Conn it serves one caller at a time.
type keeper struct {
	conn
	kept map[string]*keptStmt
}

// keptStmt is open while its rows are read: who wants it meanwhile compiles his own.
type keptStmt struct {
	*stmt
	open bool
}

func newKeeper(c conn) *keeper { return &keeper{conn: c, kept: map[string]*keptStmt{}} }

// keeping connects keepers.
type keeping struct{ driver.Connector }

// Connect implements driver.Connector.
func (k keeping) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := connect(ctx, k.Connector)
	if err != nil {
		return nil, err
	}
	return newKeeper(c), nil
}

// statement returns the statement of a text, or nil where it is open.
func (k *keeper) statement(ctx context.Context, text string) (*keptStmt, error) {
	if s := k.kept[text]; s != nil {
		if s.open {
			return nil, nil
		}
		return s, nil
	}
	if err := k.makeRoom(); err != nil {
		return nil, err
	}
	s, err := prepare(ctx, k.conn, text)
	if err != nil {
		return nil, err
	}
	k.kept[text] = &keptStmt{stmt: s}
	return k.kept[text], nil
}

// makeRoom drops any statement where there are too many.
func (k *keeper) makeRoom() error {
	if len(k.kept) < keptStatements {
		return nil
	}
	for text, s := range k.kept {
		if !s.open {
			delete(k.kept, text)
			return s.close()
		}
	}
	return nil
}

// ExecContext implements driver.ExecerContext.
func (k *keeper) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	s, err := k.statement(ctx, text)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return k.conn.ExecContext(ctx, text, args)
	}
	return s.exec.ExecContext(ctx, args)
}

// QueryContext implements driver.QueryerContext.
func (k *keeper) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := k.statement(ctx, text)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return k.conn.QueryContext(ctx, text, args)
	}
	rows, err := s.query.QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	s.open = true
	return &keptRows{rows, s}, nil
}

// keptRows are rows of a statement that is kept.
type keptRows struct {
	driver.Rows
	of *keptStmt
}

// Close implements driver.Rows.
func (r *keptRows) Close() error {
	r.of.open = false
	return r.Rows.Close()
}

// BeginTx implements driver.ConnBeginTx. One that may write takes the lock at once: what it has read first could else be
// another process's past when it writes. It waits for the busy timeout at most, so the context does not interrupt it: an
// interrupted one might have begun.
func (k *keeper) BeginTx(_ context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if opts.ReadOnly {
		return keptTx{k}, k.run(`BEGIN`)
	}
	return keptTx{k}, k.run(`BEGIN IMMEDIATE`)
}

func (k *keeper) run(text string) error {
	_, err := k.ExecContext(context.Background(), text, nil)
	return err
}

type keptTx struct{ k *keeper }

// Commit implements driver.Tx.
func (t keptTx) Commit() error {
	err := t.k.run(`COMMIT`)
	if err != nil { // database/sql takes the connection for one without a transaction all the same
		err = errors.Join(err, t.k.run(`ROLLBACK`))
	}
	return err
}

// Rollback implements driver.Tx.
func (t keptTx) Rollback() error { return t.k.run(`ROLLBACK`) }

// Close implements driver.Conn. SQLite keeps a connection open whose statements are not closed.
func (k *keeper) Close() error {
	var errs []error
	for _, s := range k.kept {
		errs = append(errs, s.close())
	}
	clear(k.kept)
	return errors.Join(append(errs, k.conn.Close())...)
}
