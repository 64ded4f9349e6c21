package api

import "time"

// Routes of the operators' socket, which is no network's: whoever may open it runs the broker's machine. POST answers
// like GET, with what has become of it.
const (
	RouteCAs        = "/ca"               // GET → CAs
	RouteCAPublish  = "/ca/{ca}/publish"  // POST CAStep
	RouteCAWithdraw = "/ca/{ca}/withdraw" // POST CAStep
	RouteCARotate   = "/ca/{ca}/rotate"   // POST CAStep
	RouteCARetire   = "/ca/{ca}/retire"   // POST CAStep
	RouteCAAdopt    = "/ca/{ca}/adopt"    // POST CAStep

	RouteAccount        = "/account/{name}"         // GET → AccountName
	RouteAccountRelease = "/account/{name}/release" // POST AccountRelease
)

// AccountRelease gives back an account name that is somebody's on all hosts.
type AccountRelease struct {
	Reason string `json:"reason,omitempty"`
	Ticket string `json:"ticket,omitempty"`
}

// AccountName is an account name, and whose it is.
type AccountName struct {
	Name    string    `json:"name"`
	Issuer  string    `json:"iss"`
	Subject string    `json:"sub"`
	Email   string    `json:"email"` // as last seen; empty: never
	Since   time.Time `json:"since"`
	Held    string    `json:"held,omitempty"` // why it cannot be released now
}

// CAStep is a step of the rotation of a CA, or the adoption of a key.
type CAStep struct {
	Key    string `json:"key,omitempty"`     // SHA256: fingerprint of the key to publish or adopt; empty: the only one that is configured and new
	Force  bool   `json:"force,omitempty"`   // although somebody has not seen the key, or what the old one signed still lives, or another broker may have the one that is lost
	ByHand bool   `json:"by_hand,omitempty"` // hosts that are not enrolled have the key, or a certificate of it: somebody has seen to it
	Reason string `json:"reason,omitempty"`
	Ticket string `json:"ticket,omitempty"`
}

// CAs are the keys of the CAs, and where their rotations stand.
type CAs struct {
	Version int64 `json:"version"` // of the trust bundles
	CAs     []CA  `json:"cas"`
}

// CA is one CA. Next is the step that a rotation takes next, publish where none is under way, and adopt where this broker does not have the
// key that signs.
type CA struct {
	Name    string    `json:"ca"`
	Keys    []CAKey   `json:"keys"` // in the order in which they were published
	New     []string  `json:"new"`  // fingerprints of configured keys that no CA has or had
	Next    string    `json:"next"`
	NotYet  time.Time `json:"not_yet,omitzero"` // the step is refused before
	Seen    []CASeen  `json:"seen"`             // who is to have the next key before it signs
	ByHand  []string  `json:"by_hand"`          // hosts that say nothing: they are not enrolled
	Signing bool      `json:"signing"`          // whether the broker that answers can sign
}

// CAKey is a key of a CA.
type CAKey struct {
	Line        string    `json:"line"` // authorized_keys form
	Fingerprint string    `json:"fingerprint"`
	Phase       string    `json:"phase"` // beside, next, current, old or retired
	Version     int64     `json:"version"`
	Published   time.Time `json:"published"`
	Replaced    time.Time `json:"replaced,omitzero"`
	Until       time.Time `json:"until,omitzero"` // when what it has signed has expired
	Retired     time.Time `json:"retired,omitzero"`
	Foreign     bool      `json:"foreign,omitempty"` // this broker's configuration does not name it, so that it is in no bundle of it
	Kept        bool      `json:"kept,omitempty"`    // it is retired, and this broker's configuration names it still
}

// CASeen is a machine, and whether it has the next key.
type CASeen struct {
	Kind    string    `json:"kind"` // bastion, host or broker
	Name    string    `json:"name"`
	Version int64     `json:"version"` // that it said last; 0: it has said nothing
	At      time.Time `json:"at,omitzero"`
	Seen    bool      `json:"seen"`
}
