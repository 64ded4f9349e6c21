package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	"modernc.org/sqlite"

	"sega/audit/store/backend"
)

// conn is what the SQLite driver's connections can do.
type conn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.ConnBeginTx
	driver.SessionResetter
	driver.Validator
}

// busyMillis is how long a statement waits for a lock that another process holds, a backup's for
// example, before the append fails.
const busyMillis = "5000"

// writerPragmas: checkpoints are the committer's (see writer.tidy), so that nobody's append pays
// for one unannounced; the cache holds the inner pages of every index of a large log. What a
// savepoint needs to undo stays in memory (temp_store): in a file it took a sixth of the broker's time for a certificate.
func writerPragmas() []string {
	return []string{"busy_timeout(" + busyMillis + ")", "journal_mode(WAL)", "synchronous(FULL)", "fullfsync(1)",
		"foreign_keys(1)", "wal_autocheckpoint(0)", "journal_size_limit(67108864)", "cache_size(-65536)", "temp_store(2)"}
}

// dsn returns a SQLite URI. The path is escaped, so that no name of a file sets a parameter.
func dsn(path string, query url.Values) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: query.Encode()}
	return u.String(), nil
}

// dial opens the connection that writes.
func dial(ctx context.Context, path string) (conn, error) {
	name, err := dsn(path, url.Values{"_pragma": writerPragmas()})
	if err != nil {
		return nil, err
	}
	connector, err := sqlite.NewConnector(name)
	if err != nil {
		return nil, err
	}
	return connect(ctx, connector)
}

func connect(ctx context.Context, connector driver.Connector) (conn, error) {
	dc, err := connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c, ok := dc.(conn)
	if !ok {
		return nil, errors.Join(errors.New("the SQLite driver lacks a needed interface"), dc.Close())
	}
	return c, nil
}

// openReads opens the pool that reads: it can change nothing, whatever runs on it.
func openReads(path string, conns int) (*sql.DB, error) {
	return openPool(path, conns, url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(" + busyMillis + ")", "query_only(1)", "cache_size(-8192)"}})
}

// openPool opens a pool of at most so many connections.
func openPool(path string, conns int, settings url.Values) (*sql.DB, error) {
	name, err := dsn(path, settings)
	if err != nil {
		return nil, err
	}
	connector, err := sqlite.NewConnector(name)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(keeping{connector})
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// checkDurable refuses a connection whose commits could be lost (design R10). It reads the
// settings back, because SQLite ignores what it cannot do.
func checkDurable(ctx context.Context, db backend.Querier) error {
	var mode string
	var level, foreign int
	if err := db.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&mode); err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&level); err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, `PRAGMA foreign_keys`).Scan(&foreign); err != nil {
		return err
	}
	const full = 2
	switch {
	case level < full:
		return fmt.Errorf("synchronous is %d, below FULL (%d): acknowledged events could be lost", level, full)
	case !strings.EqualFold(mode, "wal"):
		return fmt.Errorf("journal mode is %q, want wal: the file system may not support shared memory", mode)
	case foreign != 1:
		return errors.New("foreign keys are off")
	}
	return nil
}

// stmt is a prepared statement of the committer, used below database/sql: it inserts tens of
// thousands of rows a second, and database/sql takes as long for one as SQLite.
type stmt struct {
	exec  driver.StmtExecContext
	query driver.StmtQueryContext
	close func() error
	args  []driver.NamedValue
}

func prepare(ctx context.Context, c conn, text string) (*stmt, error) {
	ds, err := c.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	s := &stmt{close: ds.Close}
	var execs, queries bool
	s.exec, execs = ds.(driver.StmtExecContext)
	s.query, queries = ds.(driver.StmtQueryContext)
	if !execs || !queries {
		return nil, errors.Join(errors.New("the SQLite driver lacks a needed interface"), ds.Close())
	}
	return s, nil
}

// bind sets the arguments; they must be of driver.Value's types.
func (s *stmt) bind(args ...driver.Value) []driver.NamedValue {
	s.args = s.args[:0]
	for i, a := range args {
		s.args = append(s.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return s.args
}

func (s *stmt) run(args ...driver.Value) error {
	_, err := s.exec.ExecContext(context.Background(), s.bind(args...))
	return err
}

// ints runs a statement that answers with one row of integers.
func (s *stmt) ints(n int) ([]int64, error) {
	rows, err := s.query.QueryContext(context.Background(), nil)
	if err != nil {
		return nil, err
	}
	dest := make([]driver.Value, n)
	err = rows.Next(dest)
	if cerr := rows.Close(); err == nil {
		err = cerr
	}
	if errors.Is(err, io.EOF) {
		return nil, sql.ErrNoRows
	}
	if err != nil {
		return nil, err
	}
	out := make([]int64, n)
	for i, v := range dest {
		x, ok := v.(int64)
		if !ok {
			return nil, fmt.Errorf("column %d is %T, want an integer", i, v)
		}
		out[i] = x
	}
	return out, nil
}
