package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"sega/audit"
	"sega/audit/store"
	"sega/audit/store/backend"
)

// Move is a database whose log moves to or from another one (audit/migrate): one transaction, and while it is
// open nobody appends. What was not committed is gone with Close.
type Move struct {
	store.Querier
	cfg    Config
	target target
	conn   *stdlib.Conn
	db     *sql.DB
	tx     pgx.Tx
}

// OpenMove takes a database for itself; one that a broker has open is refused. Nothing is looked at
// yet: Prepare does that.
func OpenMove(ctx context.Context, cfg Config) (*Move, error) {
	m, err := openMove(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("audit store: open the PostgreSQL database: %w", err)
	}
	return m, nil
}

func openMove(ctx context.Context, cfg Config) (*Move, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	t, err := parseURL(cfg.URL, nil)
	if err != nil {
		return nil, err
	}
	c, err := connect(ctx, t.with(map[string]string{"application_name": "segad audit migrate", "default_transaction_read_only": "off", "client_min_messages": "warning",
		"lock_timeout": millis(leaveTime), "idle_in_transaction_session_timeout": "0", "statement_timeout": "0"}))
	if err != nil {
		return nil, err
	}
	db := backend.Lend(c).DB
	m := &Move{Querier: querier{db}, cfg: cfg, target: t, conn: c, db: db}
	if err := m.take(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// leaveTime is how long the server may take to notice that a broker has ended.
const leaveTime = 3 * time.Second

// sqlOpenLock is the advisory lock of whoever has the log of a schema open: shared by brokers, alone for a move.
const sqlOpenLock = `(%d, hashtext('%s'))`

// openLock is sqlOpenLock for a schema.
func openLock(schema string) string {
	return fmt.Sprintf(sqlOpenLock, migrationLock, strings.ReplaceAll(schema, "'", "''"))
}

// foldLock is the advisory lock of whoever folds rollups.
func foldLock(schema string) string {
	return fmt.Sprintf(sqlOpenLock, migrationLock+1, strings.ReplaceAll(schema, "'", "''"))
}

// holdOpen says, for as long as the connection lives, that a broker has the log open.
func holdOpen(ctx context.Context, c *pgx.Conn, schema string) error {
	if _, err := c.Exec(ctx, `SELECT pg_advisory_lock_shared`+openLock(schema)); err != nil {
		return fmt.Errorf("say that the log is open (is it being moved?): %w", err)
	}
	return nil
}

// take locks out every broker, idle ones included, and begins the transaction.
func (m *Move) take(ctx context.Context) error {
	_, err := m.conn.Conn().Exec(ctx, `SELECT pg_advisory_lock`+openLock(m.target.schema))
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == "55P03" {
		return fmt.Errorf("the database is in use; stop the brokers that have it open: %w", err)
	}
	if err != nil {
		return err
	}
	return m.Begin(ctx)
}

// Begin begins a transaction. No broker is there; one that did not say so waits at the head, and
// fails.
func (m *Move) Begin(ctx context.Context) error {
	var err error
	if m.tx, err = m.conn.Conn().BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}); err != nil {
		return err
	}
	var there bool
	if err := m.tx.QueryRow(ctx, `SELECT to_regclass('head') IS NOT NULL`).Scan(&there); err != nil || !there {
		return err
	}
	_, err = m.tx.Exec(ctx, `LOCK TABLE head IN ACCESS EXCLUSIVE MODE`)
	return explain(err)
}

// Empty reports whether the schema of the tables is missing or holds nothing.
func (m *Move) Empty(ctx context.Context) (bool, error) {
	var n int64
	err := m.tx.QueryRow(ctx, `SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1`, m.target.schema).Scan(&n)
	return n == 0, err
}

// Prepare makes the tables and the head of the empty log where there are none, and brings those of
// the state up to date. Tables of another version are refused.
// What rollups are not in their tables yet are folded: there are no others in the tables that move.
func (m *Move) Prepare(ctx context.Context) error {
	if err := migrateTx(ctx, m.tx, m.target, &m.cfg); err != nil {
		return err
	}
	return fold(ctx, m.tx, m.target.schema, math.MaxInt64)
}

// own are the tables that only this backend has.
var own = []string{"log_version", "writers", "segments", "event_text", "rollup_parts", "rollup_period"}

// Tables returns the tables that are the same in every backend, each with its columns in order.
// What a backend derives from them (Derive), and what is of its own, is left out.
func (m *Move) Tables(ctx context.Context) (map[string][]string, error) {
	rows, err := m.tx.Query(ctx, `SELECT table_name::text, column_name::text FROM information_schema.columns
		WHERE table_schema = $1 ORDER BY table_name, ordinal_position`, m.target.schema)
	if err != nil {
		return nil, err
	}
	tables := map[string][]string{}
	var table, column string
	_, err = pgx.ForEachRow(rows, []any{&table, &column}, func() error {
		if !slices.Contains(own, table) {
			tables[table] = append(tables[table], column)
		}
		return nil
	})
	return tables, err
}

// Derive makes anew what searches need of the tables that were moved; the text index is written
// when the log is opened.
func (m *Move) Derive(ctx context.Context) error {
	var size int64
	if err := m.tx.QueryRow(ctx, `SELECT size FROM head`).Scan(&size); err != nil {
		return err
	}
	if _, err := m.tx.Exec(ctx, sqlSegments, audit.RolledUp(size), int64(audit.SegmentSize)); err != nil {
		return fmt.Errorf("segments: %w", err)
	}
	if _, err := m.tx.Exec(ctx, sqlPeriods); err != nil {
		return fmt.Errorf("rollups of periods: %w", err)
	}
	_, err := m.tx.Exec(ctx, `ANALYZE`)
	return err
}

// escaped reports whether the texts of a table are stored as escape has them.
func escaped(table string) bool { return table == "events" || strings.HasPrefix(table, "rollup_") }

// Rows yields a table as the log and the state read it: integers, texts, bytes and nil. Events and the
// tree's hashes come in order.
func (m *Move) Rows(ctx context.Context, table string, columns []string) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		query := `SELECT ` + quoted(columns) + ` FROM ` + quoted([]string{table})
		if table == "events" || table == "tree" {
			query += ` ORDER BY 1`
		}
		rows, err := m.tx.Query(ctx, query)
		if err != nil {
			yield(nil, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			values, err := rows.Values()
			for i := range values {
				if text, is := values[i].(string); is && err == nil && escaped(table) {
					var ok bool
					if values[i], ok = unescape(text); !ok {
						err = fmt.Errorf("a text of column %s is not as it was written", columns[i])
					}
				}
			}
			if !yield(values, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// Insert stores rows as another backend's Rows yields them: what is a text there and bytes here is
// the same.
func (m *Move) Insert(ctx context.Context, table string, columns []string, rows iter.Seq2[[]any, error]) error {
	kinds, err := m.kinds(ctx, table)
	if err != nil {
		return err
	}
	next, stop := iter.Pull2(rows)
	defer stop()
	_, err = m.tx.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		values, err, more := next()
		if !more || err != nil {
			return nil, err
		}
		for i, c := range columns {
			if values[i], err = stored(values[i], kinds[c], escaped(table)); err != nil {
				return nil, fmt.Errorf("column %s: %w", c, err)
			}
		}
		return values, nil
	}))
	return err
}

// stored is a value as a column of a type takes it.
func stored(v any, kind string, escaping bool) (any, error) {
	text, isText := v.(string)
	if b, isBytes := v.([]byte); isBytes && kind == "text" {
		text, isText = string(b), true
	}
	switch {
	case isText && kind == "bytea":
		return []byte(text), nil
	case isText && escaping:
		return escape(text), nil
	case isText && strings.Contains(text, "\x00"):
		return nil, errors.New("a text holds a zero byte, which PostgreSQL does not keep")
	case isText:
		return text, nil
	}
	return v, nil
}

// kinds are the types of a table's columns.
func (m *Move) kinds(ctx context.Context, table string) (map[string]string, error) {
	rows, err := m.tx.Query(ctx, `SELECT column_name::text, data_type::text FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2`, m.target.schema, table)
	if err != nil {
		return nil, err
	}
	kinds := map[string]string{}
	var column, kind string
	_, err = pgx.ForEachRow(rows, []any{&column, &kind}, func() error { kinds[column] = kind; return nil })
	return kinds, err
}

// Commit ends the transaction, durably.
func (m *Move) Commit(ctx context.Context) error {
	var fsync, pages string
	if err := m.tx.QueryRow(ctx, `SELECT current_setting('fsync'), current_setting('full_page_writes')`).Scan(&fsync, &pages); err != nil {
		return err
	}
	if err := checkDisk(fsync, pages); err != nil {
		return err
	}
	return m.tx.Commit(ctx)
}

// Close drops what was not committed, and the locks.
func (m *Move) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(m.db.Close(), m.conn.Conn().Close(ctx))
}

// checkMoved refuses a log that went on elsewhere, or that has not wholly arrived: were it appended to,
// there would be two logs of one key. It takes the head's lock: nobody appends while tables are made.
func checkMoved(ctx context.Context, tx pgx.Tx) error {
	var moved, head bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass('moved') IS NOT NULL, to_regclass('head') IS NOT NULL`).Scan(&moved, &head); err != nil {
		return err
	}
	if head {
		if _, err := tx.Exec(ctx, `SELECT one FROM head FOR UPDATE`); err != nil {
			return explain(err)
		}
	}
	if !moved {
		return nil
	}
	var state, place, at string
	if err := tx.QueryRow(ctx, `SELECT state, place, at FROM moved`).Scan(&state, &place, &at); err != nil {
		return err
	}
	if state == "arriving" {
		return fmt.Errorf("the log has not wholly arrived here: its move from %s began %s and did not end\nrun the same segad audit migrate again", place, at)
	}
	return fmt.Errorf("the log was moved to %s, %s: this database holds what it was before, and goes on no more\nset database to the new place in the broker's configuration", place, at)
}

func quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = pgx.Identifier{n}.Sanitize()
	}
	return strings.Join(out, ", ")
}
