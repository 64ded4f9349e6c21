//go:build linux

package e2e

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sega/audit"
	"sega/audit/postgres/pgtest"
	"sega/cmd/segad/dev/devtest"
)

// verify runs `sega audit verify`.
func verify(p *devtest.Person, args ...string) devtest.Result {
	p.T.Helper()
	return p.Sega(append([]string{"audit", "verify"}, args...)...)
}

// TestTamper changes one byte of what is kept, one thing after the other, and wants each named.
func TestTamper(t *testing.T) {
	devtest.Need(t, "ssh", "/usr/bin/aws")
	e := devtest.Up(t)
	tamper(t, e, newFile(t, e))
}

// TestTamperPostgres is TestTamper on a server.
func TestTamperPostgres(t *testing.T) {
	t.Parallel()
	devtest.Need(t, "ssh", "/usr/bin/aws")
	s := pgtest.Start(t)
	address, password := onServer(t, s)
	tamper(t, devtest.UpWith(t, "--database", address, "--database-password", password), newServer(t, s, address))
}

// tamper is the matrix.
func tamper(t *testing.T, e *devtest.Env, at place) {
	p, reviewer := e.LoggedIn(alice), e.LoggedIn(carol)
	expect(t, p.Sega("exec", "dev-admin", "--reason", "ticket 7", "--", "true"), 0)
	expect(t, p.Sega("ssh", e.Host.Name, "--", "echo recorded"), 0)
	session := ended(t, reviewer, "echo recorded")
	expect(t, verify(reviewer), 0, "ok", "1 recordings")
	db := at.breakIn(t)
	t.Run("columns", func(t *testing.T) { testTamperColumns(t, reviewer, db) })
	t.Run("body", func(t *testing.T) { testTamperBody(t, reviewer, db) })
	t.Run("rows", func(t *testing.T) { testTamperRows(t, reviewer, db) })
	t.Run("order", func(t *testing.T) { testTamperOrder(t, reviewer, db) })
	t.Run("tree", func(t *testing.T) { testTamperTree(t, reviewer, db) })
	t.Run("recording", func(t *testing.T) { testTamperRecording(t, e.With(t), reviewer, session) })
	expect(t, verify(reviewer), 0)
	t.Run("bundle", func(t *testing.T) { testTamperBundle(t, reviewer) })
	t.Run("stopped", func(t *testing.T) { testTamperStopped(t, e, at, reviewer) })
	t.Run("rollups", func(t *testing.T) { testTamperRollups(t, e, at, reviewer) })
	t.Run("checkpoint", func(t *testing.T) { testTamperCheckpoint(t, e, at, reviewer) })
	t.Run("rollback", func(t *testing.T) { testRollback(t, e, at, reviewer, p) })
}

// flip changes one byte of a value in a place, and keeps text text.
func flip(v any, at int) any {
	switch v := v.(type) {
	case int64:
		return v + 1
	case string:
		b := []byte(v)
		b[at] ^= 1
		return string(b)
	case []byte:
		b := bytes.Clone(v)
		b[at] ^= 1
		return b
	}
	return nil
}

// testTamperColumns changes each column of the newest event that has something in it, and puts
// something into each that is empty.
func testTamperColumns(t *testing.T, reviewer *devtest.Person, db intruder) {
	columns := db.names()
	for _, want := range append(audit.ColumnNames(), "body", "salt", "details") {
		if !contains(columns, want) {
			t.Errorf("no column %s among %q", want, columns)
		}
	}
	changes := map[string]int{}
	change := func(column, where string, to func(any) any) {
		t.Helper()
		var idx int64
		var id string
		var was any
		err := db.QueryRow(`SELECT idx, id, `+column+` FROM events WHERE idx < (SELECT max(idx) FROM events) AND `+where+` ORDER BY idx DESC LIMIT 1`).Scan(&idx, &id, &was)
		if errors.Is(err, sql.ErrNoRows) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		now := to(was)
		changes[column]++
		db.exec(`UPDATE events SET `+column+` = ? WHERE idx = ?`, now, idx)
		r := verify(reviewer, "--no-recordings")
		back := idx
		if column == "idx" {
			back = now.(int64)
		}
		db.exec(`UPDATE events SET `+column+` = ? WHERE idx = ?`, was, back)
		if r.Code != 1 || !strings.Contains(r.Out, fmt.Sprintf("event %d", idx)) && !strings.Contains(r.Out, fmt.Sprintf("events %d to", idx)) {
			t.Errorf("%s of event %d (%s), %v instead of %v: exit %d\n%s%s", column, idx, id, now, was, r.Code, r.Out, r.Err)
		}
		if column != "idx" && column != "body" && !strings.Contains(r.Out, column) {
			t.Errorf("%s is not named:\n%s", column, r.Out)
		}
	}
	for _, column := range columns {
		if column == "idx" {
			change(column, "true", func(any) any { return int64(1 << 40) })
			continue
		}
		change(column, "length(CAST("+column+" AS TEXT)) > 0", func(v any) any { return flip(v, 0) })
		if column != "body" && column != "time" {
			change(column, column+" = ''", func(any) any { return "x" })
		}
	}
	change("salt", "salt IS NULL OR length(salt) = 0", func(any) any { return make([]byte, 32) })
	change("details", "length(details) > 0", func(any) any { return nil })
	for _, column := range columns {
		if changes[column] == 0 {
			t.Errorf("no event has anything in %s", column)
		}
	}
	expect(t, verify(reviewer), 0)
}

// testTamperBody flips one byte in several places of the event that says what alice was given.
func testTamperBody(t *testing.T, reviewer *devtest.Person, db intruder) {
	var idx int64
	var id string
	var body any
	db.get(`SELECT idx, id, body FROM events WHERE kind = 'aws.assume' AND outcome = 'success'`, &idx, &id, &body)
	text := fmt.Sprintf("%s", body)
	for _, at := range []int{0, strings.Index(text, "alice@"), strings.Index(text, "ticket 7") + 7, len(text) / 2, len(text) - 1} {
		db.exec(`UPDATE events SET body = ? WHERE idx = ?`, flip(body, at), idx)
		r := verify(reviewer, "--no-recordings")
		if r.Code != 1 || !strings.Contains(r.Out, fmt.Sprintf("event %d", idx)) {
			t.Errorf("byte %d: exit %d, and event %d is not named\n%s%s", at, r.Code, idx, r.Out, r.Err)
		}
	}
	// Body and column in concert: only the root tells, and this machine's memory of it.
	db.exec(`UPDATE events SET body = ?, email = ? WHERE idx = ?`, db.body(strings.ReplaceAll(text, alice, "blice@example.com")), "blice@example.com", idx)
	expect(t, verify(reviewer, "--no-recordings"), 1, "root")
	db.exec(`UPDATE events SET body = ?, email = ? WHERE idx = ?`, body, alice, idx)
	expect(t, verify(reviewer, "--no-recordings"), 0)
}

// testTamperRows removes rows: the last, some in the middle, the end.
func testTamperRows(t *testing.T, reviewer *devtest.Person, db intruder) {
	db.exec(`CREATE TABLE kept AS SELECT * FROM events`)
	for _, where := range []string{`idx = (SELECT max(idx) FROM kept)`, `idx = 3`, `idx BETWEEN 5 AND 7`, `idx > (SELECT max(idx) - 4 FROM kept)`} {
		var first int64
		db.get(`SELECT min(idx) FROM kept WHERE `+where, &first)
		db.exec(`DELETE FROM events WHERE ` + where)
		r := verify(reviewer, "--no-recordings")
		db.exec(`INSERT INTO events SELECT * FROM kept WHERE ` + where)
		expect(t, r, 1, fmt.Sprintf("events %d to", first))
		expect(t, verify(reviewer, "--no-recordings"), 0)
		db.exec(`DROP TABLE kept`)
		db.exec(`CREATE TABLE kept AS SELECT * FROM events`)
	}
	db.exec(`DROP TABLE kept`)
}

// testTamperRecording changes each object of a recording, cuts it short and takes it away.
func testTamperRecording(t *testing.T, e *devtest.Env, reviewer *devtest.Person, session string) {
	objects, err := filepath.Glob(filepath.Join(e.Data, "recordings", session, "*"))
	if err != nil || len(objects) == 0 {
		t.Fatalf("no recording of %s: %v", session, err)
	}
	for _, path := range objects {
		whole := []byte(read(t, path))
		for name, changed := range map[string][]byte{
			"first byte": flip(whole, 0).([]byte), "middle byte": flip(whole, len(whole)/2).([]byte), "last byte": flip(whole, len(whole)-1).([]byte),
			"cut short": whole[:len(whole)-1], "half": whole[:len(whole)/2], "empty": {}, "longer": append(bytes.Clone(whole), 0), "twice": append(bytes.Clone(whole), whole...), "gone": nil,
		} {
			err := os.WriteFile(path, changed, 0o600)
			if changed == nil {
				err = os.Remove(path)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, argv := range [][]string{{"audit", "verify"}, {"audit", "play", session, "--reason", "test"}} {
				if r := reviewer.Sega(argv...); r.Code != 1 || !strings.Contains(r.Out+r.Err, session) || strings.Contains(r.Out, "recorded") {
					t.Errorf("%s: %q: exit %d, want 1 and %s named\n%s%s", name, argv, r.Code, session, r.Out, r.Err)
				}
			}
			if v := show(t, reviewer, session); v.Recording == "complete" {
				t.Errorf("%s: audit show calls it complete", name)
			}
			write(t, path, string(whole))
		}
	}
	expect(t, verify(reviewer), 0)
	expect(t, reviewer.Sega("audit", "play", session, "--reason", "test"), 0, "recorded")
}

// testTamperStopped changes an event while nothing runs.
func testTamperStopped(t *testing.T, e *devtest.Env, at place, reviewer *devtest.Person) {
	e.Stop()
	db := at.breakIn(t)
	var first int64
	var body any
	db.get(`SELECT idx, body FROM events WHERE idx = (SELECT min(idx) FROM events WHERE email = '`+alice+`')`, &first, &body)
	db.exec(`UPDATE events SET body = ? WHERE idx = ?`, db.body(strings.ReplaceAll(fmt.Sprintf("%s", body), "alice", "Alice")), first)
	_ = db.Close()
	e.Start()
	expect(t, verify(reviewer), 1, fmt.Sprintf("event %d", first))
	db = at.breakIn(t)
	db.exec(`UPDATE events SET body = ? WHERE idx = ?`, body, first)
	expect(t, verify(reviewer), 0)
}

// testRollback puts an older copy of the database, whole and signed, in the place of the present
// one. The machine that has seen more notices.
func testRollback(t *testing.T, e *devtest.Env, at place, reviewer, p *devtest.Person) {
	at.copy(t)
	for range 5 { // more than the servers append by themselves when the broker comes back
		expect(t, p.Sega("exec", "dev-admin", "--", "true"), 0)
	}
	expect(t, verify(reviewer), 0)

	at.putBack(t)
	pid := e.PID("broker")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil { // it may still have the newer file open
		t.Fatal(err)
	}
	devtest.Eventually(t, patience, "the broker does not come back", func() error {
		if status, body := readyz(t, e); e.PID("broker") == pid || status == 0 {
			return errors.New(strconv.Itoa(status) + " " + body)
		}
		return nil
	})
	commands := [][]string{{"audit", "verify"}, {"audit", "verify", "--json"}, {"audit", "query"}, {"status"}}
	for _, argv := range commands {
		r := reviewer.Sega(argv...)
		expect(t, r, 1, "security staff")
		// The broker finds its own mark ahead of the database and says so in the log, which may have
		// grown as far as what was seen by then.
		if !strings.Contains(r.Out+r.Err, "went back") && !strings.Contains(r.Out+r.Err, "fork") {
			t.Errorf("neither went back nor forked: %s%s", r.Out, r.Err)
		}
	}
	// Nor does it help to let the log grow past what was seen.
	for range 20 {
		expect(t, e.Person(bob).Login(), 0)
	}
	for _, argv := range commands {
		expect(t, reviewer.Sega(argv...), 1, "fork", "security staff")
	}
}
