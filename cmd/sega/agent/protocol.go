package agent

import (
	"time"

	"sega/broker/api"
	"sega/keychain/secret"
)

// A connection carries one line of JSON each way: a Request, then a Reply. Both ends belong to one
// user, which each checks of the other.

// Version is that of the protocol. A client that finds another one stops that agent and starts its own.
const Version = 1

// What a client may ask for.
const (
	OpStatus      = "status"      // → Reply.Status
	OpSession     = "session"     // → Reply.Status of the login, or why there is none
	OpCredentials = "credentials" // Request.Credentials → Reply.Granted
	OpProcess     = "process"     // Request.Credentials → the form of credential_process in the place of a Reply, or a Reply with a problem
	OpEndpoint    = "endpoint"    // Request.Credentials → Reply.Granted and Reply.Endpoint
	OpSSH         = "ssh"         // Request.Reason and Ticket: make sure of an SSH key whose certificate lives
	OpReload      = "reload"      // the stored session is another one now
	OpForget      = "forget"      // the session has ended: drop all
	OpLock        = "lock"        // drop all and answer nothing until OpUnlock
	OpUnlock      = "unlock"      // Request.Key: of the stored secrets, where the agent cannot get at it itself
	OpStop        = "stop"
)

// Kinds of problems that only an agent has.
const (
	KindLocked   api.Kind = "agent_locked"    // until somebody runs `sega agent unlock`
	KindOther    api.Kind = "agent_other"     // the login is at another broker than Request.Broker
	KindNeedsKey api.Kind = "agent_needs_key" // a person must be asked for the key of the stored secrets: fetch it and OpUnlock
)

// Request is what a client asks.
type Request struct {
	V           int                     `json:"v"`
	Op          string                  `json:"op"`
	Broker      string                  `json:"broker,omitempty"` // origin, where it must be this one
	Credentials *api.CredentialsRequest `json:"credentials,omitempty"`
	Reason      string                  `json:"reason,omitempty"` // OpSSH, like Ticket: of the certificate
	Ticket      string                  `json:"ticket,omitempty"`
	Key         secret.Secret           `json:"key,omitzero"`
	Process     int                     `json:"process,omitempty"` // OpEndpoint: PID that lives as long as the endpoint is wanted
}

// Reply is the answer: a problem, or what was asked for.
type Reply struct {
	V        int          `json:"v"`
	Problem  *api.Problem `json:"problem,omitempty"`
	Granted  *Granted     `json:"granted,omitempty"`
	Endpoint *Endpoint    `json:"endpoint,omitempty"`
	Status   *Status      `json:"status,omitempty"`
	FrontCAs []string     `json:"front_cas,omitempty"` // of OpSSH: authorized_keys lines
}

// Granted are a role's credentials, and the login that they came by.
type Granted struct {
	api.Credentials
	LoginID   string     `json:"login_id"`
	LoginEnds time.Time  `json:"login_ends"`
	Person    api.Person `json:"person,omitzero"`
}

// Endpoint is where a child gets credentials anew for as long as it runs.
type Endpoint struct {
	URL   string        `json:"url"`
	Token secret.Secret `json:"token"`
}

// Status is what an agent tells of itself. Nothing of it is secret.
type Status struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"` // of sega
	Started time.Time `json:"started"`
	State   string    `json:"state"`             // of the States
	Network string    `json:"network,omitempty"` // alike in two agents and clients that reach the broker by the same settings

	Origin    string      `json:"origin,omitempty"` // from here on: where there is a session
	Session   *api.Status `json:"session,omitempty"`
	LogSize   int64       `json:"log_size"`
	FeedAlive bool        `json:"feed_alive"` // else warm answers end with the lease, if they have not
	SSHSocket string      `json:"ssh_socket,omitempty"`
	Roles     []Held      `json:"roles"`
	SSHUntil  time.Time   `json:"ssh_until,omitzero"` // end of the SSH key's certificate
	Why       string      `json:"why,omitempty"`      // the state is not StateReady, or the feed does not live
}

// States of an agent.
const (
	StateReady   = "ready" // there is a session
	StateEmpty   = "empty" // nobody is logged in
	StateLocked  = "locked"
	StateRevoked = "revoked" // until the next login
)

// Held are credentials in memory.
type Held struct {
	Role     string    `json:"role"`
	Through  []string  `json:"through,omitempty"` // the roles before it in a chain
	ReadOnly bool      `json:"read_only,omitempty"`
	Narrowed bool      `json:"narrowed,omitempty"` // by a session policy
	Seconds  int       `json:"seconds,omitempty"`  // asked for
	Expires  time.Time `json:"expires"`
}
