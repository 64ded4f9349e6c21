package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// kept opens a pool of one connection, and returns its keeper.
func kept(t *testing.T, path string) (*sql.Conn, *keeper) {
	t.Helper()
	db, err := openPool(path, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	var k *keeper
	if err := c.Raw(func(dc any) error { k = dc.(*keeper); return nil }); err != nil {
		t.Fatal(err)
	}
	return c, k
}

func mustExec(t *testing.T, c *sql.Conn, text string, args ...any) {
	t.Helper()
	if _, err := c.ExecContext(t.Context(), text, args...); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func TestKeeper(t *testing.T) {
	t.Parallel()
	c, k := kept(t, filepath.Join(t.TempDir(), "db"))
	mustExec(t, c, `CREATE TABLE t (n INTEGER PRIMARY KEY)`)
	for n := range 3 {
		mustExec(t, c, `INSERT INTO t VALUES (?)`, n)
	}
	const list = `SELECT n FROM t ORDER BY n`
	outer, err := c.QueryContext(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	pairs := 0
	for outer.Next() { // a statement whose rows are open is not run again
		inner, err := c.QueryContext(t.Context(), list)
		if err != nil {
			t.Fatal(err)
		}
		for inner.Next() {
			pairs++
		}
		if err := errors.Join(inner.Err(), inner.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := outer.Err(); err != nil || pairs != 9 {
		t.Errorf("%d pairs (%v), want 9", pairs, err)
	}
	if s := k.kept[list]; s == nil || s.open {
		t.Errorf("the statement is not kept, or stays open: %+v", s)
	}
	mustExec(t, c, `ALTER TABLE t RENAME COLUMN n TO m`)
	if rows, err := c.QueryContext(t.Context(), list); err == nil {
		_ = rows.Close()
		t.Error("a column that has gone is still read")
	}
	mustExec(t, c, `ALTER TABLE t RENAME COLUMN m TO n`)
	var sum int
	if err := c.QueryRowContext(t.Context(), `SELECT sum(n) FROM t`).Scan(&sum); err != nil || sum != 3 {
		t.Errorf("sum %d (%v), want 3", sum, err)
	}
	for n := range 2 * keptStatements {
		mustExec(t, c, fmt.Sprintf(`INSERT INTO t VALUES (%d)`, 10+n))
	}
	if len(k.kept) > keptStatements {
		t.Errorf("%d statements are kept, want at most %d", len(k.kept), keptStatements)
	}
}

// TestKeeperInterrupted: a statement that a context has ended runs again.
func TestKeeperInterrupted(t *testing.T) {
	t.Parallel()
	c, k := kept(t, filepath.Join(t.TempDir(), "db"))
	const endless = `WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < ?) SELECT max(n) FROM c`
	var n int64
	if err := c.QueryRowContext(t.Context(), endless, 5).Scan(&n); err != nil || n != 5 {
		t.Fatalf("%d (%v), want 5", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	begun := time.Now()
	time.AfterFunc(50*time.Millisecond, cancel) // amid the run, and not before it
	if err := c.QueryRowContext(ctx, endless, int64(1)<<60).Scan(&n); err == nil {
		t.Fatal("a statement without an end has ended")
	}
	if time.Since(begun) < 50*time.Millisecond {
		t.Fatal("it was not run")
	}
	if s := k.kept[endless]; s == nil || s.open {
		t.Fatalf("the statement is not kept, or stays open: %+v", s)
	}
	if err := c.QueryRowContext(t.Context(), endless, 7).Scan(&n); err != nil || n != 7 {
		t.Errorf("%d (%v), want 7", n, err)
	}
}

// TestKeeperTransactions: what a rolled back transaction wrote is gone, and the connection is good for the next.
func TestKeeperTransactions(t *testing.T) {
	t.Parallel()
	c, _ := kept(t, filepath.Join(t.TempDir(), "db"))
	mustExec(t, c, `CREATE TABLE t (n INTEGER)`)
	for _, commit := range []bool{false, true, false, true} {
		tx, err := c.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), `INSERT INTO t VALUES (1)`); err != nil {
			t.Fatal(err)
		}
		end := tx.Rollback
		if commit {
			end = tx.Commit
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	var n int
	if err := c.QueryRowContext(t.Context(), `SELECT count(*) FROM t`).Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows (%v), want 2", n, err)
	}
}

// TestKeeperLocks: a transaction that may write keeps other writers out from its first moment, and no reader.
func TestKeeperLocks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	c, _ := kept(t, path)
	other, _ := kept(t, path)
	mustExec(t, c, `CREATE TABLE t (n INTEGER)`)
	tx, err := c.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if second, err := other.BeginTx(t.Context(), nil); err == nil {
		_ = second.Rollback()
		t.Error("two may write")
	}
	read, err := other.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer read.Rollback()
	var n int
	if err := read.QueryRowContext(t.Context(), `SELECT count(*) FROM t`).Scan(&n); err != nil {
		t.Error(err)
	}
}
