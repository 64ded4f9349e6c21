//go:build linux

package e2e

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/audit/postgres/pgtest"
	"sega/cmd/segad/dev/devtest"
)

// onServer returns the URL of a new database without its password, and the password's file.
func onServer(t *testing.T, server *pgtest.Server) (address, password string) {
	t.Helper()
	u, err := url.Parse(server.URL(server.NewDatabase(t)))
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	password = filepath.Join(t.TempDir(), "db.pass")
	if err := os.WriteFile(password, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return u.String(), password
}

// TestPostgres does the main job on PostgreSQL, then moves the log to SQLite and back: people, sessions and
// what their machines remember of the log go on as if nothing had been.
func TestPostgres(t *testing.T) {
	t.Parallel()
	devtest.Need(t, "ssh")
	server := pgtest.Start(t)
	first, password := onServer(t, server)
	e := devtest.UpWith(t, "--database", first, "--database-password", password)
	p, reviewer, security := e.LoggedIn(alice), e.LoggedIn(carol), e.LoggedIn(sam)
	mainJob(t, e, p, reviewer, "first")

	// SQLite
	file := filepath.Join(e.Data, "sega.db")
	config := filepath.Join(e.Data, "broker.yaml")
	before := reviewer.Events()
	expect(t, p.Run("segad", "audit", "migrate", "--config", config, "--to", "sqlite:"+file, "--yes"), 1, "in use")
	e.Stop()
	expect(t, p.Run("segad", "audit", "migrate", "--config", config, "--to", "sqlite:"+file), 2, "nothing was changed")
	if _, err := os.Stat(file); err == nil {
		t.Error("a plan has made the target")
	}
	expect(t, p.Run("segad", "audit", "migrate", "--config", config, "--to", "sqlite:"+file, "--yes"), 0, "database: sqlite:"+file)
	expect(t, p.Run("segad", "audit", "migrate", "--config", config, "--to", "sqlite:"+file, "--yes"), 1, "goes on there", "set database")
	e.Args = nil
	e.Start()
	after := reviewer.Events()
	if diff := cmp.Diff(before, after[:min(len(before), len(after))]); diff != "" {
		t.Errorf("the events before the move: %s", diff)
	}
	mainJob(t, e, p, reviewer, "second")

	// and PostgreSQL again
	e.Stop()
	next, password := onServer(t, server)
	expect(t, p.Run("segad", "audit", "migrate", "--config", config, "--to", strings.Replace(next, "sega@", "sega:hunter2@", 1), "--yes"), 1, "a password stands in the URL")
	expect(t, p.Run("segad", "audit", "migrate", "--config", config, "--to", first, "--to-password", password, "--yes"), 1, "not empty")
	expect(t, p.Run("segad", "audit", "migrate", "--config", config, "--to", next, "--to-password", password, "--yes"), 0, "database: postgres:")
	e.Args = []string{"--database", next, "--database-password", password}
	e.Start()
	mainJob(t, e, p, reviewer, "third")
	expect(t, security.Sega("revoke", "user", alice, "--yes", "--reason", "test"), 0)
	for _, argv := range [][]string{{"exec", "dev-admin", "--", "true"}, {"ssh", e.Host.Name, "--", "true"}} {
		if r := p.Sega(argv...); r.Code != 6 {
			t.Errorf("%q after the revocation: exit %d\n%s%s", argv, r.Code, r.Out, r.Err)
		}
	}
	expect(t, verify(reviewer), 0, "3 recordings")
}

// mainJob opens AWS and a host, finds both in the log, and verifies it against what the reviewer's
// machine remembers.
func mainJob(t *testing.T, e *devtest.Env, p, reviewer *devtest.Person, word string) {
	t.Helper()
	expect(t, p.Sega("exec", "dev-admin", "--", "true"), 0)
	expect(t, p.Sega("ssh", e.Host.Name, "--", "echo "+word), 0, word)
	expect(t, reviewer.Sega("audit", "play", ended(t, reviewer, "echo "+word), "--reason", "test"), 0, word)
	if len(reviewer.Events("--user", alice, "--kind", "aws.*")) == 0 {
		t.Errorf("%s: the credentials are no event", word)
	}
	expect(t, verify(reviewer), 0)
}
