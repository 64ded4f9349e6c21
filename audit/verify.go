package audit

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// defaultProblems is how many problems a Verifier names where its caller sets no limit.
const defaultProblems = 20

// Verifier judges a log from its rows alone, in one pass and O(log n) memory, rollups aside.
type Verifier struct {
	Checkpoint  tlog.Tree   // the tree that the log has signed
	Remembered  []tlog.Tree // trees seen before, in any order; none smaller than From
	MaxProblems int         // how many problems Report names; 0: 20

	// From is the edge of a tree that was verified before, proven by its root (LoadProvenFrontier):
	// the rows begin behind it. The zero value is the beginning of the log.
	From Frontier

	// Rollups, where set, hold the log's rollups against its events. They need the whole log.
	Rollups *RollupCheck

	// Prove, where set, asks the log for a consistency proof: with it, more can be said about rows
	// that are missing, and rows that were changed are told from a history that was. What it gives
	// is checked.
	Prove func(from, to int64) (tlog.TreeProof, error)

	// Leaves, where set, asks the log for the stored leaf hashes from..to-1, for rows that are not
	// there, so that what became of the others can be told. What it gives is checked.
	Leaves func(from, to int64) ([]tlog.Hash, error)

	// Event, where set, is called for each row that is sound in itself, in order, with the event
	// and its details. Its error is reported as a problem of that row.
	Event func(index int64, e Event) error
}

// Problem names one thing that is wrong. Index is -1 where no single row is to blame.
type Problem struct {
	Index   int64   `json:"idx"`
	ID      string  `json:"id"`
	Finding Finding `json:"finding"`
	What    string  `json:"what"`
}

// Report is the outcome of a verification.
type Report struct {
	Rows       int64     `json:"rows"`       // rows that were read
	Tree       tlog.Tree `json:"tree"`       // as recomputed from them
	Remembered int       `json:"remembered"` // how many remembered trees the signed one extends
	Rollups    int       `json:"rollups"`    // how many rollups were compared
	Problems   []Problem `json:"problems"`
	Found      int       `json:"found"` // problems found, of which Problems holds the first

	counts map[Finding]int
}

// OK reports whether nothing is wrong.
func (r Report) OK() bool { return r.Found == 0 }

// Has reports whether there is a problem of one of the findings, named in Problems or not.
func (r Report) Has(findings ...Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return r.counts[f] > 0 })
}

// VerifyLog judges rows against a signed tree and trees seen before. See Verifier.
func VerifyLog(rows iter.Seq2[Row, error], checkpoint tlog.Tree, remembered []tlog.Tree) (Report, error) {
	return Verifier{Checkpoint: checkpoint, Remembered: remembered}.Verify(rows)
}

// Verify reads all rows and reports what is wrong with them: rows missing, repeated, out of order or
// beyond the checkpoint, rows that disagree with themselves (CheckRow), a root that differs from
// the checkpoint's, recomputed from the bytes, remembered trees that the signed one does not extend,
// and rollups that count something else. The error is that of rows: then the log could not be read to its end, and the
// report holds what was found until then.
func (v Verifier) Verify(rows iter.Seq2[Row, error]) (Report, error) {
	if v.Rollups != nil && v.From.Size() > 0 {
		return Report{}, errors.New("audit: rollups can be held against the whole log alone")
	}
	p := pass{Verifier: v, edge: v.From, next: v.From.Size(), trees: slices.Clone(v.Remembered), stored: storedTree{edge: v.From}, report: Report{Problems: []Problem{}, counts: map[Finding]int{}}}
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
	gaps   []gap       // rows that were passed over, and may still come out of order
	trees  []tlog.Tree // remembered ones, by size
	got    []tlog.Hash // root of the rows at the size of each tree that the edge has reached
	agreed int64       // the largest remembered size at which the rows agreed
	buf    []tlog.Hash
	stored storedTree
	report Report
}

// gap is a range of indexes, the last one included.
type gap struct{ from, to int64 }

func (p *pass) problem(index int64, id string, f Finding, format string, args ...any) {
	p.report.Found++
	p.report.counts[f]++
	if len(p.report.Problems) < p.MaxProblems {
		p.report.Problems = append(p.report.Problems, Problem{Index: index, ID: id, Finding: f, What: fmt.Sprintf(format, args...)})
	}
}

func (p *pass) row(row Row) {
	p.report.Rows++
	e, rowErr := checkRow(row)
	if rowErr != nil {
		p.problem(row.Index, rowErr.ID, rowErr.finding(), "%s", rowErr.Error())
	}
	if row.Index < p.next {
		p.late(row.Index, e.ID)
		return
	}
	if row.Index >= p.Checkpoint.N {
		p.problem(row.Index, e.ID, FindingInserted, "event %d lies beyond the signed checkpoint, which ends at %d events", row.Index, p.Checkpoint.N)
		return
	}
	if row.Index > p.next {
		p.skipped(gap{p.next, row.Index - 1})
	}
	p.next = row.Index + 1
	leaf := tlog.RecordHash(row.Body)
	p.stored.add(row, firstID(e.ID, row.Columns["id"]), leaf)
	p.buf = p.edge.Add(leaf, p.buf[:0])
	p.roots()
	if p.Rollups != nil && e.ID != "" {
		p.Rollups.count(row.Index, e)
	}
	if rowErr == nil && p.Event != nil {
		if err := p.Event(row.Index, e); err != nil {
			p.problem(row.Index, e.ID, FindingSession, "event %d (%s): %v", row.Index, e.ID, err)
		}
	}
}

// skipped keeps a gap in mind: its rows are missing, unless they come later.
func (p *pass) skipped(g gap) {
	p.stored.pass(g, p.Leaves)
	if len(p.gaps) < p.MaxProblems {
		p.gaps = append(p.gaps, g)
		return
	}
	p.missing(g)
}

func (p *pass) missing(g gap) {
	p.problem(g.from, "", FindingDropped, "events %d to %d are missing", g.from, g.to)
}

// late is a row behind one of a higher index: out of order where it was passed over, and one too many otherwise.
func (p *pass) late(index int64, id string) {
	for i, g := range p.gaps {
		if index < g.from || index > g.to {
			continue
		}
		p.gaps = slices.Delete(p.gaps, i, i+1)
		for _, rest := range []gap{{g.from, index - 1}, {index + 1, g.to}} {
			if rest.from <= rest.to {
				p.gaps = append(p.gaps, rest)
			}
		}
		p.problem(index, id, FindingReordered, "event %d comes out of order: event %d was due", index, p.next)
		return
	}
	p.problem(index, id, FindingInserted, "event %d comes again or out of order: event %d was due", index, p.next)
}

func firstID(ids ...string) string {
	for _, id := range ids {
		if id != "" {
			return id
		}
	}
	return "id unknown"
}

// roots keeps the root of the rows at the sizes of remembered trees.
func (p *pass) roots() {
	for len(p.got) < len(p.trees) && p.trees[len(p.got)].N == p.edge.Size() {
		t, root := p.trees[len(p.got)], p.edge.Root()
		p.got = append(p.got, root)
		if root == t.Hash {
			p.agreed = t.N
		}
	}
}

func (p *pass) finish() {
	p.report.Tree = p.edge.Tree()
	p.history()
	slices.SortFunc(p.gaps, func(a, b gap) int { return cmp.Compare(a.from, b.from) })
	for _, g := range p.gaps {
		p.missing(g)
	}
	if p.next < p.Checkpoint.N {
		p.problem(p.next, "", FindingTruncated, "events %d to %d are missing: the log was cut short", p.next, p.Checkpoint.N-1)
	}
	if got := p.report.Tree; got != p.Checkpoint {
		p.problem(-1, "", FindingRoot, "the root of the %d events that are there is %s, but the checkpoint signs %s for %d%s",
			got.N, got.Hash, p.Checkpoint.Hash, p.Checkpoint.N, lastSize("remembered size", p.agreed))
		p.blame()
	} else {
		p.suspectTree()
	}
	if p.Rollups != nil {
		p.report.Rollups = p.Rollups.stored
		p.Rollups.differences(func(what string) { p.problem(-1, "", FindingRollup, "%s", what) })
	}
}

// history holds the signed tree against the remembered ones. The root of the rows alone accuses nobody
// of signing two histories: whoever changes the database signs nothing.
func (p *pass) history() {
	var extended int64
	var found []Problem
	accuse := func(f Finding, format string, args ...any) {
		found = append(found, Problem{Index: -1, Finding: f, What: fmt.Sprintf(format, args...)})
	}
	for i, t := range p.trees {
		if t.N > p.Checkpoint.N {
			accuse(FindingRolledBack, "the log went back: %d events were seen before, the checkpoint signs %d", t.N, p.Checkpoint.N)
			continue
		}
		switch err := p.extends(i); {
		case err == nil:
			p.report.Remembered++
			extended = t.N
		case errors.Is(err, ErrFork):
			accuse(FindingForked, "history was rewritten: the first %d events had the root %s when they were seen before, and the %d that are signed now do not begin with them%s",
				t.N, t.Hash, p.Checkpoint.N, lastSize("size", extended))
		case i >= len(p.got):
			p.problem(-1, "", FindingTruncated, "the tree of %d events that was seen before cannot be compared: only %d events are there", t.N, p.edge.Size())
		case p.got[i] != t.Hash:
			p.problem(-1, "", FindingUnproven, "the first %d events that are there have the root %s, but %s was seen before, and whether the log still signs that one is not known: %v", t.N, p.got[i], t.Hash, err)
		}
	}
	p.first(found...)
}

// extends returns nil where the signed tree extends the i-th remembered one, ErrFork where it does
// not, and ErrUnproven where nothing tells: the rows are not those of the signed tree, and no proof came.
func (p *pass) extends(i int) error {
	t, as := p.trees[i], tlog.Hash{}
	switch {
	case t.N == p.Checkpoint.N:
		as = p.Checkpoint.Hash
	case p.report.Tree == p.Checkpoint && i < len(p.got):
		as = p.got[i]
	case p.Prove == nil:
		return ErrUnproven
	default:
		proof, err := p.Prove(t.N, p.Checkpoint.N)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnproven, err)
		}
		if err := CheckConsistency(proof, t, p.Checkpoint); err != nil {
			return fmt.Errorf("%w: %w", ErrFork, err)
		}
		return nil
	}
	if as != t.Hash {
		return ErrFork
	}
	return nil
}

// lastSize says up to where things agree, where that is known.
func lastSize(of string, n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; the last %s that agrees is %d", of, n)
}

// first puts problems before all others, so that no number of those hides what they mean.
func (p *pass) first(found ...Problem) {
	p.report.Found += len(found)
	for _, problem := range found {
		p.report.counts[problem.Finding]++
	}
	p.report.Problems = slices.Insert(p.report.Problems, 0, found[:min(len(found), p.MaxProblems)]...)
}

// blame names, first of all, what was done to which row, where the stored leaves are proven to be the signed ones.
func (p *pass) blame() {
	if len(p.stored.strange) == 0 || !p.stored.proven(p.Checkpoint, p.Prove) {
		return
	}
	p.first(p.stored.blame(p.next == p.Checkpoint.N)...)
}

// suspectTree names stored hashes that are not there or not those of the events, which are themselves as signed.
func (p *pass) suspectTree() {
	for _, s := range p.stored.strange {
		p.problem(s.index, s.id, FindingTree, "event %d (%s) is as it was signed, but the tree holds another hash for it: proofs of it will fail", s.index, s.id)
	}
	if p.Leaves == nil && !p.stored.held { // rows of a reader that cannot tell
		return
	}
	for _, g := range p.stored.bare {
		p.problem(g.from, "", FindingTree, "events %d to %d are as they were signed, but the tree holds no hash for some or all of them: proofs will fail", g.from, g.to)
	}
}
