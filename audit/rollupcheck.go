package audit

import (
	"cmp"
	"fmt"
	"slices"
)

// RollupCheck counts the events of a log anew and holds its stored rollups against the counts
// (design R9). Its memory is that of the rollups, not of the log.
type RollupCheck struct {
	upTo    int64
	tallies map[RollupKey]tally
	stored  int
	odd     []string // what is wrong already
}

// maxOdd bounds how many rollups that no sound store keeps are remembered.
const maxOdd = 100

type tally struct{ stored, derived int64 }

// NewRollupCheck begins a check of rollups that cover the first upTo events, as the log says. size
// is what the log was known to have before its rollups were asked for: they must cover its
// complete segments at the least.
func NewRollupCheck(upTo, size int64) *RollupCheck {
	c := &RollupCheck{upTo: upTo, tallies: map[RollupKey]tally{}}
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
	t, again := c.tallies[r.RollupKey]
	if again && len(c.odd) < maxOdd {
		c.odd = append(c.odd, r.String()+" is there more than once")
	}
	if r.N < 1 && len(c.odd) < maxOdd {
		c.odd = append(c.odd, fmt.Sprintf("%s counts %d, and a store keeps none but of events that are there", r.RollupKey, r.N))
	}
	t.stored += r.N
	c.tallies[r.RollupKey] = t
}

// count takes an event of the log.
func (c *RollupCheck) count(index int64, e Event) {
	if index >= c.upTo {
		return
	}
	for _, key := range RollupKeys(e) {
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
	var wrong []RollupKey
	for key, t := range c.tallies {
		if t.stored != t.derived {
			wrong = append(wrong, key)
		}
	}
	slices.SortFunc(wrong, compareKeys)
	for _, key := range wrong {
		t := c.tallies[key]
		report(fmt.Sprintf("%s counts %d, but the hashed events give %d", key, t.stored, t.derived))
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
