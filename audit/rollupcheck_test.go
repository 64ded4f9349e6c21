package audit

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// manyRows yields n sound rows of a few people, kinds and days without keeping them.
func manyRows(tb testing.TB, n int) (rows iter.Seq2[Row, error], tree tlog.Tree) {
	tb.Helper()
	each := func(f func(Row) bool) {
		for i := range n {
			e := New(time.Unix(1_770_000_000+int64(i)*60, 0), []string{KindSSHHop, KindAWSAssume, KindUserLogin}[i%3], Success)
			e.ID = fmt.Sprintf("019e0000-0000-7000-8000-%012x", i)
			e.Actor = Actor{Kind: ActorUser, Iss: "https://idp.corp.example", Sub: fmt.Sprint("u", i%5), Email: fmt.Sprintf("u%d@corp.example", i%5)}
			e.Resource, e.Details = []string{"host/db1", "role/prod", "session/x"}[i%3], json.RawMessage(`{"serial":"18446744073709551615","key_id":"ses_abcdefghijk"}`)
			row, err := Seal(e)
			if err != nil {
				tb.Fatal(err)
			}
			row.Place(int64(i))
			if !f(row) {
				return
			}
		}
	}
	if n > 50_000 {
		tb.Fatal("the rows of a test are made twice")
	}
	all := make([]Row, 0, n)
	each(func(r Row) bool { all = append(all, r); return true })
	return seq(all), treeOf(all)
}

// rollupsOf is what a sound store keeps of the first upTo events.
func rollupsOf(tb testing.TB, rows iter.Seq2[Row, error], upTo int64) (out []Rollup) {
	tb.Helper()
	counts := map[RollupKey]int64{}
	for row := range rows {
		if row.Index < upTo {
			for _, k := range RollupKeys(mustParse(row.Body)) {
				counts[k]++
			}
		}
	}
	for k, n := range counts {
		out = append(out, Rollup{k, n})
	}
	slices.SortFunc(out, func(a, b Rollup) int { return compareKeys(a.RollupKey, b.RollupKey) })
	return out
}

// TestRollupsAreDerived (R9): each rollup that does not count what the hashed events give is named.
func TestRollupsAreDerived(t *testing.T) {
	const n = 2*SegmentSize + 100
	rows, tree := manyRows(t, n)
	whole := rollupsOf(t, rows, 2*SegmentSize)
	for name, c := range map[string]struct {
		upTo, size int64
		change     func(r []Rollup) []Rollup
		want       []string
	}{
		"as stored":        {2 * SegmentSize, n, func(r []Rollup) []Rollup { return r }, nil},
		"a later moment":   {2 * SegmentSize, 5, func(r []Rollup) []Rollup { return r }, nil},
		"an earlier size":  {SegmentSize, SegmentSize, func([]Rollup) []Rollup { return rollupsOf(t, rows, SegmentSize) }, nil},
		"one more":         {2 * SegmentSize, n, func(r []Rollup) []Rollup { r[3].N++; return r }, []string{whole[3].String(), fmt.Sprintf("counts %d, but the hashed events give %d", whole[3].N+1, whole[3].N)}},
		"one less":         {2 * SegmentSize, n, func(r []Rollup) []Rollup { r[0].N--; return r }, []string{whole[0].String()}},
		"gone":             {2 * SegmentSize, n, func(r []Rollup) []Rollup { return r[1:] }, []string{whole[0].String(), "counts 0"}},
		"made up":          {2 * SegmentSize, n, func(r []Rollup) []Rollup { return append(r, Rollup{RollupKey{Cube: CubeUser, Email: "eve"}, 3}) }, []string{`"eve"`, "give 0"}},
		"made up of none":  {2 * SegmentSize, n, func(r []Rollup) []Rollup { return append(r, Rollup{RollupKey{Cube: "x"}, 0}) }, []string{`"x"`, "which no store keeps"}},
		"too many":         {2 * SegmentSize, n, func(r []Rollup) []Rollup { r[0].N += 1 << 32; return r }, []string{whole[0].String(), "which no store keeps"}},
		"twice":            {2 * SegmentSize, n, func(r []Rollup) []Rollup { return append(r, r[2]) }, []string{whole[2].String() + " is there more than once"}},
		"another person":   {2 * SegmentSize, n, func(r []Rollup) []Rollup { r[len(r)-1].Email = "eve"; return r }, []string{`"eve"`, whole[len(whole)-1].String()}},
		"none":             {0, n, func([]Rollup) []Rollup { return nil }, []string{"cover the first 0 events, but the log had 4196 already"}},
		"behind":           {SegmentSize, n, func([]Rollup) []Rollup { return rollupsOf(t, rows, SegmentSize) }, []string{"they must cover 4096"}},
		"half a segment":   {SegmentSize + 1, SegmentSize, func([]Rollup) []Rollup { return rollupsOf(t, rows, SegmentSize+1) }, []string{"no whole segments"}},
		"beyond the point": {SegmentSize, SegmentSize, func(r []Rollup) []Rollup { return r }, []string{"but the hashed events give"}},
	} {
		t.Run(name, func(t *testing.T) {
			check := NewRollupCheck(c.upTo, c.size)
			stored := c.change(slices.Clone(whole))
			for _, r := range stored {
				check.Add(r)
			}
			report, err := Verifier{Checkpoint: tree, Rollups: check, MaxProblems: 1000}.Verify(rows)
			if err != nil || report.OK() != (c.want == nil) || report.Rollups != len(stored) {
				t.Fatalf("%+v, %v", report, err)
			}
			var all []string
			for _, p := range report.Problems {
				if p.Finding != FindingRollup {
					t.Errorf("found %+v", p)
				}
				all = append(all, p.What)
			}
			for _, want := range c.want {
				if !strings.Contains(strings.Join(all, "\n"), want) {
					t.Errorf("no %q among\n%s", want, strings.Join(all, "\n"))
				}
			}
		})
	}
}

// BenchmarkVerify is the whole verification of rows that are there already.
func BenchmarkVerify(b *testing.B) {
	rows, tree := manyRows(b, 4*SegmentSize)
	rollups := rollupsOf(b, rows, tree.N)
	b.ReportAllocs()
	events := 0
	for b.Loop() {
		check := NewRollupCheck(tree.N, tree.N)
		for _, r := range rollups {
			check.Add(r)
		}
		report, err := Verifier{Checkpoint: tree, Rollups: check}.Verify(rows)
		if err != nil || !report.OK() {
			b.Fatalf("%+v, %v", report, err)
		}
		events += int(report.Rows)
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "rows/s")
}
