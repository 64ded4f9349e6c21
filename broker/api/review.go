package api

import "encoding/json"

// Event is a line of RouteEvents: the hashed envelope as stored, its index in the log, and its
// details where the asker may read them and they have not been deleted.
type Event struct {
	Index    int64           `json:"idx"`
	Envelope json.RawMessage `json:"event"`
	Details  json.RawMessage `json:"details,omitempty"`
}

// LogRow is a line of RouteLog: a row exactly as stored, for verification. Columns holds every
// indexed column by name, so that the client can derive it anew from the body.
type LogRow struct {
	Index   int64             `json:"idx"`
	Body    []byte            `json:"body"`
	Salt    []byte            `json:"salt,omitempty"`
	Details []byte            `json:"details,omitempty"`
	Columns map[string]string `json:"columns"`
	Leaf    []byte            `json:"leaf,omitempty"` // the leaf's hash as the tree has it: where bytes were changed, it tells which
}

// Consistency is a proof that the tree of size To extends the tree of size From (RFC 6962).
type Consistency struct {
	From  int64    `json:"from"`
	To    int64    `json:"to"`
	Proof [][]byte `json:"proof"`
}

// Names of RouteEvents' query parameters. Times are RFC 3339; a trailing * in a value is a prefix.
const (
	ParamUser    = "user"
	ParamKind    = "kind"
	ParamRole    = "role"
	ParamHost    = "host"
	ParamOutcome = "outcome"
	ParamSession = "session" // ses_… or ssh_…
	ParamSince   = "since"
	ParamUntil   = "until"
	ParamIntents = "intents" // "1": intents too
	ParamAfter   = "after"   // index of the last event of the page before
	ParamLimit   = "limit"
)
