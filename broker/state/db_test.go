package state_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/postgres"
	"sega/audit/postgres/pgtest"
	"sega/audit/sqlite"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/broker/state"
)

const (
	issuer = "https://idp.example"
	alice  = "00u-alice"
)

// noon is a whole millisecond: finer times do not survive being stored.
var noon = time.Date(2030, 1, 2, 12, 0, 0, 5e6, time.UTC)

// db is a real database under a real log, so that the schema is the one the broker runs.
type db struct {
	t   testing.TB
	log store.Log
}

// opener opens a fresh database of one backend.
type opener func(t testing.TB) db

// onEach runs a test on every backend that ships.
func onEach(t *testing.T, test func(t *testing.T, open opener)) {
	t.Helper()
	for _, b := range []struct {
		name string
		open func(t testing.TB, key *audit.LogKey) (store.Log, error)
	}{{"sqlite", onSQLite}, {"postgres", onPostgres}} {
		t.Run(b.name, func(t *testing.T) {
			test(t, func(t testing.TB) db {
				t.Helper()
				key, err := audit.GenerateLogKey("sega.example/log")
				if err != nil {
					t.Fatal(err)
				}
				log, err := b.open(t, key)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := log.Close(); err != nil {
						t.Error(err)
					}
				})
				return db{t, log}
			})
		})
	}
}

func onSQLite(t testing.TB, key *audit.LogKey) (store.Log, error) {
	return sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "sega.db"), Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}})
}

// server is one for all tests; each database is another.
var server = sync.OnceValues(func() (*pgtest.Server, error) { return pgtest.Run("") })

func TestMain(m *testing.M) {
	code := m.Run()
	if s, err := server(); err == nil {
		if err := errors.Join(s.Kill(), s.Close()); err != nil { // nothing in it is wanted any more
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func onPostgres(t testing.TB, key *audit.LogKey) (store.Log, error) {
	s, err := server()
	if errors.Is(err, pgtest.ErrMissing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		return nil, err
	}
	return postgres.Open(t.Context(), postgres.Config{URL: s.URL("postgres", "search_path=s_"+strings.ToLower(rand.Text())), Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}})
}

// try writes in a transaction of the committer and returns its error.
func (d db) try(f func(ctx context.Context, q state.Querier) error) error {
	_, err := d.log.Append(context.Background(), nil, func(ctx context.Context, tx store.Tx) error { return f(ctx, tx) })
	return err
}

func (d db) write(f func(ctx context.Context, q state.Querier) error) {
	d.t.Helper()
	if err := d.try(f); err != nil {
		d.t.Fatal(err)
	}
}

// read reads in a transaction of its own, as the broker does.
func read[T any](d db, f func(ctx context.Context, q state.Querier) (T, error)) (v T, err error) {
	d.t.Helper()
	err = d.log.Read(context.Background(), func(ctx context.Context, tx store.Querier) error {
		v, err = f(ctx, tx)
		return err
	})
	return v, err
}

// want compares what a read gives, whole.
func want[T any](d db, f func(ctx context.Context, q state.Querier) (T, error), wanted T) {
	d.t.Helper()
	got, err := read(d, f)
	if err != nil {
		d.t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		d.t.Errorf("-want +got\n%s", diff)
	}
}

func wantErr[T any](d db, f func(ctx context.Context, q state.Querier) (T, error), wanted error) {
	d.t.Helper()
	if got, err := read(d, f); !errors.Is(err, wanted) {
		d.t.Errorf("got %v, %v, want %v", got, err, wanted)
	}
}

// login is a whole session of alice; change alters it.
func login(id string, change ...func(*state.Session)) state.Session {
	s := state.Session{ID: id, Kind: state.KindLogin, TokenHash: []byte("hash of " + id), Thumbprint: "thumb-" + id, Issuer: issuer, Subject: alice,
		Email: "alice@example.com", Name: "Alice", Groups: []string{"engineering", "on call"}, Method: "browser", MFA: true, AuthTime: noon.Add(-time.Minute), Nonce: "n-" + id,
		Source: "192.0.2.7", Client: "sega/1", Created: noon, Expires: noon.Add(time.Hour), NotAfter: noon.Add(12 * time.Hour), Epoch: 1, Rev: 1}
	for _, f := range change {
		f(&s)
	}
	return s
}

func bearer(s state.Session) state.Bearer {
	return state.Bearer{LoginID: s.ID, Issuer: s.Issuer, Subject: s.Subject, Epoch: s.Epoch, Rev: s.Rev}
}

// TestSchemaTwice: the DDL runs on every start.
func TestSchemaTwice(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		d.write(func(ctx context.Context, q state.Querier) error { return state.AddSession(ctx, q, login("ses_1")) })
		d.write(d.migrate)
		want(d, func(ctx context.Context, q state.Querier) (state.Session, error) {
			return state.SessionByID(ctx, q, "ses_1")
		}, login("ses_1"))
	})
}

func TestTimes(t *testing.T) {
	for _, at := range []time.Time{{}, noon, time.Unix(0, 1e6).UTC(), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if got := state.Time(state.Millis(at)); !got.Equal(at) || got.IsZero() != at.IsZero() {
			t.Errorf("%v came back as %v", at, got)
		}
	}
	if got := state.Time(state.Millis(noon.In(time.FixedZone("x", 3600)))); got != noon {
		t.Errorf("a time of another zone came back as %v", got)
	}
}
