package audit

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// maxStrange bounds how many rows that are not as stored in the tree are kept in mind: enough to
// see how far the rows behind a dropped or inserted one were moved.
const maxStrange = 4096

// strange is a row whose bytes are not those of the leaf that the log has stored in its place.
type strange struct {
	index  int64
	id     string
	is     tlog.Hash // of its bytes
	stored tlog.Hash // in the tree
	gone   bool      // no row has this index
}

// stored is the tree over the leaves that the log has stored, and the rows that differ from theirs.
// Where that tree is the signed one, or the proven beginning of it, it says what became of each event.
type storedTree struct {
	edge    Frontier
	strange []strange
	more    bool  // rows that differ, beyond those in mind
	held    bool  // a row came with its leaf
	bare    []gap // rows that came without
	buf     []tlog.Hash
}

// add compares a row with its leaf.
func (t *storedTree) add(row Row, id string, is tlog.Hash) {
	if len(row.Leaf) != tlog.HashSize {
		t.lacks(row.Index)
		return
	}
	t.held = true
	stored := tlog.Hash(row.Leaf)
	t.buf = t.edge.Add(stored, t.buf[:0])
	switch {
	case is == stored:
	case len(t.strange) == maxStrange:
		t.more = true
	default:
		t.strange = append(t.strange, strange{index: row.Index, id: id, is: is, stored: stored})
	}
}

// lacks keeps in mind that a row came without its leaf; beyond maxStrange places, that more did behind the last.
func (t *storedTree) lacks(index int64) {
	if last := len(t.bare) - 1; last >= 0 && (t.bare[last].to == index-1 || last == maxStrange) {
		t.bare[last].to = index
		return
	}
	t.bare = append(t.bare, gap{index, index})
}

// pass goes over rows that are not there, with the leaves that the log has stored for them. Where they
// are too many, or not to be had, the tree is not the signed one, and nobody is blamed.
func (t *storedTree) pass(g gap, leaves func(from, to int64) ([]tlog.Hash, error)) {
	if leaves == nil || g.to-g.from >= maxStrange {
		return
	}
	hashes, err := leaves(g.from, g.to+1)
	if err != nil {
		return
	}
	for i, h := range hashes {
		t.buf = t.edge.Add(h, t.buf[:0])
		if len(t.strange) < maxStrange {
			t.strange = append(t.strange, strange{index: g.from + int64(i), stored: h, gone: true})
		}
	}
}

// proven reports whether the stored leaves are those of the signed tree. Where they are fewer, as
// after rows were dropped and the rest renumbered, only a consistency proof can tell.
func (t *storedTree) proven(signed tlog.Tree, prove func(from, to int64) (tlog.TreeProof, error)) bool {
	tree := t.edge.Tree()
	if tree.N >= signed.N || tree.N == 0 || prove == nil {
		return tree == signed
	}
	proof, err := prove(tree.N, signed.N)
	return err == nil && CheckConsistency(proof, tree, signed) == nil
}

// move is where the signed bytes of an event stand now.
type move struct {
	strange
	from  int64 // index at which the bytes that are here were signed
	moved bool  // from is known
	kept  bool  // the bytes that were signed for this index stand somewhere else
}

// blame says what became of each strange row. whole says that the rows go to the signed end, so
// that there is no row outside of those in mind whose bytes a strange one could have.
func (t *storedTree) blame(whole bool) (found []Problem) {
	moves, last := t.moves(whole && !t.more)
	ordered := inOrder(moves)
	for i, m := range moves {
		if m.index > last {
			break
		}
		switch {
		case m.gone: // named as missing
		case m.moved && m.kept && ordered[i]: // carried along by what was dropped or inserted before it
		case m.moved && m.kept:
			found = append(found, m.problem(FindingReordered, "event %d (%s) was reordered: the log has signed it as event %d", m.index, m.id, m.from))
		case m.moved:
			found = append(found, Problem{Index: m.index, Finding: FindingDropped, What: fmt.Sprintf("event %d was dropped: the log has signed another one than the one that stands there now, which was event %d", m.index, m.from)})
		case m.kept:
			found = append(found, m.problem(FindingInserted, "event %d (%s) was inserted: the log has never signed its bytes, and what it has signed for this place stands elsewhere", m.index, m.id))
		default:
			found = append(found, m.problem(FindingRewritten, "event %d (%s): its bytes are not those that the log has signed", m.index, m.id))
		}
	}
	return found
}

func (s strange) problem(f Finding, format string, args ...any) Problem {
	return Problem{Index: s.index, ID: s.id, Finding: f, What: fmt.Sprintf(format, args...)}
}

// moves pairs bytes with the places that they were signed for. Where not all strange rows are in
// mind, last is the index behind which a counterpart may be missing.
func (t *storedTree) moves(all bool) (moves []move, last int64) {
	signedAt, isAt := map[tlog.Hash]int64{}, map[tlog.Hash]bool{}
	for _, s := range t.strange {
		signedAt[s.stored] = s.index
		if !s.gone {
			isAt[s.is] = true
		}
	}
	var far int64
	for _, s := range t.strange {
		m := move{strange: s, kept: isAt[s.stored]}
		if m.from, m.moved = signedAt[s.is]; m.moved && !s.gone {
			far = max(far, m.from-m.index, m.index-m.from)
		}
		moves, last = append(moves, m), s.index
	}
	if !all {
		last -= far
	}
	return moves, last
}

// inOrder reports for each move whether its bytes stand before and behind the same ones as when they were signed.
func inOrder(moves []move) []bool {
	ordered := make([]bool, len(moves))
	highest := int64(-1)
	for i, m := range moves {
		if m.moved {
			ordered[i], highest = m.from > highest, max(highest, m.from)
		}
	}
	for i, lowest := len(moves)-1, int64(1)<<62; i >= 0; i-- {
		if m := moves[i]; m.moved {
			ordered[i], lowest = ordered[i] && m.from < lowest, min(lowest, m.from)
		}
	}
	return ordered
}
