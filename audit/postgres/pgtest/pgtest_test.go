package pgtest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
)

func count(t *testing.T, s *Server, url string) (n int) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if err := c.QueryRow(t.Context(), `SELECT count(*) FROM t`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestServer(t *testing.T) {
	s := Start(t)
	db := s.NewDatabase(t)
	if err := s.Exec(t.Context(), db, `CREATE TABLE t (n INTEGER)`, `INSERT INTO t VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, s.TCP(db)); n != 1 {
		t.Errorf("%d rows by TCP", n)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := pgx.Connect(t.Context(), s.URL(db)); err == nil {
		t.Error("a killed server answers")
	}
	if err := s.Restart("work_mem=5MB"); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, s.URL(db)); n != 1 {
		t.Errorf("%d rows after a crash", n)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Errorf("killed when it had stopped: %v", err)
	}
}

// TestFolder runs twice in one folder, which stays.
func TestFolder(t *testing.T) {
	dir, err := os.MkdirTemp("", "sega-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for round := range 2 {
		s, err := Run(dir)
		if errors.Is(err, ErrMissing) && os.Getenv("CI") == "" {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			err = s.Exec(t.Context(), "postgres", `CREATE TABLE t (n INTEGER)`)
		} else if n := count(t, s, s.URL("postgres")); n != 0 {
			t.Errorf("%d rows", n)
		}
		if err := errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "PG_VERSION")); err != nil {
		t.Error(err)
	}
	if _, err := Run(t.TempDir(), "no_such_setting=1"); err == nil {
		t.Error("a server with a setting that does not exist runs")
	}
}
