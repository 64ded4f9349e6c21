package sqlite

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"sega/audit"
	"sega/audit/query"
	"sega/audit/store/storetest"
)

// TestRolling: while the rollups of a segment wait to be written, they are counted and verified as those are that
// stand in the cubes, whoever goes on writing them.
func TestRolling(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.db")
	l, g, r := openTest(t, Config{Path: path}), storetest.NewGenerator(11), rand.New(rand.NewPCG(3, 4))
	waited := 0
	for size := 0; size < 5*audit.SegmentSize/2; {
		n := 1 + r.IntN(400)
		if _, err := l.Append(t.Context(), g.Events(n), nil); err != nil {
			t.Fatal(err)
		}
		size += n
		if len(l.w.rolling.left) > 0 && l.w.rolling.done > 0 {
			if waited++; waited > 6 {
				continue
			}
			storetest.CheckRollups(t, l)
			checkMemory(t, l, map[string]query.Query{"everything": query.All(), "since": asked()["since"]})
		}
		if r.IntN(4) == 0 { // as after a crash: nothing is written at the end
			l = openTest(t, Config{Path: path})
		}
	}
	if waited < 4 {
		t.Errorf("rollups were looked at %d times while some of them waited", waited)
	}
}

// TestRollingOneByOne: nobody's single append writes many rollups, and they are all written before the next segment's.
func TestRollingOneByOne(t *testing.T) {
	t.Parallel()
	l, g := openTest(t, Config{Path: filepath.Join(t.TempDir(), "audit.db")}), storetest.NewGenerator(12)
	if _, err := l.Append(t.Context(), g.Events(audit.SegmentSize), nil); err != nil {
		t.Fatal(err)
	}
	all := l.w.rolling.done + len(l.w.rolling.left)
	for i := range audit.SegmentSize - 1 {
		before := l.w.rolling.done
		if _, err := l.Append(t.Context(), g.Events(1), nil); err != nil {
			t.Fatal(err)
		}
		if wrote := l.w.rolling.done - before; wrote > 4 {
			t.Fatalf("append %d wrote %d of %d rollups", i, wrote, all)
		}
	}
	if left := len(l.w.rolling.left); all == 0 || left > 0 {
		t.Errorf("%d of %d rollups wait still", left, all)
	}
}

// TestRollingTampered: to say that more or fewer are written changes what is counted, and verification tells.
func TestRollingTampered(t *testing.T) {
	path := filled(t, audit.SegmentSize-8)
	l, err := tryOpen(t, Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, l, audit.SegmentSize, 18)
	if l.w.rolling.done == 0 || len(l.w.rolling.left) == 0 {
		t.Errorf("%d are written, %d not", l.w.rolling.done, len(l.w.rolling.left))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, done := range []string{"-1", "0", "1", "3", "1000000"} {
		t.Run(done, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "audit.db")
			copyFile(t, path, copied)
			meddle(t, copied, `UPDATE rolling SET done = `+done)
			l, err := tryOpen(t, Config{Path: copied})
			if err != nil {
				return // told at once
			}
			defer l.Close()
			check := audit.NewRollupCheck(audit.SegmentSize, audit.SegmentSize+10)
			_, rollups := l.Rollups(t.Context())
			for rollup, err := range rollups {
				if err != nil {
					return
				}
				check.Add(rollup)
			}
			_, tree := l.Head()
			report, err := audit.Verifier{Checkpoint: tree, Rollups: check}.Verify(l.Rows(t.Context(), 0, tree.N))
			if err != nil || report.Found == 0 {
				t.Errorf("got %+v, %v", report, err)
			}
			if _, err := l.Count(t.Context(), query.All(), nil); err != nil {
				t.Error(err)
			}
		})
	}
}
