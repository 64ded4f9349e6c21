package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sega/audit"
	"sega/audit/postgres/pgtest"
	"sega/audit/store"
)

// kept are the tables that a backup of these tests holds.
var kept = []string{"head", "tree", "events", "writers", "segments", "event_text"}

// backup keeps the tables of a log as they are.
func backup(t *testing.T, db string) {
	t.Helper()
	statements := []string{`CREATE SCHEMA old`}
	for _, name := range kept {
		statements = append(statements, `CREATE TABLE old.`+name+` AS TABLE sega.`+name)
	}
	if err := server(t).Exec(t.Context(), db, statements...); err != nil {
		t.Fatal(err)
	}
}

// restore puts back what backup kept, as a failover to a standby that was behind does.
func restore(t *testing.T, db string) {
	t.Helper()
	statement := `BEGIN`
	for _, name := range kept {
		statement += `; DELETE FROM sega.` + name + `; INSERT INTO sega.` + name + ` TABLE old.` + name
	}
	if err := server(t).Exec(t.Context(), db, statement+`; COMMIT`); err != nil {
		t.Fatal(err)
	}
}

// grownBy opens a log and appends, keeps a backup of it, and appends again.
func grownBy(t *testing.T, before, after int) (l *Log, db string) {
	t.Helper()
	db = server(t).NewDatabase(t)
	l = openTest(t, config(t, server(t).URL(db)))
	appendN(t, l, 0, before)
	backup(t, db)
	appendN(t, l, before, after)
	return l, db
}

func appendN(t *testing.T, l *Log, from, n int) {
	t.Helper()
	for i := range n {
		if _, err := l.Append(t.Context(), []audit.Event{testEvent(from + i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// refusesAll fails the test unless the log refuses to be appended to and to be read, as one that was set back.
func refusesAll(t *testing.T, l *Log) {
	t.Helper()
	if _, err := l.Append(t.Context(), []audit.Event{testEvent(900)}, nil); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, store.ErrSetBack) {
		t.Errorf("append: %v", err)
	}
	if err := l.Read(t.Context(), func(context.Context, store.Querier) error { return nil }); !errors.Is(err, store.ErrUnreadable) || !errors.Is(err, store.ErrSetBack) {
		t.Errorf("read: %v", err)
	}
}

// TestSetBack: a database that was set back beneath a log is not appended to, and the head that was signed stays.
func TestSetBack(t *testing.T) {
	for name, c := range map[string]struct {
		between func(t *testing.T, db string)
		lost    bool
	}{
		"nobody came between": {func(*testing.T, string) {}, true},
		"another broker went on": {func(t *testing.T, db string) {
			other := openTest(t, config(t, server(t).URL(db)))
			appendN(t, other, 100, 7) // more than were lost: the size alone tells nothing
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			l, db := grownBy(t, 3, 2)
			_, signed := l.Head()
			restore(t, db)
			c.between(t, db)
			refusesAll(t, l)
			if _, now := l.Head(); now != signed {
				t.Errorf("the head moved from %d to %d events", signed.N, now.N)
			}
			again := openTest(t, config(t, server(t).URL(db)))
			appendN(t, again, 200, 5)
			refusesAll(t, l) // although it may look like a continuation by now
		})
	}
}

// TestSetBackIdle: a log that appends nothing notices too, by looking at the head.
func TestSetBackIdle(t *testing.T) {
	for name, c := range map[string]int{"nobody came between": 0, "another broker went on": 4} {
		t.Run(name, func(t *testing.T) {
			l, db := grownBy(t, 3, 2)
			_, signed := l.Head()
			restore(t, db)
			if c > 0 {
				appendN(t, openTest(t, config(t, server(t).URL(db))), 100, c)
			}
			for late := time.Now().Add(10 * time.Second); l.known.Err() == nil; time.Sleep(followTime / 10) {
				if time.Now().After(late) {
					t.Fatal("it did not notice")
				}
			}
			refusesAll(t, l)
			if _, now := l.Head(); now != signed {
				t.Errorf("the head moved from %d to %d events", signed.N, now.N)
			}
		})
	}
}

// TestNotSetBack: what another process has appended, and a restore of all that there is, is no reason to refuse.
func TestNotSetBack(t *testing.T) {
	l, db := grownBy(t, 3, 0)
	other := openTest(t, config(t, server(t).URL(db)))
	restore(t, db)
	for i := range 20 {
		appendN(t, other, 100+3*i, 2)
		appendN(t, l, 102+3*i, 1)
	}
	if err := errors.Join(l.known.Err(), other.known.Err()); err != nil {
		t.Error(err)
	}
}

// TestVisibleIsNotReplicated: a commit that others can see while the standby does not have it yet is not
// acknowledged when its own answer was lost, before a later commit is with the standby.
func TestVisibleIsNotReplicated(t *testing.T) {
	s := pgtest.Start(t)
	db := s.NewDatabase(t)
	l := openTest(t, config(t, s.URL(db)))
	appendN(t, l, 0, 1)
	admin, err := pgx.Connect(t.Context(), s.URL(db))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.WithoutCancel(t.Context()))
	standbys(t, admin, "nobody")
	awaitStandbys(t, admin, s.URL(db))
	answer := make(chan error, 1)
	go func() {
		_, err := l.Append(context.Background(), []audit.Event{testEvent(1)}, nil)
		answer <- err
	}()
	first := awaitReplication(t, admin, 0, answer)
	if _, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend($1)`, first); err != nil {
		t.Fatal(err)
	}
	awaitReplication(t, admin, first, answer) // another commit waits in its place
	standbys(t, admin, "")
	if err := <-answer; err != nil {
		t.Errorf("the append was refused, although it is with every standby that there is: %v", err)
	}
	if _, tree := l.Head(); tree.N != 2 {
		t.Errorf("the log has %d events, want 2", tree.N)
	}
}

func standbys(t *testing.T, admin *pgx.Conn, names string) {
	t.Helper()
	for _, text := range []string{`ALTER SYSTEM SET synchronous_standby_names = '` + names + `'`, `SELECT pg_reload_conf()`} {
		if _, err := admin.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitStandbys waits until commits wait for a standby: the server takes a setting up in its own time.
func awaitStandbys(t *testing.T, admin *pgx.Conn, url string) {
	t.Helper()
	probe, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = probe.Exec(context.Background(), `SELECT pg_current_xact_id()`)
		}
		ended <- errors.Join(err, probe.Close(context.Background()))
	}()
	pid := awaitReplication(t, admin, 0, ended)
	if _, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend($1)`, pid); err != nil {
		t.Fatal(err)
	}
	<-ended
}

// awaitReplication returns a backend, another one than the last, whose commit waits for a standby.
func awaitReplication(t *testing.T, admin *pgx.Conn, last int32, answer <-chan error) (pid int32) {
	t.Helper()
	for late := time.After(20 * time.Second); ; {
		err := admin.QueryRow(t.Context(), `SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid <> $1`, last).Scan(&pid)
		if err == nil {
			return pid
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			t.Fatal(err)
		}
		select {
		case err := <-answer:
			t.Fatalf("answered while no standby has it: %v", err)
		case <-late:
			t.Fatal("no commit waits for a standby")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
