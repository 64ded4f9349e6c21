package audit

import (
	"strings"
	"time"
)

// SegmentSize is the number of events that are rolled up together: a store has the rollups of a
// segment from the transaction that completes it on.
const SegmentSize = 2048

// RolledUp returns how many events of a log of that size its rollups cover: those of its complete segments.
func RolledUp(size int64) int64 { return size / SegmentSize * SegmentSize }

// Cubes are the rollups that a store keeps, each counting events by day, kind, outcome and what
// its name says. Counts come from the smallest that knows every dimension asked for.
const (
	CubeUser   = "user"   // by e-mail and subject too
	CubeTarget = "target" // by role or host too
	CubeFull   = "full"   // by both
)

// RollupKey is what the events of one rollup share.
type RollupKey struct {
	Cube    string `json:"cube"`
	Day     string `json:"day"` // of the event's time in UTC, like 2026-01-31
	Kind    string `json:"kind"`
	Outcome string `json:"outcome"`
	Email   string `json:"email"`  // "" in CubeTarget
	Sub     string `json:"sub"`    // "" in CubeTarget
	Target  string `json:"target"` // Event.Resource of a role or host, else ""; "" in CubeUser
}

// Rollup is a count as stored.
type Rollup struct {
	RollupKey
	N int64 `json:"n"`
}

// RollupKeys derives the rollups that an event counts in, one of each cube (design R9).
func RollupKeys(e Event) [3]RollupKey {
	full := RollupKey{Cube: CubeFull, Day: e.Time.UTC().Format(time.DateOnly), Kind: e.Kind, Outcome: string(e.Outcome),
		Email: e.Actor.Email, Sub: e.Actor.Sub, Target: Target(e.Resource)}
	user, target := full, full
	user.Cube, user.Target = CubeUser, ""
	target.Cube, target.Email, target.Sub = CubeTarget, "", ""
	return [3]RollupKey{user, target, full}
}

// Target is a resource where it is a role or a host, else "".
func Target(resource string) string {
	if strings.HasPrefix(resource, ResourceRole) || strings.HasPrefix(resource, ResourceHost) {
		return resource
	}
	return ""
}
