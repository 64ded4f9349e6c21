package state_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/postgres"
	"sega/audit/sqlite"
	"sega/audit/store/backend"
	"sega/broker/state"
)

func (d db) version() (version int) {
	d.t.Helper()
	want(d, func(ctx context.Context, q state.Querier) (error, error) {
		return nil, q.QueryRowContext(ctx, `SELECT version FROM state_version`).Scan(&version)
	}, nil)
	return version
}

// migrate runs the schema as the backend does when it opens.
func (d db) migrate(ctx context.Context, q state.Querier) error {
	for _, ddl := range state.Schema {
		if _, is := d.log.(*postgres.Log); is {
			ddl = postgres.Translate(ddl)
		}
		if _, err := q.ExecContext(ctx, ddl); err != nil {
			return err
		}
	}
	return nil
}

func exec(query string, args ...any) func(context.Context, state.Querier) error {
	return func(ctx context.Context, q state.Querier) error {
		_, err := q.ExecContext(ctx, query, args...)
		return err
	}
}

// TestNewerState: a database that a newer program has changed is left alone.
func TestNewerState(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		if got := d.version(); got != state.Version {
			t.Fatalf("a new database has version %d, want %d", got, state.Version)
		}
		d.write(exec(`UPDATE state_version SET version=?`, state.Version+1))
		d.write(exec(`DROP TABLE probe`)) // the newer one has no use for it
		err := d.try(d.migrate)
		if err == nil || !strings.Contains(err.Error(), "state_is_of_a_newer_segad_run_that_one") {
			t.Errorf("got %v", err)
		}
		if got := d.version(); got != state.Version+1 {
			t.Errorf("the version is %d now", got)
		}
		if _, err := read(d, func(ctx context.Context, q state.Querier) (n int, err error) {
			return n, q.QueryRowContext(ctx, `SELECT count(*) FROM probe`).Scan(&n)
		}); err == nil {
			t.Error("a table of the older version was made")
		}
	})
}

// TestOlderState: the reports of version 1 are known still, and are forgotten in their time.
func TestOlderState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sega.db")
	key, err := audit.GenerateLogKey("sega.example/log")
	if err != nil {
		t.Fatal(err)
	}
	old := []string{`CREATE TABLE IF NOT EXISTS reports (id TEXT PRIMARY KEY) STRICT`, `INSERT INTO reports VALUES ('mch_1/a') ON CONFLICT DO NOTHING`}
	for _, schema := range [][]string{old, state.Schema, state.Schema} {
		log, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: schema}})
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	log, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	d := db{t, log}
	if err := d.try(use("mch_1/a", noon)); !errors.Is(err, state.ErrExists) {
		t.Errorf("a report of version 1 was taken again: %v", err)
	}
	sweep := func(now time.Time) {
		d.write(func(ctx context.Context, q state.Querier) error {
			return state.DropReports(ctx, q, now.Add(-time.Hour), now)
		})
	}
	sweep(noon)
	if err := d.try(use("mch_1/a", noon)); !errors.Is(err, state.ErrExists) {
		t.Errorf("the first sweep forgot a report that has no time: %v", err)
	}
	sweep(noon.Add(time.Hour + time.Millisecond))
	if err := d.try(use("mch_1/a", noon)); err != nil {
		t.Errorf("the report is known still: %v", err)
	}
}

func use(id string, at time.Time) func(context.Context, state.Querier) error {
	return func(ctx context.Context, q state.Querier) error { return state.UseReport(ctx, q, id, at) }
}

// TestDropReports forgets reports of before a time, and no other.
func TestDropReports(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		d.write(use("old", noon.Add(-time.Millisecond)))
		d.write(use("kept", noon))
		d.write(func(ctx context.Context, q state.Querier) error { return state.DropReports(ctx, q, noon, noon) })
		if err := d.try(use("old", noon)); err != nil {
			t.Errorf("an old report is known still: %v", err)
		}
		if err := d.try(use("kept", noon)); !errors.Is(err, state.ErrExists) {
			t.Errorf("a report was forgotten too soon: %v", err)
		}
	})
}

// TestEndedEra (R10): a serial of a block that was taken before a recovery is worth nothing after it.
func TestEndedEra(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		before := d.reserve("access", 1000)
		d.write(func(ctx context.Context, q state.Querier) error { return state.Recover(ctx, q, noon) })
		now := d.reserve("access", 1000)
		add := func(profile string, s serials) error {
			return d.try(func(ctx context.Context, q state.Querier) error {
				return state.AddCert(ctx, q, cert(profile, uint64(s.Era)<<32|uint64(s.First), login("ses_1"), noon))
			})
		}
		if err := add("access", before); !errors.Is(err, state.ErrExists) {
			t.Errorf("a serial of the ended era was taken: %v", err)
		}
		if err := add("access", now); err != nil {
			t.Errorf("a serial of the present era was refused: %v", err)
		}
	})
}

// TestOlderSSH: sessions of version 2 take the labels that their host has at the first start of this
// program, once; where there is no such host any more they stay unknown.
func TestOlderSSH(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		d := open(t)
		add := func(id, host string, labels map[string]string) {
			d.write(func(ctx context.Context, q state.Querier) error {
				return state.AddSSH(ctx, q, state.SSHSession{ID: id, Host: host, Labels: labels})
			})
		}
		add("ssh_old", "web-1", nil)
		add("ssh_bare", "bare-1", nil)
		add("ssh_gone", "gone-1", nil)
		d.write(exec(`DELETE FROM ssh_labels`)) // a database of version 2 has no such table
		d.write(d.migrate)
		add("ssh_new", "web-1", map[string]string{"env": "prod"})
		labels := func(want map[string]map[string]string) {
			t.Helper()
			for id, want := range want {
				got, err := read(d, func(ctx context.Context, q state.Querier) (state.SSHSession, error) {
					return state.SSHByID(ctx, q, id)
				})
				if diff := cmp.Diff(want, got.Labels); err != nil || diff != "" {
					t.Errorf("%s: %v -want +got\n%s", id, err, diff)
				}
			}
		}
		prod, dev, none := map[string]string{"env": "prod"}, map[string]string{"env": "dev"}, map[string]string{}
		labels(map[string]map[string]string{"ssh_old": nil, "ssh_bare": nil, "ssh_gone": nil, "ssh_new": prod})
		want(d, state.UnsettledSSH, true)
		settle := func(hosts map[string]map[string]string) {
			d.write(func(ctx context.Context, q state.Querier) error { return state.SettleSSHLabels(ctx, q, hosts) })
		}
		settle(map[string]map[string]string{"web-1": dev, "bare-1": nil})
		want(d, state.UnsettledSSH, false)
		after := map[string]map[string]string{"ssh_old": dev, "ssh_bare": none, "ssh_gone": nil, "ssh_new": prod}
		labels(after)
		d.write(d.migrate)
		settle(map[string]map[string]string{"gone-1": dev, "web-1": prod})
		labels(after)
	})
}
