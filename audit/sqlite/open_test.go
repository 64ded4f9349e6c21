package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/audit/store/storetest"
)

func testEvent(n int) audit.Event {
	e := audit.New(time.Unix(1_770_000_000, int64(n)), audit.KindSSHCert, audit.Success)
	e.Actor = audit.Actor{Kind: audit.ActorUser, Sub: fmt.Sprint("00u", n), Email: fmt.Sprintf("user%d@corp.example", n)}
	return e
}

// filled makes a closed database of n events and returns its path.
func filled(t *testing.T, n int) string {
	t.Helper()
	return filledBy(t, n, n)
}

// filledBy makes a closed database of n events of so many people.
func filledBy(t *testing.T, n, people int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.db")
	l, err := tryOpen(t, Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	var events []audit.Event
	for i := range n {
		events = append(events, testEvent(i%people))
	}
	if _, err := l.Append(t.Context(), events, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// meddle runs statements on a database as its owner could with any tool.
func meddle(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meddle []string
		want   string
	}{
		"last event gone":      {[]string{`DELETE FROM events WHERE idx = 99`}, "the events end at 99, the head says 100"},
		"event beyond the end": {[]string{`INSERT INTO events SELECT 100, 'x', time, kind, outcome, actor_kind, iss, sub, email, login_id, session_id, action, resource, source, node, body, salt, details FROM events WHERE idx = 5`}, "the events end at 101"},
		"all events gone":      {[]string{`DELETE FROM events`}, "the events end at 0"},
		"last event changed":   {[]string{`UPDATE events SET body = x'00' WHERE idx = 99`}, "event 99 is not the one in the tree"},
		"stored hash changed":  {[]string{`UPDATE tree SET hashes = zeroblob(2048) WHERE chunk = 1`}, "the stored hashes give the root"},
		"stored hashes gone":   {[]string{`DELETE FROM tree WHERE chunk = 3`}, "stored hash 196 is missing"},
		"stored hashes longer": {[]string{`UPDATE tree SET hashes = cast(hashes || zeroblob(32) AS BLOB) WHERE chunk = 3`}, "the last stored hashes have"},
		"head gone":            {[]string{`DELETE FROM head`}, "read the head"},
		"head set back":        {[]string{`UPDATE head SET size = 64`}, "the stored hashes give the root"},
		"root changed":         {[]string{`UPDATE head SET root = zeroblob(32)`}, "the stored hashes give the root"},
		"root cut":             {[]string{`UPDATE head SET root = zeroblob(31)`}, "the root of the log has 31 bytes"},
		"checkpoint changed":   {[]string{`UPDATE head SET checkpoint = cast(replace(cast(checkpoint AS TEXT), char(10) || '100' || char(10), char(10) || '101' || char(10)) AS BLOB)`}, "not a checkpoint of this log"},
		"newer schema":         {[]string{`PRAGMA user_version = 4`}, "schema version 4"},
		"table replaced":       {[]string{`DROP TABLE tree`, `CREATE TABLE tree (x)`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filled(t, 100)
			meddle(t, path, c.meddle...)
			l, err := tryOpen(t, Config{Path: path})
			if err == nil {
				l.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestOpenRefusesOtherKey(t *testing.T) {
	path := filled(t, 3)
	key, err := audit.GenerateLogKey(testKey(t).Name())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Path: path, Options: backend.Options{Signer: key, Verifier: key.Verifier()}}); !errors.Is(err, audit.ErrCheckpoint) {
		t.Errorf("got %v", err)
	}
	if _, err := Open(t.Context(), Config{Path: path, Options: backend.Options{Signer: key, Verifier: testKey(t).Verifier()}}); err == nil {
		t.Error("opened with the signer of one key and the verifier of another")
	}
}

func TestOpenRefusesWeakDurability(t *testing.T) {
	for name, c := range map[string]struct{ query, want string }{
		"as Open sets it": {"_pragma=synchronous(FULL)&_pragma=foreign_keys(1)", ""},
		"synchronous":     {"_pragma=synchronous(NORMAL)&_pragma=foreign_keys(1)", "synchronous is 1, below FULL"},
		"off":             {"_pragma=synchronous(OFF)&_pragma=foreign_keys(1)", "synchronous is 0, below FULL"},
		"foreign keys":    {"_pragma=synchronous(FULL)&_pragma=foreign_keys(0)", "foreign keys are off"},
		"journal":         {"_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_pragma=journal_mode(DELETE)", "journal mode is"},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := sql.Open("sqlite", filled(t, 1)+"?"+c.query)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			err = checkDurable(t.Context(), db)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestOpenMode(t *testing.T) {
	path := filled(t, 1)
	l := openTest(t, Config{Path: path})
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", suffix, info.Mode(), err)
		}
	}
	_ = l
}

// TestStoredRowsTampered: what a reader gets is what is stored, so that verification sees it.
func TestStoredRowsTampered(t *testing.T) {
	for name, c := range map[string]struct{ meddle, want string }{
		"column":       {`UPDATE events SET email = 'eve@corp.example' WHERE idx = 40`, "column email"},
		"outcome":      {`UPDATE events SET outcome = 'intent' WHERE idx = 40`, "column outcome"},
		"time":         {`UPDATE events SET time = time + 1 WHERE idx = 40`, "column time"},
		"body":         {`UPDATE events SET body = cast(replace(body, '00u40', '00u41') AS BLOB) WHERE idx = 40`, "column sub"},
		"details":      {`UPDATE events SET details = x'00' WHERE idx = 40`, "column details"},
		"salt":         {`UPDATE events SET salt = zeroblob(32) WHERE idx = 40`, "column salt"},
		"row gone":     {`DELETE FROM events WHERE idx = 40`, "events 40 to 40 are missing"},
		"rows swapped": {`UPDATE events SET idx = CASE idx WHEN 40 THEN -1 ELSE 40 END WHERE idx IN (40, 41)`, "comes again"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filled(t, 100)
			meddle(t, path, c.meddle)
			l := openTest(t, Config{Path: path})
			_, tree := l.Head()
			report, err := audit.VerifyLog(l.Rows(t.Context(), -10, tree.N), tree, nil)
			if err != nil || report.OK() {
				t.Fatalf("not detected: %+v, %v", report, err)
			}
			if text := fmt.Sprint(report.Problems); !strings.Contains(text, c.want) {
				t.Errorf("problems are %s, want %q", text, c.want)
			}
		})
	}
}

// TestOtherWriter: a second process on one database is served in turn, and neither forks the log.
func TestOtherWriter(t *testing.T) {
	path := filled(t, 1)
	a, b := openTest(t, Config{Path: path}), openTest(t, Config{Path: path})
	for i := range 40 {
		l := []*Log{a, b}[i/3%2]
		if first, err := l.Append(t.Context(), []audit.Event{testEvent(i)}, nil); err != nil || first != int64(i+1) {
			t.Fatalf("append %d got index %d, %v", i, first, err)
		}
	}
	if _, err := a.Append(t.Context(), []audit.Event{testEvent(0)}, nil); err != nil {
		t.Fatal(err)
	}
	storetest.Verify(t, a, testKey(t).Verifier())
}

// TestWALIsTidied: the WAL stays bounded while a reader comes and goes.
func TestWALIsTidied(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.db")
	l := openTest(t, Config{Path: path})
	big := []byte(`"` + strings.Repeat("x", 900<<10) + `"`)
	for i := range 150 { // 135 MB, four times the limit
		e := testEvent(i)
		e.Details = big
		if _, err := l.Append(t.Context(), []audit.Event{e}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Root(t.Context(), l, int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path + "-wal")
	if err != nil || info.Size() > 2*walLimit*4096 {
		t.Errorf("the WAL has %d bytes, %v", info.Size(), err)
	}
	storetest.Verify(t, l, testKey(t).Verifier())
}

// BenchmarkVerify reads and verifies a whole log, as a reviewer's machine does.
func BenchmarkVerify(b *testing.B) {
	l := openTest(b, Config{Path: filepath.Join(b.TempDir(), "audit.db")})
	var events []audit.Event
	for i := range 1000 {
		events = append(events, storetest.BenchEvent(i, int64(i)))
	}
	if _, err := l.Append(context.Background(), events, nil); err != nil {
		b.Fatal(err)
	}
	_, tree := l.Head()
	for b.Loop() {
		if report, err := audit.VerifyLog(l.Rows(context.Background(), 0, tree.N), tree, []tlog.Tree{tree}); err != nil || !report.OK() {
			b.Fatal(report, err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "events/s")
}

// TestUpgrade opens a database as version 1 has left it: rollups are derived from its events.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	l, err := tryOpen(t, Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	g := storetest.NewGenerator(1)
	if _, err := l.Append(t.Context(), g.Events(2*audit.SegmentSize+9), nil); err != nil {
		t.Fatal(err)
	}
	_, tree := l.Head()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	meddle(t, path, `DROP TABLE rollup_user`, `DROP TABLE rollup_target`, `DROP TABLE rollup_full`, `PRAGMA user_version = 1`)
	for range 2 { // the second time it is a database of version 2
		l = openTest(t, Config{Path: path})
		if _, got := l.Head(); got != tree {
			t.Errorf("the head is %v after the upgrade, was %v", got, tree)
		}
		storetest.Verify(t, l, testKey(t).Verifier())
		storetest.CheckRollups(t, l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l = openTest(t, Config{Path: path})
	if _, err := l.Append(t.Context(), g.Events(audit.SegmentSize), nil); err != nil {
		t.Fatal(err)
	}
	storetest.CheckRollups(t, l)
}

// TestUpgradeFails breaks an upgrade half-way: the database is that of the earlier version still.
func TestUpgradeFails(t *testing.T) {
	path := filled(t, audit.SegmentSize+1)
	meddle(t, path, `DROP TABLE rollup_user`, `DROP TABLE rollup_target`, `DROP TABLE rollup_full`,
		`CREATE TABLE rollup_full (day)`, `PRAGMA user_version = 1`)
	if l, err := tryOpen(t, Config{Path: path}); err == nil {
		l.Close()
		t.Fatal("opened a database with a foreign table in the place of the rollups")
	}
	meddle(t, path, `DROP TABLE rollup_full`)
	l := openTest(t, Config{Path: path})
	storetest.CheckRollups(t, l)
}
