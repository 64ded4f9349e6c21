package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"sega/audit"
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
		root, err := l.Root(t.Context(), int64(to))
		if err != nil || root != trees[to].Hash {
			t.Fatalf("root of %d is %v, %v, want %v", to, root, err, trees[to].Hash)
		}
		for from := 1; from <= to; from += 7 {
			proof, err := l.Prove(t.Context(), int64(from), int64(to))
			if err == nil {
				err = tlog.CheckTree(proof, int64(to), trees[to].Hash, int64(from), trees[from].Hash)
			}
			if err != nil {
				t.Fatalf("proof from %d to %d: %v", from, to, err)
			}
		}
	}
	if proof, err := l.Prove(t.Context(), 0, 150); err != nil || len(proof) != 0 {
		t.Errorf("proof from nothing: %v, %v", proof, err)
	}
	for _, c := range [][2]int64{{1, 151}, {-1, 5}, {6, 5}, {0, 151}} {
		if _, err := l.Prove(t.Context(), c[0], c[1]); err == nil {
			t.Errorf("proved from %d to %d", c[0], c[1])
		}
	}
	for _, size := range []int64{-1, 151} {
		if _, err := l.Root(t.Context(), size); err == nil {
			t.Errorf("gave a root of %d", size)
		}
	}
}

func testRead(t *testing.T, b Backend) {
	l := b.Open(t)
	mustAppend(t, l, event(1))
	for _, text := range []string{`DELETE FROM events`, `INSERT INTO storetest_state (name, n) VALUES ('x', 1)`, `DROP TABLE head`} {
		err := l.Read(t.Context(), func(ctx context.Context, tx *readTx) error {
			_, err := tx.ExecContext(ctx, text)
			return err
		})
		if err == nil {
			t.Errorf("a read ran %s", text)
		}
	}
	no := errors.New("no")
	if err := l.Read(t.Context(), func(context.Context, *readTx) error { return no }); err != no {
		t.Errorf("got %v", err)
	}
	err := l.Read(t.Context(), func(ctx context.Context, tx *readTx) error {
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
	e := audit.New(time.Unix(1_770_000_000+int64(r.IntN(50)), int64(r.IntN(3))), pick(audit.KindSSHHop, audit.KindSSHCert, audit.KindAWSAssume, audit.KindSessionEnd),
		audit.Outcome(pick("intent", "success", "success", "failure", "denied", "revoked", "unknown")))
	e.Actor = audit.Actor{Kind: audit.ActorUser, Iss: pick("", "https://a.example", "https://b.example"),
		Sub: pick("", "00u1", "00u2", "00u", "ann@corp.example"), Email: pick("", "ann@corp.example", "Ann@corp.example", "anna@corp.example", "ann", "ännchen@corp.example", "a\x00b", "a%", "a_", "a\U0010ffff")}
	e.LoginID, e.SessionID = pick("", "ses_1", "ses_2"), pick("", "ssh_1", "ssh_2", "ses_1")
	e.Resource = pick("", "role/prod", "role/prod-read", "role/", "host/prod", "host/db1", "host/db*")
	return e
}

func variedFilter(r *rand.Rand) audit.Filter {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	f := audit.Filter{After: -1}
	sets := []func(){
		func() {
			f.User = pick("ann@corp.example", "ann*", "*", "00u1", "00u*", "a*", "ä*", "a\x00*", "a%*", "a_", "zed", "a\U0010ffff*")
		},
		func() { f.Kind = pick("ssh.hop", "ssh.*", "*", "s*", "aws.assume", "none.such") },
		func() { f.Role = pick("prod", "prod*", "*", "nope") },
		func() { f.Host = pick("db1", "db*", "*", "prod") },
		func() { f.Outcome = audit.Outcome(pick("intent", "success", "denied", "unknown", "odd")) },
		func() { f.Session = pick("ses_1", "ssh_2", "ses_9") },
		func() { f.Sub, f.Iss = pick("00u1", "00u2", ""), pick("https://a.example", "https://b.example", "") },
		func() { f.Since = time.Unix(1_770_000_000+int64(r.IntN(50)), int64(r.IntN(3))) },
		func() { f.Until = time.Unix(1_770_000_000+int64(r.IntN(50)), int64(r.IntN(3))) },
		func() { f.Since = time.Date(r.IntN(4000), 1, 1, 0, 0, 0, 0, time.UTC) },
		func() { f.Until = time.Date(r.IntN(4000), 1, 1, 0, 0, 0, 0, time.UTC) },
		func() { f.Intents = true },
		func() { f.After = int64(r.IntN(320)) - 2 },
		func() { f.Limit = 1 + r.IntN(40) },
	}
	for range r.IntN(4) {
		sets[r.IntN(len(sets))]()
	}
	return f
}

// testQueries holds the backend's SQL against audit.Filter.Match.
func testQueries(t *testing.T, b Backend) {
	l := b.Open(t)
	r := rand.New(rand.NewPCG(1, 2))
	var events []audit.Event
	for range 300 {
		events = append(events, varied(r))
	}
	mustAppend(t, l, events...)
	matched := 0
	for range 1500 {
		f := variedFilter(r)
		var want, got []int64
		for i, e := range events {
			if f.Match(e) && int64(i) > f.After && (f.Limit == 0 || len(want) < f.Limit) {
				want = append(want, int64(i))
			}
		}
		for _, row := range collect(t, l.Query(t.Context(), f)) {
			got = append(got, row.Index)
			if err := audit.CheckRow(row); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("filter %+v: %s", f, diff)
		}
		matched += len(want)
	}
	if matched < 1500 {
		t.Errorf("the filters match only %d rows in all: they test little", matched)
	}
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
	for name, f := range map[string]audit.Filter{"all": {After: -1}, "kind": {After: -1, Kind: audit.KindSSHHop}, "prefix": {After: -1, User: "user*"}, "host": {After: -1, Host: "db1"}} {
		count, last := 0, int64(-1)
		for row, err := range l.Query(t.Context(), f) {
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
	if got := len(collect(t, l.Query(t.Context(), audit.Filter{After: -1, User: "user7@corp.example"}))); got != n/1000 {
		t.Errorf("%d rows of one user, want %d", got, n/1000)
	}
	for range l.Query(t.Context(), audit.Filter{After: -1}) {
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range l.Query(ctx, audit.Filter{After: -1}) {
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
