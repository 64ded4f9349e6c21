package audit

import (
	"encoding/json"
	"time"
)

// Outcome of an event.
type Outcome string

// Outcomes. An external effect is two events of one kind, Intent and its outcome, joined by Action.
const (
	Intent  Outcome = "intent"
	Success Outcome = "success"
	Failure Outcome = "failure"
	Denied  Outcome = "denied"
	Revoked Outcome = "revoked"
	Unknown Outcome = "unknown" // the process died between intent and outcome
)

// Actor is who did it.
type Actor struct {
	Kind  string `json:"kind"` // "user", "machine", "system" or "anonymous"
	Iss   string `json:"iss"`
	Sub   string `json:"sub"`
	Email string `json:"email"`
}

// Event is the envelope whose JSON bytes, as stored, are a leaf of the tree. Field order is the
// order of the JSON; empty values are present; unknown fields are an error on reading.
type Event struct {
	V             int       `json:"v"`  // 1
	ID            string    `json:"id"` // UUIDv7
	Time          time.Time `json:"time"`
	Kind          string    `json:"kind"` // noun.verb, one of Kinds
	Outcome       Outcome   `json:"outcome"`
	Actor         Actor     `json:"actor"`
	LoginID       string    `json:"login_id"`
	SessionID     string    `json:"session_id"`
	RequestID     string    `json:"request_id"`
	Action        string    `json:"action"`   // joins an intent and its outcome
	Resource      string    `json:"resource"` // "type/name"
	Reason        string    `json:"reason"`
	Ticket        string    `json:"ticket"`
	PolicyDigest  string    `json:"policy_digest"`
	PolicyIDs     []string  `json:"policy_ids"`
	Source        string    `json:"source"`
	Node          string    `json:"node"`
	DetailsDigest string    `json:"details_digest"` // hex SHA-256(32-byte salt ‖ details), "" where there are none

	// Details may hold content (commands, paths) and are not in the leaf but for their digest.
	Details json.RawMessage `json:"-"`
}
