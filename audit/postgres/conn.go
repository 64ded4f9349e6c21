package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// errUnfit means that a server could lose what it has acknowledged, or is no server to write to.
var errUnfit = errors.New("the server does not keep what it acknowledges")

// connect opens a connection that writes, and refuses a server that is not fit for it.
func connect(ctx context.Context, cfg pgx.ConnConfig) (*stdlib.Conn, error) {
	dc, err := stdlib.GetConnector(cfg).Connect(ctx)
	if err != nil {
		return nil, explain(err)
	}
	c, ok := dc.(*stdlib.Conn)
	if !ok {
		return nil, errors.Join(errors.New("the driver's connection is of an unknown type"), dc.Close())
	}
	if err := checkServer(ctx, c.Conn()); err != nil {
		return nil, errors.Join(explain(err), c.Close())
	}
	return c, nil
}

// checkServer refuses a server whose commits could be lost (design R10), a standby, and an encoding
// that cannot hold what events hold. The level of synchronous_commit that the server, the database,
// the role or the URL ask for is then fixed for the session, whatever is reloaded later.
func checkServer(ctx context.Context, c *pgx.Conn) error {
	var fsync, pages, commit, encoding string
	var standby bool
	var version int
	err := c.QueryRow(ctx, `SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
		current_setting('server_encoding'), pg_is_in_recovery(), current_setting('server_version_num')::int`).
		Scan(&fsync, &pages, &commit, &encoding, &standby, &version)
	if err != nil {
		return fmt.Errorf("read the server's settings: %w", err)
	}
	const oldest = 130000 // what writes least with indexes on repeated values
	switch {
	case standby:
		return fmt.Errorf("%w: it is a standby, in recovery; name the primary, or several hosts and target_session_attrs=read-write", errUnfit)
	case commit == "off":
		return fmt.Errorf("%w: synchronous_commit is off, for this server, database, role or session; set it on", errUnfit)
	case encoding != "UTF8":
		return fmt.Errorf("the database's encoding is %s, want UTF8", encoding)
	case version < oldest:
		return fmt.Errorf("the server has version %d, want %d or later", version/10000, oldest/10000)
	}
	if err := checkDisk(fsync, pages); err != nil {
		return err
	}
	if _, err := c.Exec(ctx, `SELECT set_config('synchronous_commit', $1, false)`, commit); err != nil {
		return fmt.Errorf("set synchronous_commit: %w", err)
	}
	return nil
}

// checkDisk judges settings that a reload can change under an open session.
func checkDisk(fsync, pages string) error {
	switch {
	case fsync != "on":
		return fmt.Errorf("%w: fsync is %s; set it on", errUnfit, fsync)
	case pages != "on":
		return fmt.Errorf("%w: full_page_writes is %s; set it on", errUnfit, pages)
	}
	return nil
}

// openReads opens the pool that reads: it can change nothing, whatever runs on it.
func openReads(t target, conns int, statement time.Duration) *sql.DB {
	db := stdlib.OpenDB(t.forReading(statement))
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db
}

// explain says what to do about the failures that an operator can mend.
func explain(err error) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case "53100":
		return fmt.Errorf("the server's disk is full; free space, the next append goes on by itself: %w", err)
	case "53300":
		return fmt.Errorf("the server takes no more connections; raise max_connections: %w", err)
	case "55P03":
		return fmt.Errorf("another broker's transaction holds the head of the log: %w", err)
	case "25006":
		return fmt.Errorf("the server is read-only; name the primary: %w", err)
	case canceled:
		return fmt.Errorf("the server has cut the statement short, for its statement_timeout most likely; ask for less at once: %w", err)
	case "57P03":
		return fmt.Errorf("the server is starting, stopping or recovering: %w", err)
	}
	return err
}

// canceled is the code of a statement that the server has cut short.
const canceled = "57014"

// cutShort reports whether the server did not let a statement end that its caller still waits for.
func cutShort(ctx context.Context, err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == canceled && ctx.Err() == nil
}

// failing reports whether an error is the server's own trouble, so that no request of a batch can
// go on: insufficient resources, system errors, internal errors, a shutdown (PostgreSQL 15, appendix A).
func failing(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) || len(e.Code) != 5 {
		return false
	}
	switch e.Code[:2] {
	case "08", "53", "58", "XX":
		return true
	case "57":
		return e.Code != canceled // the statement alone
	}
	return false
}
