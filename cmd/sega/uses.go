package main

import (
	"encoding/json"
	"maps"
	"math"
	"os"
	"time"
)

// usesFile remembers which roles are used how much. It is no secret and decides nothing but an order:
// two writers at once may lose a use, and a damaged file begins anew.
const usesFile = "uses.json"

// halfLife is the time in which a use comes to count half: what was used often stands above what was
// used last, until it is not used any more.
const halfLife = 7 * 24 * time.Hour

// forgotten is the score below which a role is not remembered: a single use some ten weeks ago.
const forgotten = 1e-3

// use is how much a role was used.
type use struct {
	Count float64   `json:"count"` // at Last, where older uses count less
	Last  time.Time `json:"last"`
}

// score is what is left of the count. A clock that went back changes nothing.
func (u use) score(now time.Time) float64 {
	age := max(now.Sub(u.Last), 0)
	return u.Count * math.Exp2(-age.Hours()/halfLife.Hours())
}

// parseUses reads the file; what is no use is dropped.
func parseUses(data []byte) map[string]use {
	all := map[string]use{}
	if json.Unmarshal(data, &all) != nil || all == nil {
		return map[string]use{}
	}
	maps.DeleteFunc(all, func(role string, u use) bool { return role == "" || !(u.Count > 0 && u.Count < 1e6) })
	return all
}

// used counts one more use of a role, and drops those that are forgotten.
func used(all map[string]use, role string, now time.Time) {
	all[role] = use{Count: all[role].score(now) + 1, Last: now.UTC().Truncate(time.Second)}
	maps.DeleteFunc(all, func(_ string, u use) bool { return u.score(now) < forgotten })
}

// uses are those that are remembered; none where they cannot be read.
func (a *app) uses() map[string]use {
	path, err := a.path(usesFile)
	if err != nil {
		return map[string]use{}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return map[string]use{}
	}
	return parseUses(data)
}

// remember counts a use of a role, where somebody sits before the command. That it cannot be
// remembered is no reason to fail, and nothing to wait for: the file is not synced.
func (a *app) remember(role string) {
	if !a.interactive() {
		return
	}
	all := a.uses()
	used(all, role, a.now())
	data, err := json.Marshal(all)
	if err != nil {
		return
	}
	_ = a.replaceFile(usesFile, data)
}
