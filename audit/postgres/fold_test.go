package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store/storetest"
)

// waitFolded waits until fewer parts are left than are folded at once.
func waitFolded(tb testing.TB, l *Log) {
	tb.Helper()
	eventually(tb, "the rollups to be folded", func() error {
		var n int
		if err := l.reads.QueryRowContext(tb.Context(), `SELECT count(*) FROM rollup_parts`).Scan(&n); err != nil || n >= l.cfg.foldParts {
			return fmt.Errorf("%d parts, %w", n, err)
		}
		return nil
	})
}

// TestFold counts while rollups are folded, and holds them against the events before, between and after.
func TestFold(t *testing.T) {
	s := server(t)
	cfg := config(t, s.URL(s.NewDatabase(t)))
	cfg.foldParts = 2
	l := openTest(t, cfg)
	g := storetest.NewGeneratorOf(5, 7*audit.SegmentSize) // a year: periods that are whole
	for size := range 7 {
		if err := storetest.Fill(t.Context(), l, g, audit.SegmentSize-size); err != nil {
			t.Fatal(err)
		}
		storetest.CheckRollups(t, l)
		checkCount(t, l, query.All(), [][]query.Dimension{nil, {query.ByUser}, {query.ByRole, query.ByDay}}[size%3])
	}
	waitFolded(t, l)
	storetest.CheckRollups(t, l)
	from, to := time.Date(2025, 3, 7, 12, 0, 0, 0, time.UTC), time.Date(2025, 10, 20, 0, 0, 0, 0, time.UTC)
	for name, x := range map[string]query.Expr{"since": query.Since{At: from}, "until": query.Until{At: to}, "between": query.And{query.Since{At: from}, query.Until{At: to}},
		"a month": query.And{query.Since{At: from}, query.Until{At: from.AddDate(0, 1, 0)}}, "role": query.Field{Name: query.Role, Value: storetest.RoleName(3)}} {
		t.Run(name, func(t *testing.T) {
			q := query.All()
			q.Where = x
			checkCount(t, l, q, []query.Dimension{query.ByUser, query.ByRole})
		})
	}
}

// checkCount compares a count with the sum of what a search finds.
func checkCount(t *testing.T, l *Log, q query.Query, by []query.Dimension) {
	t.Helper()
	got, err := l.Count(t.Context(), q, by)
	if err != nil {
		t.Fatal(err)
	}
	c := counter{by: by, groups: map[string]int64{}}
	if err := c.search(t.Context(), l, q); err != nil {
		t.Fatal(err)
	}
	if want := c.sorted(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("count by %v: %d groups, want %d\n%.300v\n%.300v", by, len(got), len(want), got, want)
	}
}

// TestSegmentOfTwo completes segments of which two processes have each appended a part.
func TestSegmentOfTwo(t *testing.T) {
	s := server(t)
	url := s.URL(s.NewDatabase(t))
	logs := []*Log{openTest(t, config(t, url)), openTest(t, config(t, url))}
	g := storetest.NewGeneratorOf(6, 3*audit.SegmentSize)
	for i, n := range []int{100, 1900, 30, 17, 1, 2000, 40, 8, 700, 3000, 1} {
		if _, err := logs[i%2].Append(context.Background(), g.Events(n), nil); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the head of what the other has appended", func() error {
		if _, a := logs[0].Head(); a.N != 7797 {
			return fmt.Errorf("it is at %d", a.N)
		}
		return nil
	})
	storetest.CheckRollups(t, logs[0])
	checkCount(t, logs[0], query.Query{After: -1, Where: query.Since{At: time.Date(2025, 9, 1, 0, 0, 0, 0, time.UTC)}}, []query.Dimension{query.ByUser})
}

// TestRollupsTampered changes what is folded, what is not yet and what is derived of it: verification
// names each as a rollup.
func TestRollupsTampered(t *testing.T) {
	s := server(t)
	db := s.NewDatabase(t)
	cfg := config(t, s.URL(db))
	cfg.foldParts = 2
	l := openTest(t, cfg)
	if err := storetest.Fill(t.Context(), l, storetest.NewGeneratorOf(5, 7*audit.SegmentSize), 3*audit.SegmentSize); err != nil {
		t.Fatal(err)
	}
	waitFolded(t, l)
	if n := rollupProblems(t, l); n != 0 {
		t.Fatalf("%d problems before any", n)
	}
	one := `ctid = (SELECT min(ctid) FROM %[1]s)`
	for table, changes := range map[string][]string{
		"rollup_parts": {`DELETE FROM rollup_parts`, `UPDATE rollup_parts SET n[3] = n[3] + 1`, `UPDATE rollup_parts SET email[7] = 'eve@corp.example'`, `UPDATE rollup_parts SET day[1] = 1`,
			`UPDATE rollup_parts SET kind = kind[2:]`, `UPDATE rollup_parts SET n = n || 1::bigint`, `UPDATE rollup_parts SET sub[2] = NULL`, `INSERT INTO rollup_parts SELECT segment + 1, day, kind, outcome, email, sub, target, n FROM rollup_parts`},
		"rollup_period": {`DELETE FROM %[1]s WHERE ` + one, `UPDATE %[1]s SET n = n + 1 WHERE ` + one, `UPDATE %[1]s SET period = 1 WHERE ` + one, `UPDATE %[1]s SET sub = 'x' WHERE ` + one},
		"rollup_full":   {`DELETE FROM %[1]s WHERE ` + one, `UPDATE %[1]s SET n = n + 1 WHERE ` + one, `UPDATE %[1]s SET day = 1 WHERE ` + one, `UPDATE %[1]s SET target = 'role/x' WHERE ` + one},
		"rollup_user":   {`UPDATE %[1]s SET n = n + 1 WHERE ` + one},
		"rollup_target": {`UPDATE %[1]s SET n = n + 1 WHERE ` + one},
	} {
		for _, change := range changes {
			if strings.Contains(change, "%") {
				change = fmt.Sprintf(change, table)
			}
			in := func(text string) string { return strings.NewReplacer("$T", "sega."+table).Replace(text) }
			if err := s.Exec(t.Context(), db, in(`CREATE TABLE kept AS SELECT * FROM $T`), `SET search_path = sega; `+change); err != nil {
				t.Fatalf("%s: %v", change, err)
			}
			if rollupProblems(t, l) == 0 {
				t.Errorf("%s: nobody notices", change)
			}
			if err := s.Exec(t.Context(), db, in(`DELETE FROM $T`), in(`INSERT INTO $T SELECT * FROM kept`), `DROP TABLE kept`); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := rollupProblems(t, l); n != 0 {
		t.Errorf("%d problems when all is as it was", n)
	}
}

// rollupProblems verifies the log and returns how many rollups are wrong. Nothing else may be.
func rollupProblems(t *testing.T, l *Log) (n int) {
	t.Helper()
	_, tree := l.Head()
	upTo, rollups := l.Rollups(t.Context())
	check := audit.NewRollupCheck(upTo, tree.N)
	for r, err := range rollups {
		if err != nil {
			t.Fatal(err)
		}
		check.Add(r)
	}
	report, err := audit.Verifier{Checkpoint: tree, Rollups: check}.Verify(l.Rows(t.Context(), 0, tree.N))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		if p.Finding != audit.FindingRollup {
			t.Errorf("found %+v", p)
		}
	}
	return len(report.Problems)
}
