//go:build unix

package migrate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"sega/audit"
	"sega/audit/postgres"
	"sega/audit/postgres/pgtest"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/broker/state"
)

// server is one for all tests: each site has a database of its own.
var server = sync.OnceValues(func() (*pgtest.Server, error) { return pgtest.Run("") })

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childArg {
		os.Exit(child(os.Args[2:]))
	}
	code := m.Run()
	if s, err := server(); err == nil {
		if err := errors.Join(s.Kill(), s.Close()); err != nil { // nothing in it is wanted any more
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func startServer(t testing.TB) *pgtest.Server {
	t.Helper()
	s, err := server()
	if errors.Is(err, pgtest.ErrMissing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// inPostgres makes sites, each in a schema of its own.
func inPostgres(server *pgtest.Server) func(t testing.TB, key *audit.LogKey) site {
	return func(t testing.TB, key *audit.LogKey) site {
		address := newSchema(server)
		return postgresAt(address, address[:len("postgres:")]+address[len(address)-8:], key)
	}
}

// newSchema returns the URL of a schema that does not exist yet.
func newSchema(server *pgtest.Server) string {
	return server.URL("postgres", "search_path=s_"+strings.ToLower(rand.Text()))
}

func postgresAt(address, name string, key *audit.LogKey) site {
	cfg := postgres.Config{URL: address, Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}}
	exec := func(t testing.TB, statements ...string) {
		t.Helper()
		c, err := pgx.Connect(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close(context.Background()) }()
		for _, s := range statements {
			if _, err := c.Exec(t.Context(), s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	return site{
		place: Place{Name: name, Remove: "DROP SCHEMA sega CASCADE",
			Open: func(ctx context.Context, _ bool) (End, error) {
				m, err := postgres.OpenMove(ctx, cfg)
				if err != nil {
					return nil, err
				}
				return m, nil
			}},
		open: func(ctx context.Context) (store.Log, error) {
			l, err := postgres.Open(ctx, cfg)
			if err != nil {
				return nil, err
			}
			return l, nil
		},
		exec: exec,
		remove: func(t testing.TB) {
			t.Helper()
			exec(t, `DO $$ BEGIN EXECUTE 'DROP SCHEMA ' || quote_ident(current_schema()) || ' CASCADE'; END $$`)
		},
	}
}
