//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sega/audit"
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
	i.get(`SELECT max(idx) FROM kept`, &last)
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
		db.exec(`INSERT INTO events SELECT 5, CAST(? AS TEXT), time, 'user.login', 'success', 'system', '', '', '', '', '', '', '', '', '', body, NULL, NULL FROM events WHERE idx = 4`, row.Columns["id"])
		db.exec(`UPDATE events SET time = ?, body = ? WHERE idx = 5`, row.Columns["time"], db.body(string(row.Body)))
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
	db.get(`SELECT hashes FROM tree WHERE chunk = 0`, &hashes)
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

// logKey is the log's own key.
func logKey(t *testing.T, e *devtest.Env) *audit.LogKey {
	t.Helper()
	key, err := audit.ParseLogKey([]byte(read(t, filepath.Join(e.Data, "log.key"))))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// segment appends, while the broker is stopped, events that complete a segment.
func segment(t *testing.T, e *devtest.Env, at place) {
	t.Helper()
	l, err := at.log(t.Context(), logKey(t, e))
	if err != nil {
		t.Fatal(err)
	}
	events := make([]audit.Event, audit.SegmentSize)
	for i := range events {
		events[i] = audit.New(time.Now(), audit.KindSSHCert, audit.Success)
		events[i].Actor = audit.Actor{Kind: audit.ActorUser, Iss: "https://idp.example", Sub: "u", Email: alice}
		events[i].Resource = "host/dev-host"
	}
	if _, err := l.Append(context.Background(), events, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// testTamperRollups completes a segment, so that there are rollups, and changes each kind of them:
// as they were written, and as they are when they have been folded.
func testTamperRollups(t *testing.T, e *devtest.Env, at place, reviewer *devtest.Person) {
	e.Stop()
	segment(t, e, at)
	e.Start()
	expect(t, verify(reviewer), 0, fmt.Sprintf("rollups of the first %d events", audit.SegmentSize))
	changed := changeRollups(t, at, reviewer)
	e.Stop()
	at.fold(t, logKey(t, e))
	e.Start()
	expect(t, verify(reviewer), 0)
	for change := range changeRollups(t, at, reviewer) {
		changed[change] = true
	}
	for _, c := range at.rollups() {
		if !changed[c] {
			t.Errorf("%s of %s: nothing was changed", c.what, c.table)
		}
	}
	expect(t, verify(reviewer, "--since-last"), 0, "since the")
}

// changeRollups makes each change that finds something to change, and takes it back.
func changeRollups(t *testing.T, at place, reviewer *devtest.Person) map[rollupChange]bool {
	db := at.breakIn(t)
	changed := map[rollupChange]bool{}
	for _, c := range at.rollups() {
		db.exec(`CREATE TABLE kept AS SELECT * FROM ` + c.table)
		if db.exec(c.statement) > 0 {
			changed[c] = true
			wantFindings(t, reviewer, []string{"--no-recordings"}, "rollup")
		}
		db.exec(`DELETE FROM ` + c.table)
		db.exec(`INSERT INTO ` + c.table + ` SELECT * FROM kept`)
		db.exec(`DROP TABLE kept`)
	}
	expect(t, verify(reviewer), 0)
	return changed
}

// testTamperCheckpoint replaces the signed head: a broker refuses to serve one that its own key has
// not signed, and a machine refuses one of another key.
func testTamperCheckpoint(t *testing.T, e *devtest.Env, at place, reviewer *devtest.Person) {
	good := read(t, filepath.Join(e.Data, "log.key"))
	origin, _, _ := strings.Cut(strings.TrimPrefix(good, "PRIVATE+KEY+"), "+")
	forger, err := audit.GenerateLogKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	e.Stop()
	db := at.breakIn(t)
	var size int64
	var was []byte
	db.get(`SELECT size, checkpoint FROM head`, &size, &was)
	forged := strings.Replace(string(was), fmt.Sprintf("\n%d\n", size), fmt.Sprintf("\n%d\n", size-1), 1)
	db.exec(`UPDATE head SET checkpoint = ?`, []byte(forged))
	if err := opens(t, e, at, good); err == nil || !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("a forged checkpoint is served: %v", err)
	}
	db.exec(`UPDATE head SET checkpoint = ?`, was)
	if err := opens(t, e, at, good); err != nil {
		t.Error(err)
	}
	if err := opens(t, e, at, string(forger.Reveal())); err == nil {
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
func opens(t *testing.T, e *devtest.Env, at place, secret string) error {
	key, err := audit.ParseLogKey([]byte(secret))
	if err != nil {
		return err
	}
	l, err := at.log(t.Context(), key)
	if err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	if f, is := at.(*file); is {
		return os.Chmod(f.path, 0o600)
	}
	return nil
}
