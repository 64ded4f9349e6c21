package audit

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// RollupCheck counts the events of a log anew and holds its stored rollups against the counts
// (design R9). Its memory is that of the rollups, some 60 bytes for each, not of the log.
type RollupCheck struct {
	upTo    int64
	tallies map[tallyKey]tally
	texts   dictionary
	stored  int
	odd     []string // what is wrong already
}

// tallyKey is a RollupKey whose texts are numbers: of a few thousand people and hosts there are
// millions of rollups.
type tallyKey [7]uint32

type tally struct{ stored, derived uint32 }

// dictionary gives texts numbers.
type dictionary struct {
	numbers map[string]uint32
	texts   []string
}

func (d *dictionary) number(text string) uint32 {
	n, ok := d.numbers[text]
	if !ok {
		text = strings.Clone(text) // not the line that it came in
		n = uint32(len(d.texts))
		d.numbers[text], d.texts = n, append(d.texts, text)
	}
	return n
}

func (d *dictionary) pack(k RollupKey) tallyKey {
	return tallyKey{d.number(k.Cube), d.number(k.Day), d.number(k.Kind), d.number(k.Outcome), d.number(k.Email), d.number(k.Sub), d.number(k.Target)}
}

func (d *dictionary) unpack(k tallyKey) RollupKey {
	return RollupKey{Cube: d.texts[k[0]], Day: d.texts[k[1]], Kind: d.texts[k[2]], Outcome: d.texts[k[3]], Email: d.texts[k[4]], Sub: d.texts[k[5]], Target: d.texts[k[6]]}
}

// maxOdd bounds how many rollups that no sound store keeps are remembered.
const maxOdd = 100

// NewRollupCheck begins a check of rollups that cover the first upTo events, as the log says. size
// is what the log was known to have before its rollups were asked for: they must cover its
// complete segments at the least.
func NewRollupCheck(upTo, size int64) *RollupCheck {
	c := &RollupCheck{upTo: upTo, tallies: map[tallyKey]tally{}, texts: dictionary{numbers: map[string]uint32{}}}
	switch {
	case upTo < 0 || upTo != RolledUp(upTo):
		c.odd = append(c.odd, fmt.Sprintf("the rollups cover %d events, which are no whole segments of %d", upTo, SegmentSize))
	case upTo < RolledUp(size):
		c.odd = append(c.odd, fmt.Sprintf("the rollups cover the first %d events, but the log had %d already and they must cover %d", upTo, size, RolledUp(size)))
	}
	return c
}

// UpTo returns how many events the rollups cover.
func (c *RollupCheck) UpTo() int64 { return c.upTo }

// Add takes a rollup as stored.
func (c *RollupCheck) Add(r Rollup) {
	c.stored++
	key := c.texts.pack(r.RollupKey)
	t, again := c.tallies[key]
	switch {
	case len(c.odd) >= maxOdd:
	case again:
		c.odd = append(c.odd, r.String()+" is there more than once")
	case r.N < 1 || r.N > math.MaxUint32:
		c.odd = append(c.odd, fmt.Sprintf("%s counts %d, which no store keeps", r.RollupKey, r.N))
	}
	t.stored = uint32(max(0, min(r.N, math.MaxUint32)))
	c.tallies[key] = t
}

// count takes an event of the log.
func (c *RollupCheck) count(index int64, e Event) {
	if index >= c.upTo {
		return
	}
	for _, k := range RollupKeys(e) {
		key := c.texts.pack(k)
		t := c.tallies[key]
		t.derived++
		c.tallies[key] = t
	}
}

// differences returns what is wrong with the stored rollups, in the order of their keys, each told
// by report.
func (c *RollupCheck) differences(report func(what string)) {
	for _, what := range c.odd {
		report(what)
	}
	type difference struct {
		RollupKey
		tally
	}
	var wrong []difference
	for key, t := range c.tallies {
		if t.stored != t.derived {
			wrong = append(wrong, difference{c.texts.unpack(key), t})
		}
	}
	slices.SortFunc(wrong, func(a, b difference) int { return compareKeys(a.RollupKey, b.RollupKey) })
	for _, d := range wrong {
		report(fmt.Sprintf("%s counts %d, but the hashed events give %d", d.RollupKey, d.stored, d.derived))
	}
}

func compareKeys(a, b RollupKey) int {
	return cmp.Or(cmp.Compare(a.Cube, b.Cube), cmp.Compare(a.Day, b.Day), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Outcome, b.Outcome),
		cmp.Compare(a.Email, b.Email), cmp.Compare(a.Sub, b.Sub), cmp.Compare(a.Target, b.Target))
}

// String names a rollup for people.
func (k RollupKey) String() string {
	return fmt.Sprintf("rollup %.40q of %.40q, kind %.40q, outcome %.40q, e-mail %.80q, subject %.80q, target %.80q", k.Cube, k.Day, k.Kind, k.Outcome, k.Email, k.Sub, k.Target)
}
