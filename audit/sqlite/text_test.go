package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store/storetest"
)

// found returns the indexes that a search yields.
func found(t *testing.T, l *Log, where query.Expr) []int64 {
	t.Helper()
	var got []int64
	for row, err := range l.Search(t.Context(), query.Query{After: -1, Where: where, Intents: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, row.Index)
	}
	return got
}

// wanted returns the indexes of the events that an expression matches.
func wanted(events []audit.Event, where query.Expr) []int64 {
	var want []int64
	for i, e := range events {
		if where.Match(e) {
			want = append(want, int64(i))
		}
	}
	return want
}

// texts are searches of every way in which a text is found.
func texts() []query.Expr {
	var xs []query.Expr
	for _, s := range []string{"rm -rf", "RM -RF /var", "outage", "Outage OF search", "OPS-1", "ops-", "'select * from", "export-0", "a", "-rf", "zz", "nothing like it",
		"naïve ÄRGER", "\x00", "o\x00u", "outage\x00", "\xff", "out\xffage", "\"", "app/current.log", strings.Repeat("x", 300), "\n", "billing)\nOPS"} {
		xs = append(xs, query.Text{Value: s}, query.Text{Value: s, Envelope: true}, query.Field{Name: query.Reason, Op: query.Contains, Value: s},
			query.Field{Name: query.Ticket, Op: query.Prefix, Value: s}, query.Not{X: query.Text{Value: s}},
			query.And{query.Text{Value: s}, query.Field{Name: query.Outcome, Value: "success"}},
			query.Or{query.Text{Value: s}, query.Field{Name: query.User, Value: "ada.abel@corp.example"}})
	}
	return xs
}

// fewTexts are one search of each way, for tests that search many times; all of them where a soak is asked for.
func fewTexts() []query.Expr {
	if soak {
		return texts()
	}
	return []query.Expr{query.Text{Value: "RM -RF /var"}, query.Text{Value: "Outage OF search", Envelope: true}, query.Text{Value: "naïve ÄRGER"},
		query.Field{Name: query.Ticket, Op: query.Prefix, Value: "OPS-1"}, query.Text{Value: "nothing like it"},
		query.Or{query.Text{Value: "export-0"}, query.Field{Name: query.User, Value: "ada.abel@corp.example"}}}
}

func checkTexts(t *testing.T, l *Log, events []audit.Event, texts []query.Expr) {
	t.Helper()
	for _, x := range texts {
		if diff := cmp.Diff(wanted(events, x), found(t, l, x)); diff != "" {
			t.Fatalf("%#v: %s", x, diff)
		}
	}
}

// textLog makes a log of generated events whose text index covers it.
func textLog(t *testing.T, path string) (*Log, []audit.Event) {
	t.Helper()
	l, err := tryOpen(t, Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	events := storetest.NewGenerator(3).Events(textBatch + 500)
	odd := events[7]
	odd.ID, odd.Reason, odd.Ticket = audit.NewID(), "zero\x00outage\x00 of naïve ÄRGER", "\x00OPS-\ufffd"
	events = append(events, odd)
	if _, err := l.Append(t.Context(), events, nil); err != nil {
		t.Fatal(err)
	}
	settle(t, l)
	return l, events
}

// TestTextIndex: what is found does not depend on how far the index has come.
func TestTextIndex(t *testing.T) {
	t.Parallel()
	l, events := textLog(t, filepath.Join(t.TempDir(), "audit.db"))
	defer l.Close()
	checkTexts(t, l, events, fewTexts())
	more := storetest.NewGenerator(4).Events(700)
	for i := range more { // some of them behind the index
		if _, err := l.Append(t.Context(), more[i:i+1], nil); err != nil {
			t.Fatal(err)
		}
	}
	events = append(events, more...)
	checkTexts(t, l, events, texts())
	settle(t, l)
	checkTexts(t, l, events, fewTexts())
	l.text.close()
	l.text.cover(0) // no index at all
	checkTexts(t, l, events, fewTexts())
}

// TestTextIsUsed: a text in the index is found without looking at every row.
func TestTextIsUsed(t *testing.T) {
	l, events := textLog(t, filepath.Join(t.TempDir(), "audit.db"))
	defer l.Close()
	x := query.Text{Value: "outage of search"}
	ids, err := l.text.view().find(t.Context(), textPieces(x.Value), 0, int64(len(events)))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	if diff := cmp.Diff(wanted(events, x), ids); diff != "" {
		t.Errorf("candidates: %s", diff)
	}
	if p := planOf(x, false); p.walk || len(p.arms) != 1 || p.arms[0].pieces == nil {
		t.Errorf("plan is %+v", p)
	}
}

// TestTextRebuilt damages the closed index: the log opens, answers in full, and has a whole index again.
func TestTextRebuilt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.db")
	l, events := textLog(t, path)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	file := path + textSuffix
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.db")
	o, _ := textLog(t, other)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(t *testing.T){
		"untouched":      func(t *testing.T) {},
		"missing":        func(t *testing.T) { os.Remove(file) },
		"empty":          func(t *testing.T) { os.Truncate(file, 0) },
		"not a database": func(t *testing.T) { os.WriteFile(file, []byte(strings.Repeat("not a database ", 1000)), 0o600) },
		"cut":            func(t *testing.T) { os.Truncate(file, int64(len(whole)/2)) },
		"pages of zeros": func(t *testing.T) {
			os.WriteFile(file, append(whole[:4096:4096], make([]byte, len(whole)-4096)...), 0o600)
		},
		"no mark":        func(t *testing.T) { meddle(t, file, `DROP TABLE mark`) },
		"mark too far":   func(t *testing.T) { meddle(t, file, `UPDATE mark SET size = size + 1`) },
		"mark negative":  func(t *testing.T) { meddle(t, file, `UPDATE mark SET size = -1`) },
		"another root":   func(t *testing.T) { meddle(t, file, `UPDATE mark SET root = zeroblob(32)`) },
		"root cut":       func(t *testing.T) { meddle(t, file, `UPDATE mark SET root = zeroblob(3)`) },
		"no texts":       func(t *testing.T) { meddle(t, file, `DROP TABLE texts`) },
		"newer version":  func(t *testing.T) { meddle(t, file, `PRAGMA user_version = 9`) },
		"of another log": func(t *testing.T) { copyFile(t, other+textSuffix, file) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			damage(t)
			l, err := tryOpen(t, Config{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			x := query.Text{Value: "outage"}
			if diff := cmp.Diff(wanted(events, x), found(t, l, x)); diff != "" {
				t.Errorf("at once: %s", diff)
			}
			settle(t, l)
			checkTexts(t, l, events, fewTexts())
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}

// TestTextSpoiled breaks the index while it is in use.
func TestTextSpoiled(t *testing.T) {
	l, events := textLog(t, filepath.Join(t.TempDir(), "audit.db"))
	defer l.Close()
	if _, err := l.text.db.ExecContext(t.Context(), `DROP TABLE texts`); err != nil {
		t.Fatal(err)
	}
	checkTexts(t, l, events, fewTexts())
	settle(t, l)
	checkTexts(t, l, events, fewTexts())
	if l.text.bad.Load() {
		t.Error("the index was not built anew")
	}
}

// TestTextCannotBeMade: the log does without.
func TestTextCannotBeMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	if err := os.MkdirAll(filepath.Join(path+textSuffix, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	l := openTest(t, Config{Path: path})
	events := storetest.NewGenerator(3).Events(300)
	if _, err := l.Append(t.Context(), events, nil); err != nil {
		t.Fatal(err)
	}
	checkTexts(t, l, events, fewTexts())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Indexed(ctx, 300); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Indexed(t.Context(), 300); err == nil {
		t.Error("a closed log is indexed")
	}
}

// TestTextOfTwoProcesses: two logs on one database share the index.
func TestTextOfTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	a, b := openTest(t, Config{Path: path}), openTest(t, Config{Path: path})
	g := storetest.NewGenerator(5)
	var events []audit.Event
	for i := range 20 {
		batch := g.Events(100)
		if _, err := []*Log{a, b}[i%2].Append(t.Context(), batch, nil); err != nil {
			t.Fatal(err)
		}
		events = append(events, batch...)
	}
	settle(t, a)
	settle(t, b)
	x := query.Text{Value: "outage"}
	for i, l := range []*Log{a, b} {
		size := int64(len(events))
		if _, tree := l.Head(); tree.N < size {
			size = tree.N // it has not heard of the other's last append
		}
		if diff := cmp.Diff(wanted(events[:size], x), found(t, l, x)); diff != "" {
			t.Errorf("%d: %s", i, diff)
		}
	}
	var n int
	if err := a.text.db.QueryRow(`SELECT count(*) FROM (SELECT rowid FROM texts WHERE texts MATCH '"out"' GROUP BY rowid HAVING count(*) > 1)`).Scan(&n); err != nil || n > 0 {
		t.Errorf("%d events are in the index twice, %v", n, err)
	}
}

func TestTextPieces(t *testing.T) {
	for value, want := range map[string][]string{
		"":                  nil,
		"ab":                nil,
		"abc":               {"abc"},
		"ABcD":              {"abc", "bcd"},
		"ab\x00cd":          nil,
		"ab\x00cde":         {"cde"},
		"aaaaa":             {"aaa"},
		"äö":                nil,
		"äöü":               {"äöü"},
		"a\xffb":            {"a\ufffdb"},
		`a"b`:               {`a"b`},
		"\U0001f600\u0041b": {"\U0001f600ab"},
	} {
		if diff := cmp.Diff(want, textPieces(value)); diff != "" {
			t.Errorf("%q: %s", value, diff)
		}
	}
	if got := textPieces(fmt.Sprint(strings.Repeat("abcdefghijklmnopqrstuvwxyz0123456789", 3))); len(got) != maxPieces {
		t.Errorf("%d pieces", len(got))
	}
}
