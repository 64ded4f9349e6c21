//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/audit"
	"sega/audit/sqlite"
	"sega/broker/state"
	"sega/cmd/segad/dev/devtest"
)

// found runs `audit verify --json` and returns the findings, each with the index that it names.
func found(t *testing.T, p *devtest.Person, args ...string) (code int, findings map[string]bool) {
	t.Helper()
	r := verify(p, append([]string{"--json"}, args...)...)
	var v struct {
		Problems []audit.Problem `json:"problems"`
	}
	if err := json.Unmarshal([]byte(r.Out), &v); err != nil {
		t.Fatalf("%v: %s%s", err, r.Out, r.Err)
	}
	findings = map[string]bool{}
	for _, problem := range v.Problems {
		findings[string(problem.Finding)] = true
		findings[fmt.Sprintf("%s %d", problem.Finding, problem.Index)] = true
	}
	return r.Code, findings
}

func wantFindings(t *testing.T, p *devtest.Person, args []string, want ...string) {
	t.Helper()
	code, findings := found(t, p, args...)
	for _, w := range want {
		if code != 1 || !findings[w] {
			t.Errorf("exit %d: no %q among %v", code, w, findings)
		}
	}
}

// kept runs change on the database, and puts the events that were there back as they were.
func (i intruder) kept(change func(last int64)) {
	i.t.Helper()
	i.exec(`CREATE TABLE kept AS SELECT * FROM events`)
	var last int64
	if err := i.QueryRow(`SELECT max(idx) FROM kept`).Scan(&last); err != nil {
		i.t.Fatal(err)
	}
	change(last)
	i.exec(`DELETE FROM events WHERE idx <= ?`, last)
	i.exec(`INSERT INTO events SELECT * FROM kept`)
	i.exec(`DROP TABLE kept`)
}

// testTamperOrder reorders, inserts and drops events, and renumbers the others so that no index is missing.
func testTamperOrder(t *testing.T, reviewer *devtest.Person, db intruder) {
	logOnly := []string{"--no-recordings"}
	db.kept(func(int64) {
		for _, move := range [][2]int64{{5, -1}, {8, 5}, {-1, 8}} {
			db.exec(`UPDATE events SET idx = ? WHERE idx = ?`, move[1], move[0])
		}
		wantFindings(t, reviewer, logOnly, "reordered 5", "reordered 8")
	})
	db.kept(func(last int64) {
		db.exec(`DELETE FROM events WHERE idx = ?`, last)
		db.exec(`UPDATE events SET idx = -1 - idx WHERE idx >= 5 AND idx < ?`, last)
		db.exec(`UPDATE events SET idx = -idx WHERE idx < 0`)
		row := sealed(t)
		db.exec(`INSERT INTO events SELECT 5, ?, time, 'user.login', 'success', 'system', '', '', '', '', '', '', '', '', '', ?, NULL, NULL FROM events WHERE idx = 4`, row.Columns["id"], string(row.Body))
		db.exec(`UPDATE events SET time = ? WHERE idx = 5`, row.Columns["time"])
		wantFindings(t, reviewer, logOnly, "inserted 5", fmt.Sprintf("dropped %d", last))
	})
	db.kept(func(last int64) {
		db.exec(`DELETE FROM events WHERE idx = 5`)
		db.exec(`UPDATE events SET idx = -(idx - 1) WHERE idx > 5 AND idx <= ?`, last)
		db.exec(`UPDATE events SET idx = -idx WHERE idx < 0`)
		wantFindings(t, reviewer, logOnly, "dropped 5", "root")
	})
	expect(t, verify(reviewer, logOnly...), 0)
}

// sealed is an event that the log never had.
func sealed(t *testing.T) audit.Row {
	t.Helper()
	e := audit.New(time.Now(), audit.KindUserLogin, audit.Success)
	e.Actor.Kind = audit.ActorSystem
	row, err := audit.Seal(e)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// testTamperTree changes stored hashes: of a leaf, while the events are as they were signed.
func testTamperTree(t *testing.T, reviewer *devtest.Person, db intruder) {
	var hashes []byte
	if err := db.QueryRow(`SELECT hashes FROM tree WHERE chunk = 0`).Scan(&hashes); err != nil {
		t.Fatal(err)
	}
	db.exec(`UPDATE tree SET hashes = ? WHERE chunk = 0`, flip(hashes, 10*32)) // StoredHashIndex(0, 6) is 10
	wantFindings(t, reviewer, []string{"--no-recordings"}, "tree 6")
	if r := reviewer.Sega("audit", "prove", "7"); r.Code != 1 || !strings.Contains(r.Err, "refused") {
		t.Errorf("its neighbour's proof: exit %d\n%s%s", r.Code, r.Out, r.Err)
	}
	db.exec(`UPDATE tree SET hashes = ? WHERE chunk = 0`, hashes)
	expect(t, reviewer.Sega("audit", "prove", "7"), 0, `"idx": 7`)
	expect(t, verify(reviewer, "--no-recordings"), 0)
}

// testTamperBundle proves an event, changes the file, and judges both without the broker's address.
func testTamperBundle(t *testing.T, reviewer *devtest.Person) {
	file := filepath.Join(t.TempDir(), "evidence.json")
	expect(t, reviewer.Sega("audit", "prove", "4", "-o", file), 0)
	expect(t, verify(reviewer, file), 0, "proven", "event 4")
	whole := read(t, file)
	for at := 3; at < len(whole); at += 97 {
		write(t, file, flip(whole, at).(string))
		if r := verify(reviewer, file); r.Code != 1 || !strings.Contains(r.Out, "BAD") {
			t.Errorf("byte %d: exit %d\n%s%s", at, r.Code, r.Out, r.Err)
		}
	}
}

// appended opens the log while the broker is stopped, and lets f have it.
func appended(t *testing.T, e *devtest.Env, f func(l *sqlite.Log)) {
	t.Helper()
	key, err := audit.ParseLogKey([]byte(read(t, filepath.Join(e.Data, "log.key"))))
	if err != nil {
		t.Fatal(err)
	}
	l, err := sqlite.Open(t.Context(), sqlite.Config{Path: e.Database, Signer: key, Verifier: key.Verifier(), Schema: state.Schema})
	if err != nil {
		t.Fatal(err)
	}
	f(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// testTamperRollups completes a segment, so that there are rollups, and changes each kind of them.
func testTamperRollups(t *testing.T, e *devtest.Env, reviewer *devtest.Person) {
	e.Stop()
	appended(t, e, func(l *sqlite.Log) {
		events := make([]audit.Event, audit.SegmentSize)
		for i := range events {
			events[i] = audit.New(time.Now(), audit.KindSSHCert, audit.Success)
			events[i].Actor = audit.Actor{Kind: audit.ActorUser, Iss: "https://idp.example", Sub: "u", Email: alice}
			events[i].Resource = "host/dev-host"
		}
		if _, err := l.Append(context.Background(), events, nil); err != nil {
			t.Fatal(err)
		}
	})
	e.Start()
	db := breakIn(t, e)
	expect(t, verify(reviewer), 0, fmt.Sprintf("rollups of the first %d events", audit.SegmentSize))
	for _, table := range []string{"rollup_user", "rollup_target", "rollup_full"} {
		for what, change := range map[string]string{"counts": `UPDATE %s SET n = n + 1 WHERE kind = 'ssh.cert'`, "kinds": `UPDATE %s SET kind = 'forward.close' WHERE kind = 'ssh.cert'`, "rows": `DELETE FROM %s WHERE kind = 'ssh.cert'`} {
			db.exec(`CREATE TABLE kept AS SELECT * FROM ` + table)
			if db.exec(fmt.Sprintf(change, table)) == 0 {
				t.Errorf("%s of %s: nothing was changed", what, table)
			}
			wantFindings(t, reviewer, []string{"--no-recordings"}, "rollup")
			db.exec(`DELETE FROM ` + table)
			db.exec(`INSERT INTO ` + table + ` SELECT * FROM kept`)
			db.exec(`DROP TABLE kept`)
		}
	}
	expect(t, verify(reviewer), 0)
	expect(t, verify(reviewer, "--since-last"), 0, "since the")
}

// testTamperCheckpoint replaces the signed head: a broker refuses to serve one that its own key has
// not signed, and a machine refuses one of another key.
func testTamperCheckpoint(t *testing.T, e *devtest.Env, reviewer *devtest.Person) {
	good := read(t, filepath.Join(e.Data, "log.key"))
	origin, _, _ := strings.Cut(strings.TrimPrefix(good, "PRIVATE+KEY+"), "+")
	forger, err := audit.GenerateLogKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	e.Stop()
	db := breakIn(t, e)
	var size int64
	var was, root []byte
	if err := db.QueryRow(`SELECT size, root, checkpoint FROM head`).Scan(&size, &root, &was); err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(string(was), fmt.Sprintf("\n%d\n", size), fmt.Sprintf("\n%d\n", size-1), 1)
	db.exec(`UPDATE head SET checkpoint = ?`, []byte(forged))
	if err := opens(e, good); err == nil || !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("a forged checkpoint is served: %v", err)
	}
	db.exec(`UPDATE head SET checkpoint = ?`, was)
	if err := opens(e, good); err != nil {
		t.Error(err)
	}
	if err := opens(e, string(forger.Reveal())); err == nil {
		t.Error("a log of another key is opened")
	}
	_ = db.Close()
	e.Start()
	expect(t, verify(reviewer), 0)

	// The machine's own memory, changed by somebody who sits at it.
	home := ""
	for _, kv := range reviewer.Environ() {
		if dir, ok := strings.CutPrefix(kv, "SEGA_HOME="); ok {
			home = dir
		}
	}
	files, err := filepath.Glob(filepath.Join(home, "checkpoint-*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	seen := read(t, files[0])
	write(t, files[0], flip(seen, len(origin)+1).(string))
	if r := verify(reviewer); r.Code != 1 || !strings.Contains(r.Out+r.Err, "checkpoint") {
		t.Errorf("exit %d\n%s%s", r.Code, r.Out, r.Err)
	}
	write(t, files[0], seen)
	expect(t, verify(reviewer), 0)
}

// opens opens and closes the database with a key.
func opens(e *devtest.Env, secret string) error {
	key, err := audit.ParseLogKey([]byte(secret))
	if err != nil {
		return err
	}
	l, err := sqlite.Open(context.Background(), sqlite.Config{Path: e.Database, Signer: key, Verifier: key.Verifier(), Schema: state.Schema})
	if err != nil {
		return err
	}
	return errors.Join(l.Close(), os.Chmod(e.Database, 0o600))
}
