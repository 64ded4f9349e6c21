package picker

import (
	"slices"
	"unicode"
)

// What a place of a match is worth.
const (
	perRune = 16
	onStart = 8  // it begins a word
	onNext  = 8  // it follows the one before
	perGap  = -3 // and -1 for each rune of the gap, down to mostGap
	mostGap = -12
	onWhole = 24 // it is the whole text
	inName  = 24 // rather than in the description
	inLabel = 12 // in the account
)

// textMost is how much of a column is shown and searched, in runes.
const textMost = 200

// text is a column that is searched.
type text struct {
	runes, folded []rune
	fuzzy         bool // a match may leave runes out; in prose nearly everything would match so
	weight        int
}

func newText(s string, fuzzy bool, weight int) text {
	runes := []rune(s)
	folded := make([]rune, len(runes))
	for i, r := range runes {
		folded[i] = unicode.ToLower(r)
	}
	return text{runes: runes, folded: folded, fuzzy: fuzzy, weight: weight}
}

// match finds a word: at which runes, and how good that is. Smart case: a capital in the word is
// looked for as such.
func (t text) match(word []rune) (at []int, score int, ok bool) {
	in := t.folded
	if slices.ContainsFunc(word, unicode.IsUpper) {
		in = t.runes
	}
	if len(word) == 0 || len(word) > len(in) {
		return nil, 0, false
	}
	for start, r := range in {
		if r != word[0] {
			continue
		}
		found := follow(in, word, start, t.fuzzy)
		if found == nil {
			continue
		}
		if s := t.rate(found); at == nil || s > score {
			at, score = found, s
		}
	}
	return at, score + t.weight, at != nil
}

// follow takes the nearest place of each rune from start on; nil where one is missing.
func follow(in, word []rune, start int, fuzzy bool) []int {
	at := make([]int, 0, len(word))
	for i := start; i < len(in) && len(at) < len(word); i++ {
		switch {
		case in[i] == word[len(at)]:
			at = append(at, i)
		case !fuzzy:
			return nil
		}
	}
	if len(at) < len(word) {
		return nil
	}
	return at
}

func (t text) rate(at []int) int {
	score := 0
	for k, i := range at {
		score += perRune
		if t.starts(i) {
			score += onStart
		}
		switch {
		case k == 0:
		case at[k-1] == i-1:
			score += onNext
		default:
			score += max(perGap-(i-at[k-1]-1), mostGap)
		}
	}
	if len(at) == len(t.runes) {
		score += onWhole
	}
	return score
}

// starts reports whether a rune begins a word: behind what is no letter and no digit, or a capital behind
// a small letter.
func (t text) starts(i int) bool {
	if i == 0 {
		return true
	}
	before, r := t.runes[i-1], t.runes[i]
	return !unicode.IsLetter(before) && !unicode.IsDigit(before) || unicode.IsUpper(r) && unicode.IsLower(before)
}
