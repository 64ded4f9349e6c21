package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/keychain/secret"
)

func TestParseDatabase(t *testing.T) {
	for _, name := range []string{"PGHOST", "PGSSLMODE", "PGSERVICE", "PGPASSWORD", "PGSSLROOTCERT"} {
		t.Setenv(name, "")
	}
	for name, c := range map[string]struct {
		in   string
		want Database
		err  string
	}{
		"path":                          {in: "sega.db", want: Database{SQLite: "/etc/sega/sega.db"}},
		"absolute path":                 {in: "/var/lib/sega.db", want: Database{SQLite: "/var/lib/sega.db"}},
		"path with a colon":             {in: "a:b", want: Database{SQLite: "/etc/sega/a:b"}},
		"sqlite":                        {in: "sqlite:data/sega.db", want: Database{SQLite: "/etc/sega/data/sega.db"}},
		"verified TLS":                  {in: "postgres://sega@db.corp.example/sega?sslmode=verify-full", want: Database{Postgres: "postgres://sega@db.corp.example/sega?sslmode=verify-full"}},
		"other scheme of libpq":         {in: "postgresql://sega@db.corp.example/sega?sslmode=require", want: Database{Postgres: "postgresql://sega@db.corp.example/sega?sslmode=require"}},
		"Unix socket":                   {in: "postgres:///sega?host=/run/postgresql&user=sega", want: Database{Postgres: "postgres:///sega?host=/run/postgresql&user=sega"}},
		"loopback":                      {in: "postgres://sega@127.0.0.1:5433/sega?sslmode=disable", want: Database{Postgres: "postgres://sega@127.0.0.1:5433/sega?sslmode=disable"}},
		"loopback, IPv6":                {in: "postgres://sega@[::1]/sega", want: Database{Postgres: "postgres://sega@[::1]/sega"}},
		"two hosts with TLS":            {in: "postgres://sega@a.example:5432,b.example:5432/sega?sslmode=verify-full", want: Database{Postgres: "postgres://sega@a.example:5432,b.example:5432/sega?sslmode=verify-full"}},
		"nothing":                       {err: "no path and no URL"},
		"remote, no word of TLS":        {in: "postgres://sega@db.corp.example/hunter2", err: "without TLS"},
		"remote, disable":               {in: "postgres://sega@db.corp.example/hunter2?sslmode=disable", err: "without TLS"},
		"remote, allow":                 {in: "postgres://sega@db.corp.example/hunter2?sslmode=allow", err: "without TLS"},
		"remote, prefer":                {in: "postgres://sega@db.corp.example/hunter2?sslmode=prefer", err: "without TLS"},
		"loopback's name in front":      {in: "postgres://sega@localhost,db.corp.example/hunter2?sslmode=prefer", err: "without TLS"},
		"host in the query":             {in: "postgres://sega@localhost/hunter2?host=db.corp.example&sslmode=disable", err: "without TLS"},
		"looks like loopback":           {in: "postgres://sega@127.0.0.1.example/hunter2?sslmode=disable", err: "without TLS"},
		"password":                      {in: "postgres://sega:hunter2@localhost/sega", err: "a password stands in the URL"},
		"password in the query":         {in: "postgres://sega@localhost/sega?password=hunter2", err: "a password stands in the URL"},
		"password of the key":           {in: "postgres://sega@localhost/sega?sslpassword=hunter2", err: "a password stands in the URL"},
		"keywords and a password":       {in: "host=localhost password=hunter2", err: "neither a path"},
		"another database":              {in: "mysql://hunter2@db/sega", err: "neither a path"},
		"sqlite without a path":         {in: "sqlite:", err: "neither a path"},
		"not a URL":                     {in: "postgres://%zz hunter2", err: "cannot be parsed"},
		"unknown TLS mode":              {in: "postgres://sega@localhost/sega?sslmode=hunter2", err: "not valid"},
		"certificate that is not there": {in: "postgres://sega@db.example/sega?sslmode=verify-full&sslrootcert=/nowhere/hunter2", err: "not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseDatabase("/etc/sega/broker.yaml", c.in)
			if c.err == "" {
				if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
					t.Errorf("%v\n-want +got\n%s", err, diff)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %q in it and nothing of the value", err, c.err)
			}
		})
	}
}

// TestParseDatabaseEnvironment: what libpq's environment adds counts as if it stood in the URL.
func TestParseDatabaseEnvironment(t *testing.T) {
	t.Setenv("PGHOST", "db.corp.example")
	t.Setenv("PGSSLMODE", "disable")
	if _, err := ParseDatabase("broker.yaml", "postgres:///sega"); err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("got %v", err)
	}
}

func TestDatabasePassword(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "db.pass"), []byte("s@cret/%\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "broker.yaml")
	password, err := Broker{DatabasePasswordFile: "db.pass"}.DatabasePassword(file)
	if err != nil {
		t.Fatal(err)
	}
	d := Database{Postgres: "postgres://sega@db.example/sega?sslmode=verify-full"}
	if got, err := d.URL(password); err != nil || string(got.Reveal()) != "postgres://sega:s%40cret%2F%25@db.example/sega?sslmode=verify-full" {
		t.Errorf("got %q, %v", got.Reveal(), err)
	}
	if got, err := d.URL(secret.Secret{}); err != nil || string(got.Reveal()) != d.Postgres {
		t.Errorf("without a password: %q, %v", got.Reveal(), err)
	}
	if _, err := (Database{Postgres: "postgres://db.example/sega"}).URL(password); err == nil || !strings.Contains(err.Error(), "no user") {
		t.Errorf("a password for nobody: %v", err)
	}
	if _, err := (Broker{DatabasePasswordFile: "missing"}).DatabasePassword(file); err == nil {
		t.Error("a password's file that is missing was taken for none")
	}
	if got, err := (Broker{}).DatabasePassword(file); err != nil || !got.Empty() {
		t.Errorf("got %q, %v", got.Reveal(), err)
	}
}

// FuzzParseDatabase: whatever is taken reads back as itself, and nothing with a password is taken.
func FuzzParseDatabase(f *testing.F) {
	for _, seed := range []string{"sega.db", "sqlite:x", "postgres://a@localhost/b", "postgres://a:hunter2@localhost/b", "postgresql://[::1]:5432/?sslmode=disable", "a://b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := ParseDatabase("/etc/sega/broker.yaml", in)
		if err != nil {
			return
		}
		if (got.SQLite == "") == (got.Postgres == "") {
			t.Fatalf("%q is %+v", in, got)
		}
		again, err := ParseDatabase("/elsewhere/broker.yaml", got.String())
		if err != nil || again != got {
			t.Errorf("%q became %+v, %v", got, again, err)
		}
	})
}

func TestMarkFile(t *testing.T) {
	const file = "/etc/sega/broker.yaml"
	for mark, want := range map[string]string{"": "/etc/sega/broker.yaml.mark", "broker.mark": "/etc/sega/broker.mark", "/var/lib/sega/mark": "/var/lib/sega/mark"} {
		if got := (Broker{Mark: mark}).MarkFile(file); got != want {
			t.Errorf("mark %q is at %s, want %s", mark, got, want)
		}
	}
}
