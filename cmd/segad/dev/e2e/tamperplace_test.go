//go:build linux

package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"sega/audit"
	"sega/audit/postgres"
	"sega/audit/postgres/pgtest"
	"sega/audit/sqlite"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/broker/state"
	"sega/cmd/segad/dev/devtest"
)

// place is the database of an environment, for somebody who gets at it past the broker. Statements of
// the matrix are in the words that SQLite and PostgreSQL share; what they do not share is here.
type place interface {
	breakIn(t testing.TB) intruder
	// log opens the log with a key, while the broker is stopped.
	log(ctx context.Context, key *audit.LogKey) (store.Log, error)
	// rollups are changes of the rollups of ssh.cert, each with its table. fold brings them all into their cubes.
	rollups() (changes []rollupChange)
	fold(t testing.TB, key *audit.LogKey)
	// copy makes a copy of the database, and putBack puts it in the database's place.
	copy(t testing.TB)
	putBack(t testing.TB)
}

// rollupChange changes rollups of ssh.cert.
type rollupChange struct{ what, table, statement string }

// cubeChanges are the changes of tables that have a row for each rollup.
func cubeChanges(tables ...string) (changes []rollupChange) {
	for _, table := range tables {
		changes = append(changes, rollupChange{"counts", table, `UPDATE ` + table + ` SET n = n + 1 WHERE kind = 'ssh.cert'`},
			rollupChange{"kinds", table, `UPDATE ` + table + ` SET kind = 'forward.close' WHERE kind = 'ssh.cert'`},
			rollupChange{"rows", table, `DELETE FROM ` + table + ` WHERE kind = 'ssh.cert'`})
	}
	return changes
}

// intruder writes to the broker's database from outside, while the broker runs.
type intruder struct {
	*sql.DB
	t       testing.TB
	dollars bool // placeholders are $1, $2, …
	bytes   bool // a body is bytes, not text
	columns string
}

// sql returns a statement, which holds no ? in quotes, with the placeholders of the database.
func (i intruder) sql(query string) string {
	for n := 1; i.dollars && strings.Contains(query, "?"); n++ {
		query = strings.Replace(query, "?", fmt.Sprint("$", n), 1)
	}
	return query
}

func (i intruder) exec(query string, args ...any) int64 {
	i.t.Helper()
	r, err := i.Exec(i.sql(query), args...)
	if err != nil {
		i.t.Fatalf("%s: %v", query, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		i.t.Fatal(err)
	}
	return n
}

// get reads one row.
func (i intruder) get(query string, dest ...any) {
	i.t.Helper()
	if err := i.QueryRow(query).Scan(dest...); err != nil {
		i.t.Fatalf("%s: %v", query, err)
	}
}

// body is a body as the column takes it.
func (i intruder) body(text string) any {
	if i.bytes {
		return []byte(text)
	}
	return text
}

// names are the columns of the table of events, as the database names them.
func (i intruder) names() (out []string) {
	i.t.Helper()
	rows, err := i.Query(i.columns)
	if err != nil {
		i.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			i.t.Fatal(err)
		}
		out = append(out, name)
	}
	if err := rows.Err(); err != nil {
		i.t.Fatal(err)
	}
	return out
}

// file is an SQLite database.
type file struct {
	path, old string
}

func newFile(t testing.TB, e *devtest.Env) *file {
	return &file{path: e.Database, old: filepath.Join(t.TempDir(), "old.db")}
}

func (f *file) breakIn(t testing.TB) intruder {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+f.path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return intruder{DB: db, t: t, columns: `SELECT name FROM pragma_table_info('events') ORDER BY cid`}
}

func (f *file) log(ctx context.Context, key *audit.LogKey) (store.Log, error) {
	return sqlite.Open(ctx, sqlite.Config{Path: f.path, Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}})
}

func (f *file) rollups() []rollupChange {
	return cubeChanges("rollup_user", "rollup_target", "rollup_full")
}

func (f *file) fold(testing.TB, *audit.LogKey) {}

func (f *file) copy(t testing.TB) {
	t.Helper()
	db := f.breakIn(t)
	db.exec(`VACUUM INTO ?`, f.old)
	_ = db.Close()
}

func (f *file) putBack(t testing.TB) {
	t.Helper()
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(f.path + suffix); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(f.old, f.path); err != nil {
		t.Fatal(err)
	}
}

// server is a PostgreSQL database.
type server struct {
	*pgtest.Server
	database string
}

func newServer(t testing.TB, s *pgtest.Server, address string) *server {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return &server{s, strings.TrimPrefix(u.Path, "/")}
}

func (s *server) breakIn(t testing.TB) intruder {
	t.Helper()
	db, err := sql.Open("pgx", s.URL(s.database, "search_path=sega"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return intruder{DB: db, t: t, dollars: true, bytes: true,
		columns: `SELECT column_name::text FROM information_schema.columns WHERE table_schema = 'sega' AND table_name = 'events' ORDER BY ordinal_position`}
}

func (s *server) config(key *audit.LogKey) postgres.Config {
	return postgres.Config{URL: s.URL(s.database), Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}}
}

func (s *server) log(ctx context.Context, key *audit.LogKey) (store.Log, error) {
	return postgres.Open(ctx, s.config(key))
}

// rollups are those that wait to be folded, and the cubes: one of the two has none.
func (s *server) rollups() []rollupChange {
	return append(cubeChanges("rollup_user", "rollup_target", "rollup_full", "rollup_period"),
		rollupChange{"counts", "rollup_parts", `UPDATE rollup_parts SET n = (SELECT array_agg(c + 1) FROM unnest(n) AS c)`},
		rollupChange{"kinds", "rollup_parts", `UPDATE rollup_parts SET kind = array_replace(kind, 'ssh.cert', 'forward.close')`},
		rollupChange{"rows", "rollup_parts", `DELETE FROM rollup_parts`})
}

// fold does what a broker does when there are enough of them, and what a move begins with.
func (s *server) fold(t testing.TB, key *audit.LogKey) {
	t.Helper()
	m, err := postgres.OpenMove(t.Context(), s.config(key))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Prepare(t.Context()), m.Commit(t.Context()), m.Close()); err != nil {
		t.Fatal(err)
	}
}

// copy cuts the broker's connections, which it replaces: a database in use is no template.
func (s *server) copy(t testing.TB) {
	t.Helper()
	s.alone(t, fmt.Sprintf(`CREATE DATABASE %s TEMPLATE %s`, name(s.database+"_old"), name(s.database)))
	s.let(t)
}

func (s *server) putBack(t testing.TB) {
	t.Helper()
	s.alone(t, fmt.Sprintf(`DROP DATABASE %s WITH (FORCE)`, name(s.database)), fmt.Sprintf(`ALTER DATABASE %s RENAME TO %s`, name(s.database+"_old"), name(s.database)))
	s.let(t)
}

// alone runs statements while nobody is connected to the database.
func (s *server) alone(t testing.TB, statements ...string) {
	t.Helper()
	if err := s.Exec(t.Context(), "postgres", fmt.Sprintf(`ALTER DATABASE %s ALLOW_CONNECTIONS false`, name(s.database)),
		fmt.Sprintf(`SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '%s'`, s.database)); err != nil {
		t.Fatal(err)
	}
	if err := s.Exec(t.Context(), "postgres", statements...); err != nil {
		t.Fatal(err)
	}
}

func (s *server) let(t testing.TB) {
	t.Helper()
	if err := s.Exec(t.Context(), "postgres", fmt.Sprintf(`ALTER DATABASE %s ALLOW_CONNECTIONS true`, name(s.database))); err != nil {
		t.Fatal(err)
	}
}

func name(s string) string { return pgx.Identifier{s}.Sanitize() }
