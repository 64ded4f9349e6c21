package audit

import "time"

// Row is an event as stored.
type Row struct {
	Index   int64
	Body    []byte            // the envelope's bytes: the leaf
	Salt    []byte            // 32 bytes, or empty where there are no details or they were deleted
	Details []byte            // JSON, or empty
	Columns map[string]string // every indexed column as stored, in the form that Columns derives
	Leaf    []byte            // the leaf's hash as the tree has it, where the reader can tell; it proves nothing by itself
}

// Filter selects events. Zero values do not filter. A trailing * in User, Kind, Role and Host
// matches by prefix.
type Filter struct {
	User    string // e-mail or sub
	Kind    string
	Role    string // resource "role/…"
	Host    string // resource "host/…"
	Outcome Outcome
	Session string // ses_… or ssh_…
	Sub     string // with Iss: only events of this actor
	Iss     string
	Since   time.Time
	Until   time.Time
	Intents bool  // intents too
	After   int64 // only rows of a higher index; -1 for all
	Limit   int   // 0: no limit
}
