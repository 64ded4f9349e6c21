package picker

import (
	"cmp"
	"slices"
	"strings"

	"sega/cmd/sega/tui"
)

// Columns that are searched, and in which what was found is marked.
const (
	ofName = iota
	ofAccount
	ofDescription
	searched
)

// row is a role as listed. Its columns are clean.
type row struct {
	role                                        Role
	name, account, description, max, mode, need string
	texts                                       [searched]text
}

func newRow(r Role) row {
	column := func(s string) string { return tui.Clean(tui.Clip(strings.TrimSpace(s), textMost)) }
	v := row{role: r, name: column(r.Name), account: column(r.Account), description: column(r.Description), max: column(r.Max), mode: column(r.Mode), need: column(r.needs(","))}
	if r.Refused != "" {
		v.need = "not allowed: " + column(r.Refused)
	}
	v.texts = [searched]text{newText(v.name, true, inName), newText(v.account, true, inLabel), newText(v.description, false, 0)}
	return v
}

// needs are the terms that are not met yet, in words.
func (r Role) needs(separator string) string {
	var words []string
	for _, n := range []struct {
		needed bool
		word   string
	}{{r.NeedsReason, "reason"}, {r.NeedsTicket, "ticket"}, {r.NeedsFresh, "fresh MFA"}} {
		if n.needed {
			words = append(words, n.word)
		}
	}
	return strings.Join(words, separator)
}

// hit is a row that fits the query, and the runes that do.
type hit struct {
	*row
	score int
	marks [searched][]int
}

// rank returns the rows that every word of a query fits, the best first; without a query all, those
// that are used most first.
func rank(rows []row, query string, refused bool) []hit {
	var words [][]rune
	for _, w := range strings.Fields(query) {
		words = append(words, []rune(w))
	}
	var hits []hit
	for i := range rows {
		if rows[i].role.Refused != "" && !refused {
			continue
		}
		if h, ok := rows[i].fits(words); ok {
			hits = append(hits, h)
		}
	}
	slices.SortStableFunc(hits, func(a, b hit) int {
		return cmp.Or(allowedFirst(a, b), cmp.Compare(b.score, a.score), cmp.Compare(b.role.Use, a.role.Use), cmp.Compare(a.name, b.name))
	})
	return hits
}

// allowedFirst keeps what cannot be picked below what can.
func allowedFirst(a, b hit) int {
	switch {
	case (a.role.Refused == "") == (b.role.Refused == ""):
		return 0
	case a.role.Refused == "":
		return -1
	}
	return 1
}

// fits takes for each word the column in which it is found best.
func (r *row) fits(words [][]rune) (hit, bool) {
	h := hit{row: r}
	for _, w := range words {
		best, in, where := 0, -1, []int(nil)
		for i, t := range r.texts {
			if at, score, ok := t.match(w); ok && (in < 0 || score > best) {
				best, in, where = score, i, at
			}
		}
		if in < 0 {
			return hit{}, false
		}
		h.score += best
		h.marks[in] = append(h.marks[in], where...)
	}
	return h, true
}
