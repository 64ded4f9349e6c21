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

// Proof is what RouteProof answers: an event with all that proves it to somebody who holds the
// log's public key alone. `sega audit prove` writes it as a bundle (docs/audit-format.md).
type Proof struct {
	Index      int64    `json:"idx"`
	Body       []byte   `json:"body"`              // the leaf's bytes
	Salt       []byte   `json:"salt,omitempty"`    // with Details, where the asker may read them
	Details    []byte   `json:"details,omitempty"` // as hashed
	Inclusion  [][]byte `json:"inclusion"`         // RFC 6962, in the checkpoint's tree
	Checkpoint []byte   `json:"checkpoint"`        // the signed note
}

// Names of query parameters of RouteEvents and RouteCount.
const (
	ParamQuery   = "q"       // in the language of audit/query
	ParamIntents = "intents" // "1": what was begun, too
	ParamAfter   = "after"   // index: only what lies behind it; RouteFeed has it too
	ParamBefore  = "before"  // index: only what lies before it
	ParamNewest  = "newest"  // "1": the newest first
	ParamLimit   = "limit"
	ParamFollow  = "follow" // RouteEvents and RouteRecording, "1": goes on with what comes
	ParamBy      = "by"     // RouteCount: dimensions, joined by commas
)

// Names of query parameters of RouteRecording.
const (
	ParamPurpose = "purpose" // one of the purposes
	ParamReason  = "reason"  // why; needed for all purposes but verification
	ParamFrom    = "from"    // byte to begin with
)

// Purposes of reading a recording.
const (
	PurposePlay   = "play"
	PurposeVerify = "verify"
	PurposeExport = "export"
	PurposeTail   = "tail" // of a session that lives
	PurposeIndex  = "index"
)
