package audit

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// defaultProblems is how many problems a Verifier names where its caller sets no limit.
const defaultProblems = 20

// Verifier judges a log from its rows alone, in one pass and O(log n) memory.
type Verifier struct {
	Checkpoint  tlog.Tree   // the tree that the log has signed
	Remembered  []tlog.Tree // trees seen before, in any order
	MaxProblems int         // how many problems Report names; 0: 20

	// Event, where set, is called for each row that is sound in itself, in order, with the event
	// and its details. Its error is reported as a problem of that row.
	Event func(index int64, e Event) error
}

// Problem names one thing that is wrong. Index is -1 where no single row is to blame.
type Problem struct {
	Index int64  `json:"idx"`
	ID    string `json:"id"`
	What  string `json:"what"`
}

// Report is the outcome of a verification.
type Report struct {
	Rows       int64     `json:"rows"`       // rows that were read
	Tree       tlog.Tree `json:"tree"`       // as recomputed from them
	Remembered int       `json:"remembered"` // how many remembered trees the log agrees with
	Problems   []Problem `json:"problems"`
	Found      int       `json:"found"` // problems found, of which Problems holds the first
}

// OK reports whether nothing is wrong.
func (r Report) OK() bool { return r.Found == 0 }

// VerifyLog judges rows against a signed tree and trees seen before. See Verifier.
func VerifyLog(rows iter.Seq2[Row, error], checkpoint tlog.Tree, remembered []tlog.Tree) (Report, error) {
	return Verifier{Checkpoint: checkpoint, Remembered: remembered}.Verify(rows)
}

// Verify reads all rows and reports what is wrong with them: rows missing, repeated, out of order or
// beyond the checkpoint, rows that disagree with themselves (CheckRow), and roots that differ from
// the checkpoint's or from a remembered one, recomputed from the bytes. The error is that of rows:
// then the log could not be read to its end, and the report holds what was found until then.
func (v Verifier) Verify(rows iter.Seq2[Row, error]) (Report, error) {
	p := pass{Verifier: v, trees: slices.Clone(v.Remembered), report: Report{Problems: []Problem{}}}
	if p.MaxProblems == 0 {
		p.MaxProblems = defaultProblems
	}
	slices.SortFunc(p.trees, func(a, b tlog.Tree) int { return cmp.Compare(a.N, b.N) })
	p.roots()
	for row, err := range rows {
		if err != nil {
			p.report.Tree = p.edge.Tree()
			return p.report, fmt.Errorf("audit: read the log at event %d: %w", p.edge.Size(), err)
		}
		p.row(row)
	}
	p.finish()
	return p.report, nil
}

// pass is one run of a Verifier.
type pass struct {
	Verifier
	edge   Frontier
	next   int64       // index that the next row must have
	trees  []tlog.Tree // remembered ones that the edge has not reached, by size
	agreed int64       // the largest remembered size that agreed
	buf    []tlog.Hash
	report Report

	// The tree over the leaves that the log has stored, and the rows that differ from theirs. Where
	// that tree is the signed one, those rows are what was changed, and nothing else was.
	stored  Frontier
	strange []Problem
}

func (p *pass) problem(index int64, id, format string, args ...any) {
	p.report.Found++
	if len(p.report.Problems) < p.MaxProblems {
		p.report.Problems = append(p.report.Problems, Problem{Index: index, ID: id, What: fmt.Sprintf(format, args...)})
	}
}

func (p *pass) row(row Row) {
	p.report.Rows++
	e, rowErr := checkRow(row)
	if rowErr != nil {
		p.problem(row.Index, rowErr.ID, "%s", rowErr.Error())
	}
	switch {
	case row.Index < p.next:
		p.problem(row.Index, e.ID, "event %d comes again or out of order: event %d was due", row.Index, p.next)
		return
	case row.Index > p.next:
		p.problem(p.next, "", "events %d to %d are missing", p.next, row.Index-1)
	}
	if row.Index >= p.Checkpoint.N {
		p.problem(row.Index, e.ID, "event %d lies beyond the signed checkpoint, which ends at %d events", row.Index, p.Checkpoint.N)
		p.next = row.Index + 1
		return
	}
	p.next = row.Index + 1
	leaf := tlog.RecordHash(row.Body)
	p.compare(row, e.ID, leaf)
	p.buf = p.edge.Add(leaf, p.buf[:0])
	p.roots()
	if rowErr == nil && p.Event != nil {
		if err := p.Event(row.Index, e); err != nil {
			p.problem(row.Index, e.ID, "event %d (%s): %v", row.Index, e.ID, err)
		}
	}
}

// compare keeps the row in mind where its bytes are not those of the stored leaf.
func (p *pass) compare(row Row, id string, leaf tlog.Hash) {
	if len(row.Leaf) != tlog.HashSize {
		return
	}
	p.buf = p.stored.Add(tlog.Hash(row.Leaf), p.buf[:0])
	if leaf != tlog.Hash(row.Leaf) && len(p.strange) < p.MaxProblems {
		p.strange = append(p.strange, Problem{Index: row.Index, ID: firstID(id, row.Columns["id"]),
			What: fmt.Sprintf("event %d (%s): its bytes are not those that the log has signed", row.Index, firstID(id, row.Columns["id"]))})
	}
}

func firstID(ids ...string) string {
	for _, id := range ids {
		if id != "" {
			return id
		}
	}
	return "id unknown"
}

// blame names the changed rows, where the stored leaves are proven by the signed root.
func (p *pass) blame() {
	if p.stored.Tree() != p.Checkpoint {
		return
	}
	for _, s := range p.strange {
		p.report.Found++
		p.report.Problems = slices.Insert(p.report.Problems, 0, s)
	}
}

// roots compares the remembered trees of the size that the edge has reached.
func (p *pass) roots() {
	for len(p.trees) > 0 && p.trees[0].N == p.edge.Size() {
		want := p.trees[0]
		p.trees = p.trees[1:]
		if got := p.edge.Root(); got != want.Hash {
			p.problem(-1, "", "history was rewritten: the first %d events have the root %s, but %s was seen before; the last size that agrees is %d",
				want.N, got, want.Hash, p.agreed)
			continue
		}
		p.report.Remembered++
		p.agreed = want.N
	}
}

func (p *pass) finish() {
	p.report.Tree = p.edge.Tree()
	for _, t := range p.trees {
		if t.N > p.Checkpoint.N {
			p.problem(-1, "", "the log went back: %d events were seen before, the checkpoint signs %d", t.N, p.Checkpoint.N)
			continue
		}
		p.problem(-1, "", "the tree of %d events that was seen before cannot be compared: only %d events are there", t.N, p.edge.Size())
	}
	if p.next < p.Checkpoint.N {
		p.problem(p.next, "", "events %d to %d are missing: the log was cut short", p.next, p.Checkpoint.N-1)
	}
	if got := p.report.Tree; got != p.Checkpoint {
		p.problem(-1, "", "the root of the %d events that are there is %s, but the checkpoint signs %s for %d; the last remembered size that agrees is %d",
			got.N, got.Hash, p.Checkpoint.Hash, p.Checkpoint.N, p.agreed)
		p.blame()
	}
}
