package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// testLog makes n sealed rows; every third has details.
func testLog(tb testing.TB, n int) []Row {
	tb.Helper()
	rows := make([]Row, n)
	for i := range rows {
		e := New(time.Unix(1_770_000_000+int64(i), 5), KindSSHHop, Success)
		e.Actor = Actor{Kind: ActorUser, Iss: "https://idp.corp.example", Sub: fmt.Sprint("u", i%3), Email: "ann@corp.example"}
		e.Resource = "host/db1"
		if i%3 == 0 {
			e.Details = json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))
		}
		row, err := Seal(e)
		if err != nil {
			tb.Fatal(err)
		}
		row.Place(int64(i))
		rows[i] = row
	}
	return rows
}

func treeOf(rows []Row) tlog.Tree {
	var f Frontier
	for _, row := range rows {
		f.Add(tlog.RecordHash(row.Body), nil)
	}
	return f.Tree()
}

func seq(rows []Row) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

func cloneRows(rows []Row) []Row {
	out := slices.Clone(rows)
	for i := range out {
		out[i].Body, out[i].Salt, out[i].Details = slices.Clone(out[i].Body), slices.Clone(out[i].Salt), slices.Clone(out[i].Details)
		e, _ := Parse(out[i].Body)
		out[i].Columns = Columns(out[i].Index, e)
	}
	return out
}

func TestVerifyLogSound(t *testing.T) {
	rows := testLog(t, 50)
	var seen []int64
	v := Verifier{Checkpoint: treeOf(rows), Remembered: []tlog.Tree{treeOf(rows[:33]), treeOf(nil), treeOf(rows), treeOf(rows[:7])},
		Event: func(index int64, e Event) error { seen = append(seen, index); return nil }}
	report, err := v.Verify(seq(rows))
	if err != nil || !report.OK() {
		t.Fatalf("%+v, %v", report, err)
	}
	if report.Rows != 50 || report.Remembered != 4 || report.Tree != v.Checkpoint || len(seen) != 50 {
		t.Errorf("report %+v, %d events seen", report, len(seen))
	}
	if report, err := VerifyLog(seq(nil), treeOf(nil), nil); err != nil || !report.OK() {
		t.Errorf("empty log: %+v, %v", report, err)
	}
}

// reseal replaces the event of a row by another one that is sound in itself.
func reseal(tb testing.TB, row *Row) {
	tb.Helper()
	e, err := Parse(row.Body)
	if err != nil {
		tb.Fatal(err)
	}
	e.Actor.Email, e.DetailsDigest = "bob@corp.example", ""
	forged, err := Seal(e)
	if err != nil {
		tb.Fatal(err)
	}
	forged.Place(row.Index)
	*row = forged
}

// TestVerifyLogTampered changes a sound log in every way that an owner of the database could, and
// asks that the report names it.
func TestVerifyLogTampered(t *testing.T) {
	rows := testLog(t, 20)
	signed := treeOf(rows)
	early := treeOf(rows[:5])
	cases := map[string]struct {
		tamper func(rows []Row) []Row
		want   []string // in the problems, in any order
	}{
		"a byte of the body": {func(r []Row) []Row {
			r[7].Body = []byte(strings.Replace(string(r[7].Body), "db1", "db2", 1))
			return r
		}, []string{"event 7 (ID7), column resource: is \"host/db1\"", "root of the 20 events"}},
		"a body that does not parse": {func(r []Row) []Row { r[7].Body[0] = 'x'; return r }, []string{"event 7, column body", "root of the 20"}},
		"a column":                   {func(r []Row) []Row { r[8].Columns["email"] = "eve@corp.example"; return r }, []string{"event 8 (ID8), column email: is \"eve@corp.example\""}},
		"a column's index":           {func(r []Row) []Row { r[8].Columns["idx"] = "9"; return r }, []string{"event 8 (ID8), column idx"}},
		"a column gone":              {func(r []Row) []Row { delete(r[8].Columns, "sub"); return r }, []string{"event 8 (ID8), column sub: is missing"}},
		"a column more":              {func(r []Row) []Row { r[8].Columns["x"] = ""; return r }, []string{"event 8 (ID8), column x"}},
		"details":                    {func(r []Row) []Row { r[9].Details[0] ^= 1; return r }, []string{"event 9 (ID9), column details"}},
		"salt":                       {func(r []Row) []Row { r[9].Salt[31] ^= 1; return r }, []string{"event 9 (ID9), column details: or their salt"}},
		"salt cut":                   {func(r []Row) []Row { r[9].Salt = r[9].Salt[:31]; return r }, []string{"event 9 (ID9), column salt"}},
		"salt gone":                  {func(r []Row) []Row { r[9].Salt = nil; return r }, []string{"event 9 (ID9), column salt: is missing"}},
		"details gone":               {func(r []Row) []Row { r[9].Salt, r[9].Details = nil, nil; return r }, []string{"event 9 (ID9), column details: are missing"}},
		"details added":              {func(r []Row) []Row { r[10].Details = []byte(`{}`); return r }, []string{"event 10 (ID10), column details: are there"}},
		"salt added":                 {func(r []Row) []Row { r[10].Salt = make([]byte, 32); return r }, []string{"event 10 (ID10), column salt: is there"}},
		"dropped":                    {func(r []Row) []Row { return slices.Delete(r, 7, 9) }, []string{"events 7 to 8 are missing", "root of the 18"}},
		"dropped and renumbered": {func(r []Row) []Row {
			r = slices.Delete(r, 7, 8)
			for i := 7; i < len(r); i++ {
				r[i].Place(int64(i))
			}
			return r
		}, []string{"events 19 to 19 are missing: the log was cut short", "root of the 19"}},
		"reordered":           {func(r []Row) []Row { r[7], r[8] = r[8], r[7]; return r }, []string{"event 7 comes out of order", "root of the 19"}},
		"swapped, renumbered": {func(r []Row) []Row { r[7], r[8] = r[8], r[7]; r[7].Place(7); r[8].Place(8); return r }, []string{"root of the 20"}},
		"repeated":            {func(r []Row) []Row { return slices.Insert(r, 8, r[7]) }, []string{"event 7 comes again"}},
		"inserted": {func(r []Row) []Row {
			x := r[3]
			x.Columns = Columns(20, mustParse(x.Body))
			x.Index = 20
			return append(r, x)
		}, []string{"event 20 lies beyond"}},
		"cut short":        {func(r []Row) []Row { return r[:15] }, []string{"events 15 to 19 are missing: the log was cut short", "root of the 15"}},
		"cut to nothing":   {func(r []Row) []Row { return nil }, []string{"events 0 to 19 are missing", "cannot be compared"}},
		"replaced late":    {func(r []Row) []Row { reseal(t, &r[12]); return r }, []string{"root of the 20 events", "last remembered size that agrees is 5"}},
		"replaced early":   {func(r []Row) []Row { reseal(t, &r[2]); return r }, []string{"the first 5 events that are there have the root", "whether the log still signs that one is not known", "root of the 20"}},
		"negative indexes": {func(r []Row) []Row { r[0].Place(-1); return r }, []string{"event -1 comes again", "events 0 to 0 are missing"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tampered := c.tamper(cloneRows(rows))
			report, err := VerifyLog(seq(tampered), signed, []tlog.Tree{early})
			if err != nil || report.OK() {
				t.Fatalf("not detected: %+v, %v", report, err)
			}
			var all []string
			for _, p := range report.Problems {
				all = append(all, p.What)
			}
			text := strings.Join(all, "\n")
			for _, want := range c.want {
				for i := range rows {
					want = strings.ReplaceAll(want, fmt.Sprintf("(ID%d)", i), "("+mustParse(rows[i].Body).ID+")")
				}
				if !strings.Contains(text, want) {
					t.Errorf("problems are\n%s\nwant %q", text, want)
				}
			}
		})
	}
}

func mustParse(body []byte) Event {
	e, err := Parse(body)
	if err != nil {
		panic(err)
	}
	return e
}

// TestVerifyLogForked: the log re-signed a rewritten history, which is sound in itself; only what
// was remembered gives it away.
func TestVerifyLogForked(t *testing.T) {
	rows := testLog(t, 20)
	old := []tlog.Tree{treeOf(rows[:4]), treeOf(rows[:10]), treeOf(rows)}
	fork := cloneRows(rows)
	reseal(t, &fork[6])
	if report, err := VerifyLog(seq(fork), treeOf(fork), nil); err != nil || !report.OK() {
		t.Fatalf("the fork is not sound in itself: %+v, %v", report, err)
	}
	report, err := VerifyLog(seq(fork), treeOf(fork), old)
	if err != nil || report.Found != 2 || report.Remembered != 1 ||
		!strings.Contains(report.Problems[0].What, "the first 10 events") || !strings.Contains(report.Problems[0].What, "the last size that agrees is 4") {
		t.Errorf("%+v, %v", report, err)
	}
	report, err = VerifyLog(seq(rows[:12]), treeOf(rows[:12]), old)
	if err != nil || report.Found != 1 || !strings.Contains(report.Problems[0].What, "the log went back: 20 events were seen before, the checkpoint signs 12") {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestVerifyLogLimits(t *testing.T) {
	rows := testLog(t, 100)
	for i := range rows {
		rows[i].Columns["sub"] = "x"
	}
	report, err := VerifyLog(seq(rows), treeOf(rows), nil)
	if err != nil || report.Found != 100 || len(report.Problems) != 20 {
		t.Errorf("found %d, named %d, %v", report.Found, len(report.Problems), err)
	}
	if !report.Has(FindingRollup, FindingColumn) || report.Has(FindingRollup, FindingRewritten) {
		t.Errorf("findings %v", report.counts)
	}
	broken := errors.New("cable")
	_, err = VerifyLog(func(yield func(Row, error) bool) { _ = yield(rows[0], nil) && yield(Row{}, broken) }, treeOf(rows), nil)
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	v := Verifier{Checkpoint: treeOf(testLog(t, 0)), Event: func(int64, Event) error { return nil }}
	if _, err := v.Verify(seq(nil)); err != nil {
		t.Error(err)
	}
	sound := testLog(t, 3)
	v = Verifier{Checkpoint: treeOf(sound), Event: func(i int64, e Event) error {
		if i == 1 {
			return errors.New("heads do not fit")
		}
		return nil
	}}
	if report, err := v.Verify(seq(sound)); err != nil || report.Found != 1 || report.Problems[0].Index != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestVerifyNamesTheChangedRow: with the leaves that the log has stored, a row whose bytes were
// changed consistently is named, where a root alone could only say that something was.
func TestVerifyNamesTheChangedRow(t *testing.T) {
	rows := testLog(t, 40)
	tree := treeOf(rows)
	for i := range rows {
		h := tlog.RecordHash(rows[i].Body)
		rows[i].Leaf = h[:]
	}
	changed := rows[17]
	e, err := Parse(changed.Body)
	if err != nil {
		t.Fatal(err)
	}
	e.Reason = "another reason"
	if changed.Body, err = json.Marshal(e); err != nil {
		t.Fatal(err)
	}
	rows[17] = changed
	report, err := VerifyLog(seq(rows), tree, nil)
	if err != nil || report.OK() {
		t.Fatalf("%v, %+v", err, report)
	}
	if p := report.Problems[0]; p.Index != 17 || p.ID != e.ID {
		t.Errorf("named is %+v, not event 17 (%s)", p, e.ID)
	}
	// Stored leaves that do not give the signed root blame nobody.
	rows[3].Leaf = rows[4].Leaf
	report, err = VerifyLog(seq(rows), tree, nil)
	if err != nil || report.OK() {
		t.Fatalf("%v, %+v", err, report)
	}
	for _, p := range report.Problems {
		if p.Index >= 0 {
			t.Errorf("blamed by leaves that prove nothing: %+v", p)
		}
	}
}
