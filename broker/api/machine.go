package api

import (
	"encoding/json"
	"time"

	"sega/keychain/secret"
)

// EnrollRequest spends a join token for the DPoP key that signs the request.
type EnrollRequest struct {
	Token secret.Secret `json:"token"`
	Name  string        `json:"name"`
	Kind  string        `json:"kind"` // MachineBastion or MachineIndexer; hosts enrol by HostEnrollRequest
}

// Wire implements Revealer.
func (r EnrollRequest) Wire() any {
	return map[string]any{"token": string(r.Token.Reveal()), "name": r.Name, "kind": r.Kind}
}

// Machine is an enrolled machine.
type Machine struct {
	ID   string `json:"id"` // mch_…
	Name string `json:"name"`
	Kind string `json:"kind"`
}

// MachineSession is a machine's session at the broker, bound to its enrolled key.
type MachineSession struct {
	Token     secret.Secret `json:"token"`
	SessionID string        `json:"session_id"` // ses_…
	Machine   Machine       `json:"machine"`
	Expires   time.Time     `json:"expires"`
	Trust     Trust         `json:"trust"`
	LogKey    string        `json:"log_key"`
}

// Wire implements Revealer.
func (s MachineSession) Wire() any {
	type plain MachineSession
	return struct {
		plain
		Token string `json:"token"`
	}{plain(s), string(s.Token.Reveal())}
}

// Trust is the bundle of CAs that a machine works with; lists, so that rotation has its slot.
type Trust struct {
	Version   int64    `json:"version"`    // rises with each change of any list; 0: of a broker that counts none
	AccessCAs []string `json:"access_cas"` // authorized_keys lines
	HostCAs   []string `json:"host_cas"`
	FrontCAs  []string `json:"front_cas"`
	HopCAs    []string `json:"hop_cas"` // for hosts; bastions trust none of them
}

// Feed item types.
const (
	FeedHeartbeat = "heartbeat"
	FeedRevoke    = "revoke"
	FeedTrust     = "trust"
	FeedKeys      = "keys" // the registered keys that are good, in one or more items
	FeedEnd       = "end"  // of the feed of a person's session alone
)

// FeedItem is a line of the revocation feed. The first line is always FeedTrust, which comes again
// whenever a list of it has changed; a heartbeat comes at least every second; revocations come in the order of the log and are replayed from
// the index after which the bastion asks.
type FeedItem struct {
	Type       string      `json:"type"`
	Checkpoint string      `json:"checkpoint,omitempty"` // base64 of the signed note; heartbeats carry it
	LeaseMS    int64       `json:"lease_ms,omitempty"`   // how long what lives may go on without a further item
	Revocation *Revocation `json:"revocation,omitempty"`
	Trust      *Trust      `json:"trust,omitempty"`
	Keys       *FeedKeySet `json:"keys,omitempty"`

	Session *FeedSession `json:"session,omitempty"` // of the feed of a person's session: with every heartbeat
	Problem *Problem     `json:"problem,omitempty"` // of FeedEnd: why nothing more comes
}

// FeedKeySet is a part of the set of registered keys; the whole is in force, in place of the one before, with
// the last part. It says which keys are worth a question: what one opens the broker decides by its own record.
type FeedKeySet struct {
	First bool      `json:"first"`
	Last  bool      `json:"last"`
	Keys  []FeedKey `json:"keys"`
}

// FeedKey is a registered key.
type FeedKey struct {
	ID          string `json:"id"` // key_…
	Fingerprint string `json:"fingerprint"`
}

// FeedSession is what a person's agent is told of its session with every heartbeat. At Now the session
// stood; the lease runs from there, and not from when the item arrived: what a laptop reads when it
// wakes up may be hours old.
type FeedSession struct {
	Now      time.Time `json:"now"`      // the broker's clock
	Expires  time.Time `json:"expires"`  // of the session, renewals by whomever included
	Standing string    `json:"standing"` // opaque: another one means that decisions about this person may come out otherwise (policy, groups, roles)
}

// Revocation is what a bastion must cut. Exactly one of the subject's forms is set: (Issuer,
// Subject), LoginID, SessionID, (Profile, Serial) of a certificate, or Host by its name. With a certificate goes
// what was opened by it, and nothing of its holder besides.
type Revocation struct {
	Index     int64  `json:"index"` // of its event in the log
	EventID   string `json:"event_id"`
	Issuer    string `json:"iss,omitempty"`
	Subject   string `json:"sub,omitempty"`
	LoginID   string `json:"login_id,omitempty"`
	SessionID string `json:"session_id,omitempty"`
	Profile   string `json:"profile,omitempty"`
	Serial    uint64 `json:"serial,omitempty,string"`
	Host      string `json:"host,omitempty"`
	Reason    string `json:"reason"`
}

// Ack says that a bastion, or a person's agent, has carried out every revocation up to Index.
type Ack struct {
	Index  int64 `json:"index"`
	Closed int   `json:"closed"` // live sessions cut, or credentials dropped, by the revocation of that index

	Trust int64 `json:"trust,omitempty"` // version of the trust that a bastion has in force; such an ack says nothing of revocations, its Index is -1
}

// HopRequest asks for a one-hop certificate for one connection of a person to one host. What it
// names is looked up by the broker in its own records: person and policy by AccessSerial, or by AccessKey where
// a registered key has signed, address by Host.
type HopRequest struct {
	AccessSerial uint64 `json:"access_serial,string"` // 0: no certificate, a registered key
	AccessKey    string `json:"access_key"`           // SHA256: fingerprint of the key that signed; must be the certificate's
	Host         string `json:"host"`
	Login        string `json:"login"`
	Source       string `json:"source"`  // the person's address as the bastion sees it
	HopKey       string `json:"hop_key"` // authorized_keys form; one for each connection
	Route        string `json:"route"`   // "jump" (inside ssh -J) or "direct" (user%host@bastion)
}

// Hop is permission for one connection.
type Hop struct {
	SessionID   string    `json:"session_id"`                   // ssh_…
	Certificate string    `json:"certificate"`                  // "" where PlainKey is set
	PlainKey    bool      `json:"plain_key,omitempty"`          // the host knows no certificates, and is told of the hop key itself
	Address     string    `json:"address"`                      // host:port to dial, from the inventory
	HostID      string    `json:"host_id"`                      // principal that the host's certificate must carry
	HostKeys    []string  `json:"host_keys"`                    // pinned plain keys, where the host has no certificate
	Revoked     []string  `json:"revoked_host_certs,omitempty"` // serials of certificates that the host must not show any more
	Person      Person    `json:"person"`
	LoginID     string    `json:"login_id"`
	NotAfter    time.Time `json:"not_after"`    // the session's own end, enforced by the bastion
	IdleSeconds int       `json:"idle_seconds"` // 0: no idle limit
	Ladder      Ladder    `json:"ladder"`       // what happens when something fails that the session rests on

	Forwards HopForwards `json:"forwards"`
}

// FrontRequest asks for a host certificate of the front CA: for the bastion itself (Host empty) or
// for the mask that it wears for a host in `ssh -J`. An hour at most; an event each. AccessSerial is
// that of the access certificate whose holder wants the mask; 0 where nobody does, or the holder of the
// registered key with the fingerprint AccessKey.
type FrontRequest struct {
	PublicKey    string `json:"public_key"`
	Host         string `json:"host,omitempty"`
	AccessSerial uint64 `json:"access_serial,string,omitempty"`
	AccessKey    string `json:"access_key,omitempty"`
}

// Report is an event that a bastion reports about a session of its own. The broker fills in the
// actor from its own record of the session and accepts only kinds that a bastion may report:
// session.start, session.pause, session.resume, session.end, forward.open (of what was refused without
// a question), forward.close, recording.heads, spool.low, spool.free, bastion.drain, ssh.refuse. Repeats
// of an ID are accepted and have no effect. The end of a session that a restore of the broker has lost becomes session.lost.
type Report struct {
	ID        string          `json:"id"` // UUIDv7 chosen by the bastion
	Time      time.Time       `json:"time"`
	Kind      string          `json:"kind"`
	Outcome   string          `json:"outcome"`
	SessionID string          `json:"session_id"` // ssh_…; empty for what is of the bastion as a whole and for ssh.refuse
	Reason    string          `json:"reason,omitempty"`
	Source    string          `json:"source,omitempty"`
	Details   json.RawMessage `json:"details,omitempty"`
}
