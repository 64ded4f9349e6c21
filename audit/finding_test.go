package audit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// stored is a log with the hashes of its tree, as a store keeps them.
type stored struct {
	rows   []Row
	hashes memory
	tree   tlog.Tree
}

func storedLog(tb testing.TB, n int) *stored {
	tb.Helper()
	s := &stored{rows: testLog(tb, n)}
	var f Frontier
	for _, row := range s.rows {
		s.hashes = append(s.hashes, f.Add(tlog.RecordHash(row.Body), nil)...)
	}
	s.tree = f.Tree()
	return s
}

func (s *stored) prove(from, to int64) (tlog.TreeProof, error) {
	return tlog.ProveTree(to, from, s.hashes)
}

func (s *stored) leaves(from, to int64) (out []tlog.Hash, err error) {
	for i := from; i < to; i++ {
		out = append(out, s.hashes[tlog.StoredHashIndex(0, i)])
	}
	return out, nil
}

func (s *stored) root(tb testing.TB, n int64) tlog.Tree {
	tb.Helper()
	h, err := tlog.TreeHash(n, s.hashes)
	if err != nil {
		tb.Fatal(err)
	}
	return tlog.Tree{N: n, Hash: h}
}

// serve gives rows their place in the log and the leaf that the tree has for it, as a broker whose
// table of events was changed and whose tree was not.
func (s *stored) serve(rows []Row) []Row {
	for i := range rows {
		rows[i].Place(int64(i))
		rows[i].Leaf = nil
		if i < len(s.rows) {
			h := s.hashes[tlog.StoredHashIndex(0, int64(i))]
			rows[i].Leaf = h[:]
		}
	}
	return rows
}

// named is a report as "finding index", in order, without the root that differs in any case.
func named(r Report) []string {
	out := []string{}
	for _, p := range r.Problems {
		if p.Finding != FindingRoot {
			out = append(out, fmt.Sprintf("%s %d", p.Finding, p.Index))
		}
	}
	return out
}

// TestFindings: what an owner of the database does to events, renumbering the rest so that nothing
// shows at first sight, is told apart and named by its place.
func TestFindings(t *testing.T) {
	s := storedLog(t, 40)
	fresh := func() Row { return cloneRows(testLog(t, 1))[0] }
	cases := map[string]struct {
		change func(r []Row) []Row
		want   []string
	}{
		"untouched":              {func(r []Row) []Row { return r }, []string{}},
		"rewritten":              {func(r []Row) []Row { reseal(t, &r[17]); return r }, []string{"rewritten 17"}},
		"first rewritten":        {func(r []Row) []Row { reseal(t, &r[0]); return r }, []string{"rewritten 0"}},
		"last rewritten":         {func(r []Row) []Row { reseal(t, &r[39]); return r }, []string{"rewritten 39"}},
		"two rewritten":          {func(r []Row) []Row { reseal(t, &r[3]); reseal(t, &r[30]); return r }, []string{"rewritten 3", "rewritten 30"}},
		"dropped":                {func(r []Row) []Row { return slices.Delete(r, 7, 8) }, []string{"dropped 7", "truncated 39"}},
		"first dropped":          {func(r []Row) []Row { return r[1:] }, []string{"dropped 0", "truncated 39"}},
		"three dropped":          {func(r []Row) []Row { return slices.Delete(r, 7, 10) }, []string{"dropped 7", "dropped 8", "dropped 9", "truncated 37"}},
		"swapped":                {func(r []Row) []Row { r[7], r[8] = r[8], r[7]; return r }, []string{"reordered 7", "reordered 8"}},
		"swapped far":            {func(r []Row) []Row { r[2], r[31] = r[31], r[2]; return r }, []string{"reordered 2", "reordered 31"}},
		"inserted, end cut":      {func(r []Row) []Row { return slices.Insert(r, 5, fresh())[:40] }, []string{"inserted 5", "dropped 39"}},
		"inserted":               {func(r []Row) []Row { return slices.Insert(r, 5, fresh()) }, []string{"inserted 5", "inserted 40", "dropped 39"}},
		"appended":               {func(r []Row) []Row { return append(r, fresh()) }, []string{"inserted 40"}},
		"dropped and made up":    {func(r []Row) []Row { return append(slices.Delete(r, 7, 8), fresh()) }, []string{"dropped 7", "inserted 39"}},
		"dropped, another later": {func(r []Row) []Row { return slices.Insert(slices.Delete(r, 7, 8), 20, fresh()) }, []string{"dropped 7", "inserted 20"}},
		"truncated":              {func(r []Row) []Row { return r[:33] }, []string{"truncated 33"}},
		"rewritten, truncated":   {func(r []Row) []Row { reseal(t, &r[17]); return r[:33] }, []string{"rewritten 17", "truncated 33"}},
		"copied over":            {func(r []Row) []Row { r[8] = cloneRows(r[7:8])[0]; return r }, []string{"rewritten 8"}},
		"a column":               {func(r []Row) []Row { r[8].Columns["node"] = "x"; return r }, []string{"column 8"}},
		"details":                {func(r []Row) []Row { r[9].Details[0] ^= 1; return r }, []string{"details 9"}},
		"not an event":           {func(r []Row) []Row { r[8].Body = []byte("{}"); return r }, []string{"rewritten 8", "malformed 8"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			rows := s.serve(c.change(cloneRows(s.rows)))
			report, err := Verifier{Checkpoint: s.tree, Prove: s.prove}.Verify(seq(rows))
			if err != nil || report.OK() != (name == "untouched") {
				t.Fatalf("%+v, %v", report, err)
			}
			got := named(report)
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("named %q, want %q\n%+v", got, c.want, report.Problems)
			}
		})
	}
}

// TestRowsAreNoFork: whoever remembers checkpoints hears of changed rows what they are, with or without a
// proof of the log, and of two histories only where the log has signed two.
func TestRowsAreNoFork(t *testing.T) {
	s := storedLog(t, 40)
	seen := []tlog.Tree{s.root(t, 10), s.root(t, 20), s.tree}
	other := storedLog(t, 40)
	forked := "history was rewritten: the first 20 events had the root " + s.root(t, 20).Hash.String() + " when they were seen before, and the 40 that are signed now do not begin with them"
	cut := func(int64, int64) (tlog.TreeProof, error) { return nil, errors.New("cable") }
	for name, c := range map[string]struct {
		change     func(r []Row) []Row
		signed     *stored
		seen       []tlog.Tree
		prove      func(from, to int64) (tlog.TreeProof, error)
		want       []string
		remembered int
	}{
		"rewritten":                     {func(r []Row) []Row { reseal(t, &r[5]); return r }, s, seen, s.prove, []string{"rewritten 5"}, 3},
		"dropped, the rest as it was":   {func(r []Row) []Row { return slices.Delete(s.serve(r), 5, 6) }, s, seen, s.prove, []string{"dropped 5"}, 3},
		"dropped, renumbered":           {func(r []Row) []Row { return s.serve(slices.Delete(r, 5, 6)) }, s, seen, s.prove, []string{"dropped 5", "truncated 39"}, 3},
		"inserted":                      {func(r []Row) []Row { return s.serve(slices.Insert(r, 5, testLog(t, 1)[0])[:40]) }, s, seen, s.prove, []string{"dropped 39", "inserted 5"}, 3},
		"swapped":                       {func(r []Row) []Row { r[5], r[8] = r[8], r[5]; return s.serve(r) }, s, seen, s.prove, []string{"reordered 5", "reordered 8"}, 3},
		"cut":                           {func(r []Row) []Row { return r[:15] }, s, seen, s.prove, []string{"truncated 15"}, 3},
		"rewritten, and no proof":       {func(r []Row) []Row { reseal(t, &r[15]); return r }, s, seen, cut, []string{"rewritten 15", "unproven -1"}, 1},
		"rows seen, another log signed": {func(r []Row) []Row { return r }, other, seen[:2], other.prove, []string{"forked -1", "forked -1"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			rows := c.change(cloneRows(s.rows))
			for i := range rows {
				if rows[i].Leaf == nil {
					h := s.hashes[tlog.StoredHashIndex(0, rows[i].Index)]
					rows[i].Leaf = h[:]
				}
			}
			report, err := Verifier{Checkpoint: c.signed.tree, Remembered: c.seen, Prove: c.prove, Leaves: s.leaves}.Verify(seq(rows))
			if err != nil || report.Remembered != c.remembered {
				t.Fatalf("%+v, %v", report, err)
			}
			got := named(report)
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("named %q, want %q\n%+v", got, c.want, report.Problems)
			}
			for _, p := range report.Problems {
				if strings.HasSuffix(p.What, "agrees is 0") {
					t.Errorf("a size that is not known: %s", p.What)
				}
			}
		})
	}
	// However much is wrong with the rows, a fork is named, and where nothing agrees no size is.
	rows := cloneRows(other.rows)
	for i := range rows {
		rows[i].Columns["node"] = "x"
	}
	report, err := Verifier{Checkpoint: other.tree, Remembered: []tlog.Tree{s.root(t, 20)}}.Verify(seq(rows))
	if err != nil || report.Problems[0].What != forked {
		t.Errorf("%+v, %v, want first %s", report.Problems, err, forked)
	}
}

// TestFindingsBeforeAGap: rows were renumbered up to where the log then ended, and it has grown since.
func TestFindingsBeforeAGap(t *testing.T) {
	s := storedLog(t, 40)
	for name, c := range map[string]struct {
		drop, until int
		want        []string
	}{
		"one": {7, 30, []string{"dropped 29", "dropped 7"}}, "the last before": {29, 30, []string{"dropped 29"}},
	} {
		t.Run(name, func(t *testing.T) {
			old := s.serve(cloneRows(s.rows))
			rows := s.serve(slices.Delete(cloneRows(s.rows[:c.until]), c.drop, c.drop+1))
			rows = append(rows, old[c.until:]...)
			report, err := Verifier{Checkpoint: s.tree, Prove: s.prove, Leaves: s.leaves}.Verify(seq(rows))
			got := named(report)
			slices.Sort(got)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("named %q, %v, want %q", got, err, c.want)
			}
			if report, err := (Verifier{Checkpoint: s.tree, Prove: s.prove}).Verify(seq(rows)); err != nil || report.OK() {
				t.Errorf("without the stored leaves: %+v, %v", report, err)
			}
		})
	}
}

// TestFindingsOfAStream: rows that a broker sends in another order, twice or not at all.
func TestFindingsOfAStream(t *testing.T) {
	s := storedLog(t, 40)
	for name, c := range map[string]struct {
		change func(r []Row) []Row
		want   []string
	}{
		"out of order":      {func(r []Row) []Row { r[7], r[8] = r[8], r[7]; return r }, []string{"reordered 7"}},
		"all late":          {func(r []Row) []Row { return append(r[30:], r[:30]...) }, nil},
		"left out":          {func(r []Row) []Row { return slices.Delete(r, 7, 10) }, []string{"dropped 7"}},
		"left out in turns": {func(r []Row) []Row { return slices.Delete(slices.Delete(r, 20, 21), 7, 8) }, []string{"dropped 20", "dropped 7"}},
		"twice":             {func(r []Row) []Row { return slices.Insert(r, 8, r[7]) }, []string{"inserted 7"}},
		"part of a gap":     {func(r []Row) []Row { x := r[8]; return slices.Insert(slices.Delete(r, 7, 10), 20, x) }, []string{"dropped 7", "dropped 9", "reordered 8"}},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := Verifier{Checkpoint: s.tree, Prove: s.prove, MaxProblems: 100}.Verify(seq(c.change(s.serve(cloneRows(s.rows)))))
			if err != nil || report.OK() {
				t.Fatalf("%+v, %v", report, err)
			}
			got := named(report)
			slices.Sort(got)
			if c.want == nil { // thirty late rows
				if len(got) != 30 || !strings.HasPrefix(got[0], "reordered ") {
					t.Errorf("named %q", got)
				}
				return
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("named %q, want %q\n%+v", got, c.want, report.Problems)
			}
		})
	}
}

// TestFindingsOfTrees: what contradicts the signed or remembered trees.
func TestFindingsOfTrees(t *testing.T) {
	s := storedLog(t, 40)
	rows := s.serve(cloneRows(s.rows))
	fork := cloneRows(s.rows)
	reseal(t, &fork[6])
	for name, c := range map[string]struct {
		v    Verifier
		rows []Row
		want []string
	}{
		"forked":               {Verifier{Checkpoint: treeOf(fork), Remembered: []tlog.Tree{s.root(t, 10)}}, fork, []string{"forked -1"}},
		"rolled back":          {Verifier{Checkpoint: treeOf(rows[:30]), Remembered: []tlog.Tree{s.tree}}, rows[:30], []string{"rolled-back -1"}},
		"rows of another tree": {Verifier{Checkpoint: treeOf(fork)}, rows, []string{}}, // no leaf is proven: the root alone
	} {
		t.Run(name, func(t *testing.T) {
			report, err := c.v.Verify(seq(c.rows))
			if err != nil || report.OK() || !slices.Equal(named(report), c.want) {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
	t.Run("stored hash", func(t *testing.T) {
		rows := s.serve(cloneRows(s.rows))
		rows[4].Leaf[3] ^= 1
		report, err := Verifier{Checkpoint: s.tree}.Verify(seq(rows))
		if err != nil || !slices.Equal(named(report), []string{"tree 4"}) {
			t.Errorf("%+v, %v", report, err)
		}
	})
	t.Run("stored hashes that are missing", func(t *testing.T) {
		rows := s.serve(cloneRows(s.rows))
		for _, i := range []int{4, 7, 8, 9} {
			rows[i].Leaf = nil
		}
		report, err := Verifier{Checkpoint: s.tree}.Verify(seq(rows))
		if err != nil || !slices.Equal(named(report), []string{"tree 4", "tree 7"}) {
			t.Errorf("%+v, %v", report, err)
		}
	})
	t.Run("no stored hash", func(t *testing.T) {
		rows := s.serve(cloneRows(s.rows))
		for i := range rows {
			rows[i].Leaf = nil
		}
		report, err := Verifier{Checkpoint: s.tree, Leaves: func(int64, int64) ([]tlog.Hash, error) { return nil, errors.New("none") }}.Verify(seq(rows))
		if err != nil || !slices.Equal(named(report), []string{"tree 0"}) {
			t.Errorf("%+v, %v", report, err)
		}
		if report, err = (Verifier{Checkpoint: s.tree}).Verify(seq(rows)); err != nil || !report.OK() { // of a reader that cannot tell
			t.Errorf("%+v, %v", report, err)
		}
		bare := storedTree{}
		for i := range int64(2*maxStrange + 10) {
			bare.lacks(2 * i)
		}
		if n := len(bare.bare); n != maxStrange+1 || bare.bare[n-1].to != 4*maxStrange+18 {
			t.Errorf("%d places in mind, to %d", n, bare.bare[n-1].to)
		}
	})
	for err, want := range map[error]Finding{ErrFork: FindingForked, ErrRollback: FindingRolledBack, ErrCheckpoint: FindingForged, ErrBundle: FindingBundle, ErrUnproven: "", errors.New("cable"): ""} {
		if got := FindingOf(fmt.Errorf("wrapped: %w", err)); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
}

// TestFindingsBeyondMemory: a shift of more rows than are kept in mind blames the row that caused
// it, and none at the edge of what is in mind.
func TestFindingsBeyondMemory(t *testing.T) {
	s := storedLog(t, maxStrange+600)
	for name, c := range map[string]struct {
		change func(r []Row) []Row
		want   []string
	}{
		"dropped":  {func(r []Row) []Row { return slices.Delete(r, 7, 9) }, []string{"dropped 7", "dropped 8", fmt.Sprintf("truncated %d", maxStrange+598)}},
		"inserted": {func(r []Row) []Row { return slices.Insert(r, 7, cloneRows(testLog(t, 1))[0])[:len(r)] }, []string{"inserted 7"}},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := Verifier{Checkpoint: s.tree, Prove: s.prove}.Verify(seq(s.serve(c.change(cloneRows(s.rows)))))
			if err != nil || !slices.Equal(named(report), c.want) {
				t.Errorf("%v, %v", named(report), err)
			}
		})
	}
}

// TestVerifySince verifies the rest of a log from a proven edge, for every size of what was verified before.
func TestVerifySince(t *testing.T) {
	s := storedLog(t, 70)
	rows := s.serve(cloneRows(s.rows))
	for from := range int64(71) {
		old := tlog.Tree{Hash: EmptyRoot()}
		if from > 0 {
			old = s.root(t, from)
		}
		edge, err := LoadProvenFrontier(old, s.hashes)
		if err != nil {
			t.Fatal(err)
		}
		v := Verifier{Checkpoint: s.tree, From: edge, Remembered: []tlog.Tree{old, s.tree}, Prove: s.prove}
		if report, err := v.Verify(seq(rows[from:])); err != nil || !report.OK() || report.Rows != 70-from || report.Remembered != 2 || report.Tree != s.tree {
			t.Fatalf("from %d: %+v, %v", from, report, err)
		}
		if from == 70 {
			continue
		}
		bad := cloneRows(s.rows)
		at := from + rand.Int64N(70-from)
		reseal(t, &bad[at])
		want := fmt.Sprintf("rewritten %d", at)
		if report, err := v.Verify(seq(s.serve(bad)[from:])); err != nil || !slices.Contains(named(report), want) {
			t.Errorf("from %d: %q is not among %q, %v", from, want, named(report), err)
		}
		if report, err := v.Verify(seq(rows[from+1:])); err != nil || report.OK() {
			t.Errorf("from %d: the first row is left out: %+v, %v", from, report, err)
		}
	}
	if _, err := LoadProvenFrontier(tlog.Tree{N: 9, Hash: s.tree.Hash}, s.hashes); !errors.Is(err, ErrFork) {
		t.Errorf("an edge of another root: %v", err)
	}
	edge, err := LoadProvenFrontier(s.root(t, 9), s.hashes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Verifier{Checkpoint: s.tree, From: edge, Rollups: NewRollupCheck(0, 0)}).Verify(seq(rows[9:])); err == nil {
		t.Error("rollups were held against a part of the log")
	}
}
