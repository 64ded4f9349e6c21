package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sega/audit"
	"sega/audit/postgres/pgtest"
	"sega/audit/store"
	"sega/audit/store/storetest"
)

// refused opens a log that must not open, and returns why.
func refused(t *testing.T, cfg Config) error {
	t.Helper()
	l, err := Open(t.Context(), cfg)
	if err == nil {
		_ = l.Close()
		t.Fatal("it opened")
	}
	return err
}

// TestNotDurable opens databases whose commits could be lost (design R10).
func TestNotDurable(t *testing.T) {
	s := server(t)
	exec := func(t *testing.T, db string, text ...string) {
		t.Helper()
		if err := s.Exec(t.Context(), db, text...); err != nil {
			t.Fatal(err)
		}
	}
	for name, makeURL := range map[string]func(t *testing.T, db string) string{
		"session": func(_ *testing.T, db string) string { return s.URL(db, "synchronous_commit=off") },
		"options": func(_ *testing.T, db string) string { return s.URL(db, "options=-c synchronous_commit=off") },
		"database": func(t *testing.T, db string) string {
			exec(t, db, `ALTER DATABASE "`+db+`" SET synchronous_commit = off`)
			return s.URL(db)
		},
		"role": func(t *testing.T, db string) string {
			role := strings.ToLower(db)
			exec(t, db, `CREATE ROLE `+role+` LOGIN SUPERUSER PASSWORD 'x'`, `ALTER ROLE `+role+` SET synchronous_commit = off`)
			u, err := url.Parse(s.URL(db))
			if err != nil {
				t.Fatal(err)
			}
			u.User = url.UserPassword(role, "x")
			return u.String()
		},
	} {
		t.Run("synchronous_commit off for the "+name, func(t *testing.T) {
			db := s.NewDatabase(t)
			err := refused(t, config(t, makeURL(t, db)))
			if !errors.Is(err, errUnfit) || !strings.Contains(err.Error(), "synchronous_commit is off") {
				t.Errorf("got %v", err)
			}
		})
	}
	for _, setting := range []string{"fsync=off", "full_page_writes=off", "synchronous_commit=off"} {
		t.Run(setting, func(t *testing.T) {
			unsafe := pgtest.Start(t, setting)
			err := refused(t, config(t, unsafe.URL("postgres")))
			if !errors.Is(err, errUnfit) || !strings.Contains(err.Error(), strings.TrimSuffix(setting, "=off")+" is off") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestBecomesUnsafe restarts a server with fsync off, and as a standby, under an open log.
func TestBecomesUnsafe(t *testing.T) {
	server(t) // or skip
	s := pgtest.Start(t)
	l := openTest(t, config(t, s.URL("postgres")))
	o := newTold()
	if err := o.append(l, testEvent(1), true); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart("fsync=off"); err != nil {
		t.Fatal(err)
	}
	if err := o.append(l, testEvent(2), true); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, errUnfit) {
		t.Errorf("with fsync off: %v", err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(s.Dir, "data", "standby.signal")
	if err := os.WriteFile(mark, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart("fsync=on"); err != nil {
		t.Fatal(err)
	}
	if err := o.append(l, testEvent(3), true); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), "standby") {
		t.Errorf("on a standby: %v", err)
	}
	if err := refused(t, config(t, s.URL("postgres"))); !errors.Is(err, errUnfit) {
		t.Errorf("opened on a standby: %v", err)
	}
	if err := errors.Join(s.Stop(), os.Remove(mark), s.Restart()); err != nil {
		t.Fatal(err)
	}
	if err := o.append(l, testEvent(4), true); err != nil {
		t.Errorf("after all was well again: %v", err)
	}
	o.judge(t, l, true)
}

// TestReload turns settings off under an open connection. The level of commits is the session's own
// by then; without fsync nothing is acknowledged.
func TestReload(t *testing.T) {
	server(t) // or skip
	s := pgtest.Start(t)
	l := openTest(t, config(t, s.URL("postgres")))
	o := newTold()
	set := func(text string) {
		t.Helper()
		if err := s.Exec(t.Context(), "postgres", `ALTER SYSTEM `+text, `SELECT pg_reload_conf()`); err != nil {
			t.Fatal(err)
		}
	}
	set(`SET synchronous_commit = off`)
	set(`SET fsync = off`)
	eventually(t, "the settings arrive", func() error {
		if err := o.append(l, testEvent(1), true); !errors.Is(err, errUnfit) {
			return fmt.Errorf("appended: %v", err)
		}
		return nil
	})
	set(`RESET fsync`)
	if err := refused(t, config(t, s.URL("postgres"))); !strings.Contains(err.Error(), "synchronous_commit is off") {
		t.Errorf("got %v", err)
	}
	set(`RESET synchronous_commit`)
	eventually(t, "the settings are back", func() error { return o.append(l, testEvent(2), true) })
	set(`SET synchronous_commit = off`)
	eventually(t, "the setting arrives elsewhere", func() error {
		err := s.Exec(t.Context(), "postgres", `SELECT 1 / (current_setting('synchronous_commit') = 'off')::int`)
		return err
	})
	_, err := l.Append(t.Context(), nil, func(ctx context.Context, tx store.Tx) error {
		var level string
		if err := tx.QueryRowContext(ctx, `SELECT current_setting('synchronous_commit')`).Scan(&level); err != nil || level != "on" {
			t.Errorf("commits are of the level %q, %v", level, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	o.judge(t, l, false)
}

// TestDisagrees opens databases that a crash, half a backup or somebody's hand has left.
func TestDisagrees(t *testing.T) {
	s := server(t)
	for name, c := range map[string]struct{ change, want string }{
		"event missing":     {`DELETE FROM sega.events WHERE idx = 4`, "the events end at 4"},
		"event beyond":      {`UPDATE sega.head SET size = 4`, "the stored hashes give"},
		"last body changed": {`UPDATE sega.events SET body = '{}' WHERE idx = 4`, "not the one in the tree"},
		"hashes changed":    {`UPDATE sega.tree SET hashes = set_byte(hashes, 192, get_byte(hashes, 192) # 255)`, "the stored hashes give"},
		"hashes cut":        {`UPDATE sega.tree SET hashes = substr(hashes, 1, 64)`, "missing"},
		"checkpoint forged": {`UPDATE sega.head SET checkpoint = 'x'`, "checkpoint"},
		"head gone":         {`DELETE FROM sega.head`, "begin"},
		"unlogged":          {`ALTER TABLE sega.tree SET UNLOGGED`, "unlogged"},
		"newer version":     {`UPDATE sega.log_version SET version = 99`, "schema version 99"},
	} {
		t.Run(name, func(t *testing.T) {
			db := s.NewDatabase(t)
			cfg := config(t, s.URL(db))
			l := openTest(t, cfg)
			for i := range 5 {
				if _, err := l.Append(t.Context(), []audit.Event{testEvent(i)}, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if err := s.Exec(t.Context(), db, c.change); err != nil {
				t.Fatal(err)
			}
			if err := refused(t, cfg); !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	t.Run("another key", func(t *testing.T) {
		cfg := config(t, s.URL(s.NewDatabase(t)))
		if err := openTest(t, cfg).Close(); err != nil {
			t.Fatal(err)
		}
		key, err := audit.GenerateLogKey("log.corp.example/audit")
		if err != nil {
			t.Fatal(err)
		}
		cfg.Signer, cfg.Verifier = key, key.Verifier()
		if err := refused(t, cfg); !strings.Contains(err.Error(), "checkpoint") {
			t.Errorf("got %v", err)
		}
	})
}

// TestNoPassword looks for the password in whatever is said about a database that cannot be opened.
func TestNoPassword(t *testing.T) {
	s := server(t)
	const canary = "correct-horse"
	u, err := url.Parse(s.URL(s.NewDatabase(t)))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("sega", canary)
	for name, text := range map[string]string{
		"wrong password":     u.String(),
		"no server":          "postgres://sega:" + canary + "@127.0.0.1:1/db",
		"port is the secret": "postgres://sega@127.0.0.1:" + canary + "/db",
		"broken escape":      "postgres://sega:" + canary + "%zz@127.0.0.1/db",
		"no url":             "host=127.0.0.1 password=" + canary,
		"sslmode":            "postgres://sega:" + canary + "@127.0.0.1/db?sslmode=" + canary,
		"search path":        "postgres://sega:" + canary + "@127.0.0.1/db?search_path=pg_x",
	} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			cfg := config(t, text)
			cfg.Log = slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
			err := refused(t, cfg)
			cfg.Log.Error("x", "config", cfg, "error", err)
			for _, said := range []string{err.Error(), fmt.Sprintf("%v %+v %#v %s %d %q %x", cfg, cfg, &cfg, cfg, cfg, cfg, cfg), logged.String()} {
				if strings.Contains(said, canary) || strings.Contains(said, fmt.Sprintf("%x", canary)) {
					t.Errorf("the password is in %s", said)
				}
			}
		})
	}
}

// TestSchemaName makes the tables in the schema that the URL names.
func TestSchemaName(t *testing.T) {
	s := server(t)
	db := s.NewDatabase(t)
	for _, name := range []string{"public", "Audit Log"} {
		l := openTest(t, config(t, s.URL(db, `search_path="`+name+`", other`)))
		if _, err := l.Append(t.Context(), []audit.Event{testEvent(1)}, nil); err != nil {
			t.Fatal(err)
		}
		storetest.Verify(t, l, testKey(t).Verifier())
		if err := s.Exec(t.Context(), db, `SELECT 1 / (size = 1)::int FROM "`+name+`".head`); err != nil {
			t.Error(err)
		}
	}
}

// TestConfig refuses what cannot work.
func TestConfig(t *testing.T) {
	good := config(t, "postgres://sega@127.0.0.1/db")
	other, err := audit.GenerateLogKey("log.corp.example/audit")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no url": func(c *Config) { c.URL = "" }, "no signer": func(c *Config) { c.Signer = nil }, "no verifier": func(c *Config) { c.Verifier = nil },
		"two keys": func(c *Config) { c.Verifier = other.Verifier() }, "negative batch": func(c *Config) { c.MaxBatch = -1 }, "negative reads": func(c *Config) { c.Reads = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			change(&cfg)
			if err := refused(t, cfg); !strings.Contains(err.Error(), "configuration") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestNoTrigrams opens a database whose role may make no extension: searches work, and it is said.
func TestNoTrigrams(t *testing.T) {
	s := server(t)
	db := s.NewDatabase(t)
	role := strings.ToLower(db)
	if err := s.Exec(t.Context(), db, `CREATE ROLE `+role+` LOGIN PASSWORD 'x'`, `CREATE SCHEMA sega AUTHORIZATION `+role); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(s.URL(db))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "x")
	var logged bytes.Buffer
	cfg := config(t, u.String())
	cfg.Log = slog.New(slog.NewTextHandler(&logged, nil))
	l := openTest(t, cfg)
	if !strings.Contains(logged.String(), "pg_trgm") {
		t.Errorf("nothing was said: %s", logged.String())
	}
	if err := newTold().append(l, testEvent(1), true); err != nil {
		t.Error(err)
	}
}

// TestEveryByte stores what PostgreSQL's texts cannot hold.
func TestEveryByte(t *testing.T) {
	s := server(t)
	l := openTest(t, config(t, s.URL(s.NewDatabase(t))))
	var events []audit.Event
	for _, s := range []string{"\x00", "a\x00b", "\x01", "\x010\x00", "\uFFFD", "\x7f", "\U0010FFFF", `\`} {
		e := withDetails(testEvent(1), `{"x":"`+strings.Repeat("é", 5)+`"}`)
		e.Actor.Email, e.Actor.Sub, e.Node, e.Reason = s, s, s, s
		events = append(events, e)
	}
	for len(events) < audit.SegmentSize+1 { // into the rollups
		events = append(events, events[len(events)%8])
		events[len(events)-1].ID = audit.NewID()
	}
	if _, err := l.Append(t.Context(), events, nil); err != nil {
		t.Fatal(err)
	}
	storetest.Verify(t, l, testKey(t).Verifier())
	storetest.CheckRollups(t, l)
	err := l.Read(t.Context(), func(ctx context.Context, q store.Querier) error {
		var n int
		err := q.QueryRowContext(ctx, `SELECT count(*) FROM events WHERE strpos(email, ?) > 0`, "\x01").Scan(&n)
		if err == nil && n == 0 {
			t.Error("nothing was escaped: the test tests nothing")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
