package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"

	"sega/audit/store"
	"sega/audit/store/backend"
)

// Move is a database whose log moves to or from another one (audit/migrate): one transaction, and while it is
// open nobody else reads or writes the file. What was not committed is gone with Close.
type Move struct {
	store.Querier
	cfg  Config
	conn conn
	db   *sql.DB
}

// OpenMove takes a database for itself; one that another process has open is refused. With create
// it is made where it does not exist. Nothing is looked at yet: Prepare does that.
func OpenMove(ctx context.Context, cfg Config, create bool) (*Move, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("audit store: configuration: %w", err)
	}
	m, err := openMove(ctx, cfg, create)
	if err != nil {
		return nil, fmt.Errorf("audit store: open %s: %w", cfg.Path, err)
	}
	return m, nil
}

func openMove(ctx context.Context, cfg Config, create bool) (*Move, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(cfg.Path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	c, err := dial(ctx, cfg.Path)
	if err != nil {
		return nil, inUse(err)
	}
	db := backend.Lend(c).DB
	m := &Move{Querier: db, cfg: cfg, conn: c, db: db}
	if err := m.take(ctx); err != nil {
		return nil, errors.Join(inUse(err), m.Close())
	}
	return m, nil
}

// take begins the transaction. Leaving the WAL succeeds only where no other connection is open,
// idle ones included: a broker that has nothing to do is noticed as well. The next start of a broker brings it back.
func (m *Move) take(ctx context.Context) error {
	if _, err := m.ExecContext(ctx, `PRAGMA busy_timeout=0`); err != nil {
		return err
	}
	var mode string
	if err := m.QueryRowContext(ctx, `PRAGMA journal_mode=DELETE`).Scan(&mode); err != nil {
		return err
	}
	if mode != "delete" {
		return fmt.Errorf("the journal's mode is %q still: another process has the database open", mode)
	}
	_, err := m.ExecContext(ctx, `BEGIN EXCLUSIVE`)
	return err
}

// inUse says what a locked database means here.
func inUse(err error) error {
	switch code(err) & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("the database is in use; stop the broker that has it open: %w", err)
	}
	return err
}

// Empty reports whether the database holds no table at all.
func (m *Move) Empty(ctx context.Context) (bool, error) {
	var n int
	err := m.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master`).Scan(&n)
	return n == 0, err
}

// Prepare makes the tables and the head of the empty log in an empty database, and brings those of
// an older version up to date. One that is no log's or of a newer version is refused.
func (m *Move) Prepare(ctx context.Context) error {
	var version int
	if err := m.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return err
	}
	empty, err := m.Empty(ctx)
	switch {
	case err != nil:
		return err
	case version == 0 && !empty:
		return errors.New("the database holds other tables, and no log")
	case version < 0 || version > schemaVersion:
		return fmt.Errorf("the database has schema version %d, this program knows %d", version, schemaVersion)
	}
	if err := migrateTx(ctx, m.db, &m.cfg, version); err != nil {
		return err
	}
	return rollRest(ctx, m.db)
}

// Tables returns the tables that are the same in every backend, each with its columns in order.
func (m *Move) Tables(ctx context.Context) (map[string][]string, error) {
	rows, err := m.QueryContext(ctx, `SELECT t.name, c.name FROM pragma_table_list AS t JOIN pragma_table_info(t.name) AS c
		WHERE t.schema = 'main' AND t.type = 'table' AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND t.name <> 'rolling' ORDER BY t.name, c.cid`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	tables := map[string][]string{}
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			return nil, err
		}
		tables[table] = append(tables[table], column)
	}
	return tables, rows.Err()
}

// Derive has nothing to do: rollups move with the rest, and the text index is a file of its own that is
// written when the log is opened.
func (m *Move) Derive(context.Context) error { return nil }

// Rows yields a table as stored: integers, texts, bytes and nil. Events and the tree's hashes come in order.
func (m *Move) Rows(ctx context.Context, table string, columns []string) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		query := `SELECT ` + quoted(columns) + ` FROM ` + quoted([]string{table})
		if table == "events" || table == "tree" {
			query += ` ORDER BY 1`
		}
		rows, err := m.QueryContext(ctx, query)
		if err != nil {
			yield(nil, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			values, dest := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				dest[i] = &values[i]
			}
			if err := rows.Scan(dest...); err != nil {
				yield(nil, err)
				return
			}
			if !yield(values, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// Insert stores rows as another backend's Rows yields them: what is bytes there and a text here is the same.
func (m *Move) Insert(ctx context.Context, table string, columns []string, rows iter.Seq2[[]any, error]) error {
	texts, err := m.texts(ctx, table)
	if err != nil {
		return err
	}
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(columns)), ", ")
	put, err := m.db.PrepareContext(ctx, `INSERT INTO `+quoted([]string{table})+` (`+quoted(columns)+`) VALUES (`+marks+`)`)
	if err != nil {
		return err
	}
	defer put.Close()
	for values, err := range rows {
		if err != nil {
			return err
		}
		for i, c := range columns {
			switch v := values[i].(type) {
			case []byte:
				if texts[c] {
					values[i] = string(v)
				}
			case string:
				if !texts[c] {
					values[i] = []byte(v)
				}
			}
		}
		if _, err := put.ExecContext(ctx, values...); err != nil {
			return err
		}
	}
	return nil
}

// texts are the columns of a table that hold text.
func (m *Move) texts(ctx context.Context, table string) (map[string]bool, error) {
	rows, err := m.QueryContext(ctx, `SELECT name, type FROM pragma_table_info(?)`, table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	texts := map[string]bool{}
	for rows.Next() {
		var name, kind string
		if err := rows.Scan(&name, &kind); err != nil {
			return nil, err
		}
		texts[name] = kind == "TEXT"
	}
	return texts, rows.Err()
}

// Commit ends the transaction, durably. Others may open the database once Close has returned.
func (m *Move) Commit(ctx context.Context) error {
	if err := checkFull(ctx, m.db); err != nil {
		return err
	}
	_, err := m.ExecContext(ctx, `COMMIT`)
	return err
}

// Begin begins another transaction after a Commit.
func (m *Move) Begin(ctx context.Context) error {
	_, err := m.ExecContext(ctx, `BEGIN EXCLUSIVE`)
	return err
}

// checkFull refuses a connection whose commit could be lost.
func checkFull(ctx context.Context, db backend.Querier) error {
	var level int
	if err := db.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&level); err != nil {
		return err
	}
	if level < 2 {
		return fmt.Errorf("synchronous is %d, below FULL: what was moved could be lost", level)
	}
	return nil
}

// Close drops what was not committed.
func (m *Move) Close() error { return errors.Join(m.db.Close(), m.conn.Close()) }

// checkMoved refuses a log that went on elsewhere, or that has not wholly arrived: were it appended to,
// there would be two logs of one key.
func checkMoved(ctx context.Context, db backend.Querier) error {
	var n int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE name = 'moved'`).Scan(&n); err != nil || n == 0 {
		return err
	}
	var state, place, at string
	if err := db.QueryRowContext(ctx, `SELECT state, place, at FROM moved`).Scan(&state, &place, &at); err != nil {
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
		out[i] = `"` + strings.ReplaceAll(n, `"`, `""`) + `"`
	}
	return strings.Join(out, ", ")
}
