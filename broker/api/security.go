package api

import "time"

// SessionInfo is a login at the broker, an SSH session or a machine's session, as security sees it.
type SessionInfo struct {
	ID       string    `json:"id"`   // ses_… or ssh_…
	Kind     string    `json:"kind"` // "login", "ssh", "machine", or "key" of a registered key
	Person   Person    `json:"person"`
	LoginID  string    `json:"login_id"`
	Host     string    `json:"host,omitempty"`
	Login    string    `json:"login,omitempty"` // account on the host
	Source   string    `json:"source"`
	Node     string    `json:"node,omitempty"` // the bastion that holds it
	Started  time.Time `json:"started"`
	NotAfter time.Time `json:"not_after"`
}

// Sessions lists what is live.
type Sessions struct {
	Sessions []SessionInfo `json:"sessions"`
}

// Subject kinds of a revocation.
const (
	SubjectUser    = "user"
	SubjectSession = "session"
	SubjectKey     = "key" // a registered public key, key_…
	SubjectCert    = "cert"
	SubjectHost    = "host"
)

// Profiles of certificates, each with a CA and serials of its own.
const (
	ProfileAccess = "access" // of a person, for bastions
	ProfileHop    = "hop"    // of one session, for one host
	ProfileFront  = "front"  // of a bastion, or of a mask that it wears
	ProfileHost   = "host"   // of a host
)

// RevokeRequest cuts a subject off. With Plan set nothing happens and the answer holds the plan alone.
type RevokeRequest struct {
	Subject string `json:"subject"`           // SubjectUser, SubjectSession, SubjectCert, SubjectHost
	ID      string `json:"id"`                // e-mail or "sub:…" for a user; ses_… or ssh_… for a session; a certificate's serial; a host's name
	Profile string `json:"profile,omitempty"` // of a certificate; "" where its serial is that of one alone
	Reason  string `json:"reason"`
	Plan    bool   `json:"plan,omitempty"`
}

// Plan says what a revocation will touch.
type Plan struct {
	Person       Person        `json:"person"`
	What         string        `json:"what,omitempty"` // "access certificate 4294967297" or "host web-1", where it is no person or session
	Blocks       bool          `json:"blocks"`         // no login, or nothing for the host, until unblocked
	Sessions     []SessionInfo `json:"sessions"`
	Certificates []Outstanding `json:"certificates"`
	AWS          []Outstanding `json:"aws"`
}

// Outstanding is a credential that is out there, and until when at the latest.
type Outstanding struct {
	What  string    `json:"what"` // role name, or serial of a certificate
	Until time.Time `json:"until"`
}

// Receipt says what a revocation has done and where it is in force.
type Receipt struct {
	EventID string    `json:"event_id"`
	Index   int64     `json:"index"`
	Time    time.Time `json:"time"`
	Plan    Plan      `json:"plan"`
	Points  []Point   `json:"points"`
}

// Kinds of enforcement point.
const (
	PointBroker  = "broker"
	PointBastion = "bastion"
	PointAgent   = "agent" // on the laptop of a login that the revocation ends
)

// Point is an enforcement point. Agents stand in a receipt that follow the feed of their session, or may do so
// without the knowledge of the broker that answers: of those no more than the deadline is known.
type Point struct {
	Kind         string    `json:"kind"`
	Name         string    `json:"name"`
	Acknowledged bool      `json:"acknowledged"`
	Millis       int64     `json:"millis"`             // from commit to acknowledgement
	Closed       int       `json:"closed"`             // live sessions that a bastion cut, credentials that an agent dropped
	Deadline     time.Time `json:"deadline,omitempty"` // when its lease ends, where it has not acknowledged
}

// UnblockRequest lets a revoked user log in anew, or people reach a revoked host again. It must come from somebody
// else: than the user, and than whoever revoked the host.
type UnblockRequest struct {
	Subject string `json:"subject,omitempty"` // SubjectUser, which "" is too, or SubjectHost
	ID      string `json:"id"`
	Reason  string `json:"reason"`
}
