package api

import (
	"time"

	"sega/keychain/secret"
)

// HostTokenRequest asks for a join token for one host. What it says of the host goes into the inventory when
// the token is spent; the host itself adds nothing but its keys.
type HostTokenRequest struct {
	Name      string            `json:"name"`    // what people type, and the host ID
	Address   string            `json:"address"` // host:port that bastions dial
	Logins    []string          `json:"logins"`  // accounts for people
	Labels    map[string]string `json:"labels"`
	PlainKeys bool              `json:"plain_keys,omitempty"` // its sshd knows no certificates
	Groups    []string          `json:"groups,omitempty"`     // people of which may have accounts of their own there
	Seconds   int               `json:"seconds,omitempty"`    // that the token may be used; 0: an hour
	Reason    string            `json:"reason,omitempty"`
	Ticket    string            `json:"ticket,omitempty"`
}

// HostToken is good for one enrolment, once.
type HostToken struct {
	Token   secret.Secret `json:"token"` // sega_join_…
	Name    string        `json:"name"`
	Expires time.Time     `json:"expires"`
}

// Wire implements Revealer.
func (t HostToken) Wire() any {
	type plain HostToken
	return struct {
		plain
		Token string `json:"token"`
	}{plain(t), string(t.Token.Reveal())}
}

// HostEnrollRequest enrols a host for the DPoP key that signs the request: by a join token, or by the identity
// document of its cloud's instance. Exactly one of the two is given.
type HostEnrollRequest struct {
	Name     string        `json:"name"` // must be that of the token, or of the rule that lets the instance in
	Token    secret.Secret `json:"token"`
	Document []byte        `json:"document,omitempty"`  // of AWS: PKCS#7 in DER, as /latest/dynamic/instance-identity/rsa2048 has it in base64
	HostKeys []string      `json:"host_keys,omitempty"` // authorized_keys lines; pinned where its sshd knows no certificates
}

// Wire implements Revealer.
func (r HostEnrollRequest) Wire() any {
	type plain HostEnrollRequest
	return struct {
		plain
		Token string `json:"token"`
	}{plain(r), string(r.Token.Reveal())}
}

// HostEnrolled says what a host has become.
type HostEnrolled struct {
	Machine   Machine           `json:"machine"`
	HostID    string            `json:"host_id"`
	Logins    []string          `json:"logins"`
	Labels    map[string]string `json:"labels"`
	PlainKeys bool              `json:"plain_keys"`
}

// HostCertificateRequest asks for a host's own certificate, of the host CA.
type HostCertificateRequest struct {
	PublicKey string `json:"public_key"` // of its sshd, authorized_keys form
}

// Parameters of RouteHostBundle: what the host has in force.
const (
	ParamVersion = "version" // of its bundle; 0: it has none
	ParamTrust   = "trust"   // of the lists of CAs
	ParamKRL     = "krl"     // of the revocation list
)

// HostBundle is all that a host needs in order to judge logins by itself.
type HostBundle struct {
	Version   int64         `json:"version"` // rises with each change, and never goes back
	Name      string        `json:"name"`
	HostID    string        `json:"host_id"`
	HopCAs    []string      `json:"hop_cas"`  // authorized_keys lines
	HostCAs   []string      `json:"host_cas"` // of its own certificate
	Trust     int64         `json:"trust"`    // version of the lists of CAs
	KRL       int64         `json:"krl"`      // version of the revocation list; 0: there is none
	Logins    []string      `json:"logins"`   // accounts for people; those of Accounts not among them
	Accounts  []HostAccount `json:"accounts"` // of people, one each
	PlainKeys bool          `json:"plain_keys"`
	Revoked   []string      `json:"revoked"` // SSH sessions (ssh_…) whose certificates may still be valid
}

// HostAccount is the account of a person.
type HostAccount struct {
	Login  string   `json:"login"`
	Person string   `json:"person"` // digest of issuer and subject, which stays where an e-mail changes hands (R2)
	Name   string   `json:"name"`   // of the person, for reading
	Groups []string `json:"groups"`
}

// HostKeys are the one-session keys that open an account now.
type HostKeys struct {
	Keys []HostKey `json:"keys"`
}

// HostKey is the key of a session that is being opened.
type HostKey struct {
	Key       string    `json:"key"`        // authorized_keys form
	From      string    `json:"from"`       // comma-separated CIDRs
	Options   string    `json:"options"`    // of authorized_keys, beside those that From and Expires give
	SessionID string    `json:"session_id"` // ssh_…
	Expires   time.Time `json:"expires"`
}

// HostLogin is a login that a host's sshd has accepted, as its log has it.
type HostLogin struct {
	Line        string    `json:"line"`       // digest of the line, so that none is reported twice
	Connection  string    `json:"connection"` // digest of what it says, a slash and the process where the log names one: the same in each form of the log
	Time        time.Time `json:"time"`
	Login       string    `json:"login"`
	Source      string    `json:"source"`      // address
	Method      string    `json:"method"`      // publickey, password, …
	Fingerprint string    `json:"fingerprint"` // of the key or certificate
	KeyID       string    `json:"key_id"`      // of a certificate
	Serial      uint64    `json:"serial,string"`
}

// HostLogins are logins that a host asks about, at most MaxHostLogins.
type HostLogins struct {
	Logins []HostLogin `json:"logins"`
}

// MaxHostLogins bounds how many logins are asked about at once.
const MaxHostLogins = 500

// HostVerdicts answers HostLogins, in its order.
type HostVerdicts struct {
	Verdicts []HostVerdict `json:"verdicts"`
	LeftOut  int           `json:"left_out,omitempty"` // that nothing covers and that are in no event yet: too many in a while
}

// HostVerdict says whether a recording covers a login.
type HostVerdict struct {
	Covered   bool   `json:"covered"`
	SessionID string `json:"session_id,omitempty"`
	Why       string `json:"why,omitempty"` // where it does not
}

// AllLogins returns the accounts that people may open, their own among them.
func (b HostBundle) AllLogins() []string {
	out := append([]string{}, b.Logins...)
	for _, a := range b.Accounts {
		out = append(out, a.Login)
	}
	return out
}
