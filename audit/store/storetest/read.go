package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store"
)

func testProofs(t *testing.T, b Backend) {
	l := b.Open(t)
	trees := []tlog.Tree{{Hash: audit.EmptyRoot()}}
	for i := range 150 {
		mustAppend(t, l, event(i))
		_, tree := l.Head()
		trees = append(trees, tree)
	}
	for to := range trees {
		root, err := store.Root(t.Context(), l, int64(to))
		if err != nil || root != trees[to].Hash {
			t.Fatalf("root of %d is %v, %v, want %v", to, root, err, trees[to].Hash)
		}
		for from := 1; from <= to; from += 7 {
			proof, err := store.Prove(t.Context(), l, int64(from), int64(to))
			if err == nil {
				err = tlog.CheckTree(proof, int64(to), trees[to].Hash, int64(from), trees[from].Hash)
			}
			if err != nil {
				t.Fatalf("proof from %d to %d: %v", from, to, err)
			}
		}
	}
	if proof, err := store.Prove(t.Context(), l, 0, 150); err != nil || len(proof) != 0 {
		t.Errorf("proof from nothing: %v, %v", proof, err)
	}
	for _, c := range [][2]int64{{1, 151}, {-1, 5}, {6, 5}, {0, 151}} {
		if _, err := store.Prove(t.Context(), l, c[0], c[1]); err == nil {
			t.Errorf("proved from %d to %d", c[0], c[1])
		}
	}
	for _, size := range []int64{-1, 151} {
		if _, err := store.Root(t.Context(), l, size); err == nil {
			t.Errorf("gave a root of %d", size)
		}
	}
}

func testRead(t *testing.T, b Backend) {
	l := b.Open(t)
	mustAppend(t, l, event(1))
	for _, text := range []string{`DELETE FROM events`, `INSERT INTO storetest_state (name, n) VALUES ('x', 1)`, `DROP TABLE head`} {
		err := l.Read(t.Context(), func(ctx context.Context, tx store.Querier) error {
			_, err := tx.ExecContext(ctx, text)
			return err
		})
		if err == nil {
			t.Errorf("a read ran %s", text)
		}
	}
	no := errors.New("no")
	if err := l.Read(t.Context(), func(context.Context, store.Querier) error { return no }); err != no {
		t.Errorf("got %v", err)
	}
	err := l.Read(t.Context(), func(ctx context.Context, tx store.Querier) error {
		_, err := l.Append(ctx, []audit.Event{event(2)}, nil) // a reader blocks nobody
		return err
	})
	if err != nil {
		t.Error(err)
	}
	Verify(t, l, b.Verifier)
}

// varied returns an event that differs from others in all that a filter looks at.
func varied(r *rand.Rand) audit.Event {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	e := audit.New(time.Unix(1_770_000_000+int64(r.IntN(50)), int64(r.IntN(3))), pick(audit.KindSSHHop, audit.KindSSHCert, audit.KindAWSAssume, audit.KindSessionEnd, audit.KindSessionCommand),
		audit.Outcome(pick("intent", "success", "success", "failure", "denied", "revoked", "unknown")))
	e.Actor = audit.Actor{Kind: audit.ActorUser, Iss: pick("", "https://a.example", "https://b.example"),
		Sub: pick("", "00u1", "00u2", "00u", "ann@corp.example"), Email: pick("", "ann@corp.example", "Ann@corp.example", "anna@corp.example", "ann", "ännchen@corp.example", "a\x00b", "a%", "a_", "a\U0010ffff")}
	e.LoginID, e.SessionID = pick("", "ses_1", "ses_2"), pick("", "ssh_1", "ssh_2", "ses_1")
	e.Resource = pick("", "role/prod", "role/prod-read", "role/", "host/prod", "host/db1", "host/db*", "recording/ssh_1")
	e.Reason, e.Ticket = pick("", "Outage of db1", "outage", "it's \"late\" \\ 100%_", "naïve ÄRGER"), pick("", "OPS-1", "ops-12")
	e.Node, e.Source, e.Action, e.PolicyIDs = pick("n1", "n2"), pick("", "192.0.2.1", "192.0.2.12"), pick("", "act_1", "act_2"), [][]string{{}, {"p1"}, {"p1", "p2"}}[r.IntN(3)]
	if e.Kind == audit.KindSessionCommand {
		e.Details = json.RawMessage(pick(`{"command":"rm -rf /tmp/x"}`, `{"command":"RM -RF \"$HOME\""}`, `{"command":"psql -c 'select 1'"}`, `{"type":"shell"}`))
	}
	return e
}

// testQueryPages asks for more than any page holds, stops early, and appends while it reads.
func testQueryPages(t *testing.T, b Backend) {
	l := b.Open(t)
	const n = 10_000
	for range n / 1000 {
		var events []audit.Event
		for i := range 1000 {
			events = append(events, event(i))
		}
		mustAppend(t, l, events...)
	}
	for name, f := range map[string]query.Query{
		"all": query.All(), "kind": {After: -1, Where: query.Field{Name: query.Kind, Value: audit.KindSSHHop}},
		"prefix": {After: -1, Where: query.Field{Name: query.User, Op: query.Prefix, Value: "user"}}, "host": {After: -1, Where: query.Field{Name: query.Host, Value: "db1"}}} {
		count, last := 0, int64(-1)
		for row, err := range l.Search(t.Context(), f) {
			if err != nil {
				t.Fatal(err)
			}
			if row.Index <= last {
				t.Fatalf("%s: %d after %d", name, row.Index, last)
			}
			if count++; count == 1500 { // no transaction of the reader is in the way
				mustAppend(t, l, details(event(n), `{}`))
			}
			last = row.Index
		}
		if count < n {
			t.Errorf("%s: %d rows", name, count)
		}
	}
	if got := len(collect(t, l.Search(t.Context(), query.Query{After: -1, Where: query.Field{Name: query.User, Value: "user7@corp.example"}}))); got != n/1000 {
		t.Errorf("%d rows of one user, want %d", got, n/1000)
	}
	for range l.Search(t.Context(), query.All()) {
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range l.Search(ctx, query.All()) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	Verify(t, l, b.Verifier)
}

func testReopen(t *testing.T, b Backend) {
	l := b.Open(t)
	for round := range 5 {
		for i := range 33 {
			mustAppend(t, l, event(i), event(i))
		}
		if _, err := l.Append(t.Context(), []audit.Event{event(0)}, set(fmt.Sprint("round", round), round)); err != nil {
			t.Fatal(err)
		}
		wantMsg, wantTree := l.Head()
		l = b.Reopen(t, l)
		msg, tree := l.Head()
		if string(msg) != string(wantMsg) || tree != wantTree {
			t.Fatalf("head is %v after reopening, was %v", tree, wantTree)
		}
		if got := state(t, l, fmt.Sprint("round", round)); got != fmt.Sprint(round) {
			t.Errorf("state is %q", got)
		}
		Verify(t, l, b.Verifier)
	}
}

func testClosed(t *testing.T, b Backend) {
	l := b.Open(t)
	mustAppend(t, l, event(1))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := l.Append(t.Context(), []audit.Event{event(2)}, nil); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
