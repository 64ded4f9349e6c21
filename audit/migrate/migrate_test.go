//go:build unix

package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/sqlite"
	"sega/audit/store"
	"sega/audit/store/backend"
	"sega/audit/store/storetest"
	"sega/broker/state"
)

// noon is when everything happens.
var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) *audit.LogKey {
	t.Helper()
	key, err := audit.GenerateLogKey("sega.example/log")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// site is a database of a backend, which may not exist yet.
type site struct {
	place Place
	open  func(ctx context.Context) (store.Log, error)
	exec  func(t testing.TB, statements ...string) // behind everybody's back

	remove func(t testing.TB)
}

func sqliteSite(path string, key *audit.LogKey) site {
	cfg := sqlite.Config{Path: path, Options: backend.Options{Signer: key, Verifier: key.Verifier(), Schema: state.Schema}}
	return site{
		place: Place{Name: "sqlite:" + path, Remove: "rm " + path, Open: func(ctx context.Context, create bool) (End, error) {
			m, err := sqlite.OpenMove(ctx, cfg, create)
			if err != nil {
				return nil, err
			}
			return m, nil
		}},
		open: func(ctx context.Context) (store.Log, error) {
			l, err := sqlite.Open(ctx, cfg)
			if err != nil {
				return nil, err
			}
			return l, nil
		},
		remove: func(t testing.TB) {
			t.Helper()
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		exec: func(t testing.TB, statements ...string) {
			t.Helper()
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			for _, s := range statements {
				if _, err := db.Exec(s); err != nil {
					t.Fatalf("%s: %v", s, err)
				}
			}
		},
	}
}

func sqliteHere(t testing.TB, key *audit.LogKey) site {
	return sqliteSite(filepath.Join(t.TempDir(), "sega.db"), key)
}

// contents is all that a log says of itself.
type contents struct {
	Head    string
	Rows    []audit.Row
	Rollups []audit.Rollup
	Session state.Session
	Era     uint32
	First   uint32
}

func (s site) log(t testing.TB) store.Log {
	t.Helper()
	l, err := s.open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var session = state.Session{ID: "ses_1", Kind: state.KindLogin, TokenHash: []byte{0, 1, 0xff}, Thumbprint: "t", Issuer: "https://idp.example", Subject: "00u-alice",
	Email: "alice@example.com", Name: "Alice \u00e9 \U0001f511", Groups: []string{"a", "b\x00c"}, Method: "browser", MFA: true, Created: noon, Expires: noon, NotAfter: noon, Epoch: 1, Rev: 1}

// fillLog gives a site a log over several segments, with state beside it.
func (s site) fillLog(t testing.TB, n int) contents {
	t.Helper()
	l := s.log(t)
	if err := storetest.Fill(t.Context(), l, storetest.NewGenerator(1), n); err != nil {
		t.Fatal(err)
	}
	_, err := l.Append(t.Context(), nil, func(ctx context.Context, tx store.Tx) error {
		if _, _, err := state.ReserveSerials(ctx, tx, "access", 1000); err != nil {
			return err
		}
		return errors.Join(state.AddSession(ctx, tx, session), state.OpenIntent(ctx, tx, state.Intent{Action: "act_1", Node: "n", Body: []byte(`{"a":1}`)}),
			state.AddJoinToken(ctx, tx, state.JoinToken{Hash: []byte{0, 0xfe}, Name: "b", Kind: "bastion", Expires: noon}))
	})
	if err != nil {
		t.Fatal(err)
	}
	c := read(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

func read(t testing.TB, l store.Log) (c contents) {
	t.Helper()
	note, tree := l.Head()
	c.Head = string(note)
	for row, err := range l.Rows(t.Context(), 0, tree.N) {
		if err != nil {
			t.Fatal(err)
		}
		c.Rows = append(c.Rows, row)
	}
	_, rollups := l.Rollups(t.Context())
	for r, err := range rollups {
		if err != nil {
			t.Fatal(err)
		}
		c.Rollups = append(c.Rollups, r)
	}
	slices.SortFunc(c.Rollups, func(a, b audit.Rollup) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	err := l.Read(t.Context(), func(ctx context.Context, q store.Querier) (err error) {
		if c.Session, err = state.SessionByID(ctx, q, "ses_1"); err != nil {
			return err
		}
		return q.QueryRowContext(ctx, `SELECT era, next FROM serials WHERE ca='access'`).Scan(&c.Era, &c.First)
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func moveOf(from, to site, key *audit.LogKey) Config {
	return Config{From: from.place, To: to.place, Verifier: key.Verifier(), Now: func() time.Time { return noon }}
}

// wantMoved judges the end of a move: the target has everything and goes on, the source does not.
func wantMoved(t *testing.T, from, to site, key *audit.LogKey, want contents) {
	t.Helper()
	l := to.log(t)
	defer func() { _ = l.Close() }()
	if diff := cmp.Diff(want, read(t, l)); diff != "" {
		t.Errorf("what arrived is not what was there: -want +got\n%s", diff)
	}
	storetest.Verify(t, l, key.Verifier())
	if _, err := l.Append(t.Context(), storetest.NewGenerator(2).Events(3), nil); err != nil {
		t.Errorf("the log does not go on: %v", err)
	}
	storetest.Verify(t, l, key.Verifier())
	if l, err := from.open(t.Context()); err == nil {
		_ = l.Close()
		t.Error("the source opens still")
	} else if !strings.Contains(err.Error(), "was moved to "+to.place.Name) || !strings.Contains(err.Error(), "set database") {
		t.Errorf("the source says: %v", err)
	}
}

const logSize = audit.SegmentSize + 77

// onEachWay runs a test for both directions of a move.
func onEachWay(t *testing.T, test func(t *testing.T, from, to site, key *audit.LogKey)) {
	t.Helper()
	server := startServer(t)
	type here = func(t testing.TB, key *audit.LogKey) site
	for name, w := range map[string]struct{ from, to here }{
		"sqlite to postgres": {sqliteHere, inPostgres(server)},
		"postgres to sqlite": {inPostgres(server), sqliteHere},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t)
			test(t, w.from(t, key), w.to(t, key), key)
		})
	}
}

func TestRun(t *testing.T) {
	onEachWay(t, func(t *testing.T, from, to site, key *audit.LogKey) {
		want := from.fillLog(t, logSize)
		plan, err := Look(t.Context(), moveOf(from, to, key))
		if err != nil || plan.Tree.N != logSize || plan.Rows["events"] != logSize || plan.Rows["sessions"] != 1 || plan.Resume {
			t.Errorf("plan %+v, %v", plan, err)
		}
		tree, err := Run(t.Context(), moveOf(from, to, key))
		if err != nil || tree != plan.Tree {
			t.Fatalf("%v, %v, want %v", tree, err, plan.Tree)
		}
		wantMoved(t, from, to, key, want)
		if _, err := Run(t.Context(), moveOf(from, to, key)); err == nil || !strings.Contains(err.Error(), "goes on there") {
			t.Errorf("a second run: %v", err)
		}
	})
}

// TestLookChangesNothing: a plan leaves the source to go on, and makes no target.
func TestLookChangesNothing(t *testing.T) {
	onEachWay(t, func(t *testing.T, from, to site, key *audit.LogKey) {
		want := from.fillLog(t, 5)
		if _, err := Look(t.Context(), moveOf(from, to, key)); err != nil {
			t.Fatal(err)
		}
		l := from.log(t)
		defer func() { _ = l.Close() }()
		if diff := cmp.Diff(want, read(t, l)); diff != "" {
			t.Error(diff)
		}
		end, err := to.place.Open(t.Context(), false)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = end.Close() }()
		if empty, err := end.Empty(t.Context()); err != nil || !empty {
			t.Errorf("the target is empty: %v, %v", empty, err)
		}
	})
}

// TestRefuses: whatever is wrong with either end, the source stays whole and goes on.
func TestRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		tamper []string // with the source
		want   string
	}{
		"event changed":        {[]string{`UPDATE events SET body = replace(cast(body AS TEXT), 'success', 'denied') WHERE idx = (SELECT min(idx) FROM events WHERE outcome = 'success')`}, "column outcome"},
		"event and its column": {[]string{`UPDATE events SET source = '198.51.100.9', body = replace(body, source, '198.51.100.9') WHERE idx = 7`}, "event 7"},
		"column changed":       {[]string{`UPDATE events SET email = 'mallory@example.com' WHERE idx = 3`}, "event 3"},
		"details dropped":      {[]string{`UPDATE events SET details = NULL, salt = NULL WHERE idx = (SELECT min(idx) FROM events WHERE details IS NOT NULL)`}, "details"},
		"event dropped":        {[]string{`DELETE FROM events WHERE idx = 11`}, "11"},
		"cut short":            {[]string{`DELETE FROM events WHERE idx >= 2000`}, "missing"},
		"rollup changed":       {[]string{`UPDATE rollup_user SET n = n + 1 WHERE rowid IS NULL OR n = (SELECT max(n) FROM rollup_user)`}, "rollup"},
		"tree changed":         {[]string{`UPDATE tree SET hashes = zeroblob(2048) WHERE chunk = 1`}, "stored hashes 64 to 127"},
		"tree cut":             {[]string{`DELETE FROM tree WHERE chunk = (SELECT max(chunk) FROM tree)`}, "stored hashes"},
		"root changed":         {[]string{`UPDATE head SET root = zeroblob(32)`}, "the checkpoint signs"},
		"head gone":            {[]string{`DELETE FROM head`}, "head"},
		"no log":               {[]string{`DROP TABLE events`}, "there is no log"},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t)
			from, to := sqliteHere(t, key), sqliteHere(t, key)
			from.fillLog(t, logSize)
			if name == "rollup changed" {
				c.tamper = []string{`UPDATE rollup_user SET n = n + 1`}
			}
			from.exec(t, c.tamper...)
			_, err := Run(t.Context(), moveOf(from, to, key))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), from.place.Name) {
				t.Errorf("got %v, want %q and the source's name", err, c.want)
			}
			if end, err := to.place.Open(t.Context(), false); err == nil {
				defer func() { _ = end.Close() }()
				if empty, err := end.Empty(t.Context()); err != nil || !empty {
					t.Errorf("something was left at the target: %v", err)
				}
			}
		})
	}
}

// TestWrongKey: a log that another key has signed does not move.
func TestWrongKey(t *testing.T) {
	onEachWay(t, func(t *testing.T, from, to site, key *audit.LogKey) {
		from.fillLog(t, 3)
		_, err := Run(t.Context(), moveOf(from, to, newKey(t)))
		if err == nil || !strings.Contains(err.Error(), "log key") {
			t.Errorf("got %v", err)
		}
		_ = from.log(t).Close()
	})
}

// TestTargetNotEmpty: nothing that is there is written over.
func TestTargetNotEmpty(t *testing.T) {
	onEachWay(t, func(t *testing.T, from, to site, key *audit.LogKey) {
		from.fillLog(t, 3)
		want := to.fillLog(t, 4)
		for _, try := range []func() error{
			func() error { _, err := Look(t.Context(), moveOf(from, to, key)); return err },
			func() error { _, err := Run(t.Context(), moveOf(from, to, key)); return err },
		} {
			if err := try(); err == nil || !strings.Contains(err.Error(), "not empty") {
				t.Errorf("got %v", err)
			}
		}
		for _, s := range []site{from, to} {
			l := s.log(t)
			if s.place.Name == to.place.Name {
				if diff := cmp.Diff(want, read(t, l)); diff != "" {
					t.Error(diff)
				}
			}
			_ = l.Close()
		}
	})
}

// TestInUse: an idle broker at either end is noticed, and is not disturbed.
func TestInUse(t *testing.T) {
	onEachWay(t, func(t *testing.T, from, to site, key *audit.LogKey) {
		from.fillLog(t, 3)
		l := from.log(t)
		_, err := Run(t.Context(), moveOf(from, to, key))
		if err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("got %v", err)
		}
		if _, err := l.Append(t.Context(), storetest.NewGenerator(3).Events(2), nil); err != nil {
			t.Errorf("the broker was disturbed: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Run(t.Context(), moveOf(from, to, key)); err != nil {
			t.Errorf("after the broker's end: %v", err)
		}
	})
}

// TestSamePlace: a log does not move to where it is.
func TestSamePlace(t *testing.T) {
	key := newKey(t)
	from := sqliteHere(t, key)
	from.fillLog(t, 3)
	if _, err := Run(t.Context(), moveOf(from, from, key)); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("got %v", err)
	}
}

// TestNoSource: a path that was mistyped makes no database.
func TestNoSource(t *testing.T) {
	key := newKey(t)
	from, to := sqliteHere(t, key), sqliteHere(t, key)
	if _, err := Look(t.Context(), moveOf(from, to, key)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(strings.TrimPrefix(from.place.Name, "sqlite:")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a database was made: %v", err)
	}
}
