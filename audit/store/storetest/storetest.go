package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sega/audit"
	"sega/audit/store"
)

// Schema is the state that the suite's changes touch; a backend under test runs it on opening.
const Schema = `CREATE TABLE IF NOT EXISTS storetest_state (name TEXT PRIMARY KEY, n INTEGER NOT NULL)`

// Backend is what the suite needs of a backend: Open gives an empty log with Schema, whose
// checkpoints Verifier opens, and Reopen closes a log and opens it again.
type Backend struct {
	Verifier note.Verifier
	Open     func(t *testing.T) store.Log
	Reopen   func(t *testing.T, l store.Log) store.Log

	// Settle, where set, waits until whatever the backend keeps behind its log has caught up with it.
	// The suite then asks the same questions before and after.
	Settle func(t *testing.T, l store.Log)
}

func (b Backend) settle(t *testing.T, l store.Log) {
	if b.Settle != nil {
		b.Settle(t, l)
	}
}

// Run runs the suite.
func Run(t *testing.T, b Backend) {
	for name, test := range map[string]func(*testing.T, Backend){
		"append and read back":        testAppend,
		"empty appends":               testEmpty,
		"invalid events":              testInvalid,
		"duplicate IDs":               testDuplicate,
		"state with its events":       testState,
		"apply fails alone":           testApplyFails,
		"apply sees its place":        testApplyNext,
		"a panic is an error":         testPanic,
		"apply may not end the batch": testApplyEnds,
		"cancelled before it begins":  testCancelled,
		"proofs and roots":            testProofs,
		"read does not write":         testRead,
		"searches":                    testSearch,
		"counts":                      testCount,
		"counts of nothing":           testCountNothing,
		"too many groups":             testTooManyGroups,
		"rollups":                     testRollups,
		"stalled consumers":           testStalled,
		"given up":                    testGivenUp,
		"event by ID":                 testEventByID,
		"hashes":                      testHashes,
		"query pages":                 testQueryPages,
		"reopen":                      testReopen,
		"closed":                      testClosed,
		"many writers":                testWriters,
	} {
		t.Run(name, func(t *testing.T) { test(t, b) })
	}
}

func event(n int) audit.Event {
	e := audit.New(time.Unix(1_770_000_000, int64(n)), audit.KindSSHHop, audit.Success)
	e.Actor = audit.Actor{Kind: audit.ActorUser, Iss: "https://idp.corp.example", Sub: fmt.Sprint("00u", n), Email: fmt.Sprintf("user%d@corp.example", n)}
	e.Resource = "host/db1"
	return e
}

func mustAppend(t *testing.T, l store.Log, events ...audit.Event) int64 {
	t.Helper()
	first, err := l.Append(t.Context(), events, nil)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// set makes a change of state.
func set(name string, n int) func(context.Context, store.Tx) error {
	return func(ctx context.Context, tx store.Tx) error {
		_, err := tx.ExecContext(ctx, fmt.Sprintf(`INSERT INTO storetest_state (name, n) VALUES ('%s', %d)`, name, n))
		return err
	}
}

// state reads what set has set; "" where there is nothing.
func state(t *testing.T, l store.Log, name string) string {
	t.Helper()
	found := ""
	err := l.Read(t.Context(), func(ctx context.Context, tx store.Querier) error {
		rows, err := tx.QueryContext(ctx, fmt.Sprintf(`SELECT n FROM storetest_state WHERE name = '%s'`, name))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := rows.Scan(&found); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func collect(t *testing.T, rows iter.Seq2[audit.Row, error]) []audit.Row {
	t.Helper()
	var out []audit.Row
	for row, err := range rows {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, row)
	}
	return out
}

// Verify judges the whole log from its rows against its signed head, its rollups included.
func Verify(t *testing.T, l store.Log, verifier note.Verifier) audit.Report {
	t.Helper()
	msg, tree := l.Head()
	c, err := audit.OpenCheckpoint(msg, verifier)
	if err != nil {
		t.Fatal(err)
	}
	if c.Tree != tree {
		t.Fatalf("the checkpoint signs %v, the head is %v", c.Tree, tree)
	}
	upTo, rollups := l.Rollups(context.Background())
	check := audit.NewRollupCheck(upTo, tree.N)
	for r, err := range rollups {
		if err != nil {
			t.Fatal(err)
		}
		check.Add(r)
	}
	report, err := audit.Verifier{Checkpoint: tree, Rollups: check}.Verify(l.Rows(context.Background(), 0, tree.N))
	if err != nil {
		t.Fatal(err)
	}
	if !report.OK() {
		t.Fatalf("the log does not verify: %+v", report.Problems)
	}
	return report
}

func wantUnavailable(t *testing.T, err, also error) {
	t.Helper()
	if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, also) {
		t.Errorf("got %v, want ErrUnavailable and %v", err, also)
	}
}

func details(e audit.Event, text string) audit.Event {
	e.Details = json.RawMessage(text)
	return e
}
