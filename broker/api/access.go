package api

import (
	"time"

	"sega/keychain/secret"
)

// Configuration is what `sega login BROKER` needs to know, so that a person configures nothing.
type Configuration struct {
	Origin        string   `json:"origin"` // the broker's own, e.g. "https://sega.corp.example"; part of the login's binding
	Issuer        string   `json:"issuer"`
	ClientID      string   `json:"client_id"`
	Scopes        []string `json:"scopes"`
	ACRValues     []string `json:"acr_values"`
	RedirectPorts []int    `json:"redirect_ports"` // loopback ports registered at the IdP, tried in turn
	RedirectPath  string   `json:"redirect_path"`
	DeviceGrant   bool     `json:"device_grant"`
	LogKey        string   `json:"log_key"`      // note verifier key of the audit log, pinned at login
	FrontCAs      []string `json:"front_cas"`    // authorized_keys lines
	Bastion       string   `json:"bastion"`      // host:port
	BastionName   string   `json:"bastion_name"` // principal of its front certificate
	Version       string   `json:"version"`

	Bastions []BastionAddress `json:"bastions,omitempty"` // all of them, Bastion first; a client takes the first that answers
}

// BastionAddress is where a bastion is.
type BastionAddress struct {
	Address string `json:"address"` // host:port
	Name    string `json:"name"`    // principal of its front certificate
}

// Person is an identity as people read it. (Issuer, Subject) is the identity; e-mail is for reading.
type Person struct {
	Issuer  string `json:"iss"`
	Subject string `json:"sub"`
	Email   string `json:"email"`
	Name    string `json:"name,omitempty"`
}

// Login methods.
const (
	MethodBrowser = "browser"
	MethodPaste   = "paste"
	MethodDevice  = "device"
	MethodKey     = "key" // of a registered public key, which is no login
)

// LoginRequest presents an ID token made for this broker and this DPoP key:
// nonce = base64url(SHA-256(thumbprint ‖ origin ‖ random)).
type LoginRequest struct {
	IDToken     secret.Secret `json:"id_token"`
	AccessToken secret.Secret `json:"access_token"` // of the IdP, for userinfo where groups are absent from a thin ID token; may be empty
	Random      string        `json:"random"`       // base64url, 32 bytes
	Method      string        `json:"method"`       // MethodBrowser or MethodPaste
	Client      string        `json:"client"`       // "sega/1.0 linux", for people to read
}

// Wire implements Revealer.
func (r LoginRequest) Wire() any {
	return map[string]any{"id_token": string(r.IDToken.Reveal()), "access_token": string(r.AccessToken.Reveal()), "random": r.Random, "method": r.Method, "client": r.Client}
}

// RenewRequest presents a refreshed ID token of the same login (same iss, sub, auth_time).
type RenewRequest struct {
	IDToken     secret.Secret `json:"id_token"`
	AccessToken secret.Secret `json:"access_token"`
}

// Wire implements Revealer.
func (r RenewRequest) Wire() any {
	return map[string]any{"id_token": string(r.IDToken.Reveal()), "access_token": string(r.AccessToken.Reveal())}
}

// DeviceStart is what a person needs to approve a device login (RFC 8628). The broker itself holds
// the device code and receives the ID token; the client holds only the handle, bound to its key.
type DeviceStart struct {
	Handle                  string    `json:"handle"`
	UserCode                string    `json:"user_code"`
	VerificationURI         string    `json:"verification_uri"`
	VerificationURIComplete string    `json:"verification_uri_complete,omitempty"`
	Interval                int       `json:"interval"` // seconds
	Expires                 time.Time `json:"expires"`
}

// DevicePoll asks whether the person has approved.
type DevicePoll struct {
	Handle string `json:"handle"`
	Client string `json:"client"`
}

// Session is a session at the broker, bound to the DPoP key that asked for it.
type Session struct {
	Token    secret.Secret `json:"token"`
	LoginID  string        `json:"login_id"` // ses_…
	Person   Person        `json:"person"`
	Groups   []string      `json:"groups"`
	Method   string        `json:"method"`
	MFA      bool          `json:"mfa"`
	AuthTime time.Time     `json:"auth_time"`
	Expires  time.Time     `json:"expires"` // renewable until NotAfter
	NotAfter time.Time     `json:"not_after"`
}

// Wire implements Revealer.
func (s Session) Wire() any {
	type plain Session
	return struct {
		plain
		Token string `json:"token"`
	}{plain(s), string(s.Token.Reveal())}
}

// Status answers `sega status`.
type Status struct {
	LoginID  string    `json:"login_id"`
	Person   Person    `json:"person"`
	Groups   []string  `json:"groups"`
	Method   string    `json:"method"`
	MFA      bool      `json:"mfa"`
	AuthTime time.Time `json:"auth_time"`
	Expires  time.Time `json:"expires"`
	NotAfter time.Time `json:"not_after"`
	Now      time.Time `json:"now"` // the broker's clock
}

// Role is an AWS role as its users see it.
type Role struct {
	Name        string `json:"name"`
	ARN         string `json:"arn"`
	Account     string `json:"account"`
	Description string `json:"description"`
	MaxSeconds  int    `json:"max_seconds"`
	Mode        string `json:"mode"` // ModeAssumeRole or ModeWebIdentity
	Allowed     bool   `json:"allowed"`
	Why         string `json:"why,omitempty"` // what is missing, where it is not allowed

	// Needs are the terms on which an allowed role is given, of NeedReason, NeedTicket and NeedFresh.
	Needs []string `json:"needs"`
}

// Ways to a role's credentials.
const (
	ModeAssumeRole  = "assume-role"  // sts:AssumeRole with the broker's own AWS identity
	ModeWebIdentity = "web-identity" // sts:AssumeRoleWithWebIdentity with a token of the broker
)

// Terms of a grant that its asker has not met yet.
const (
	NeedReason = "reason"    // --reason
	NeedTicket = "ticket"    // --ticket
	NeedFresh  = "fresh-mfa" // a newer login
)

// Roles lists roles.
type Roles struct {
	Roles []Role `json:"roles"`
}

// CredentialsRequest asks for temporary credentials of a role.
type CredentialsRequest struct {
	Role    string `json:"role"`
	Reason  string `json:"reason,omitempty"`
	Ticket  string `json:"ticket,omitempty"`
	Seconds int    `json:"seconds,omitempty"` // 0: as long as policy gives

	// Chain are further roles by name, each assumed with the credentials of the one before; the
	// credentials are of the last. Each is decided on as if it were asked for alone.
	Chain []string `json:"chain,omitempty"`

	// What narrows the credentials (session policies, AssumeRole's Policy and PolicyArns); of a chain, those of the last role.
	Policy     string   `json:"policy,omitempty"` // an IAM policy, JSON
	PolicyARNs []string `json:"policy_arns,omitempty"`
	ReadOnly   bool     `json:"read_only,omitempty"` // AWS's managed policy ReadOnlyAccess
}

// Credentials are temporary AWS credentials.
type Credentials struct {
	AccessKeyID     string        `json:"access_key_id"`
	SecretAccessKey secret.Secret `json:"secret_access_key"`
	SessionToken    secret.Secret `json:"session_token"`
	Expiration      time.Time     `json:"expiration"`
	Role            string        `json:"role"`
	RoleARN         string        `json:"role_arn"`
	AssumedRoleARN  string        `json:"assumed_role_arn"`
	Notices         []string      `json:"notices"` // e.g. that the duration was clamped, and why
}

// Wire implements Revealer.
func (c Credentials) Wire() any {
	type plain Credentials
	return struct {
		plain
		SecretAccessKey string `json:"secret_access_key"`
		SessionToken    string `json:"session_token"`
	}{plain(c), string(c.SecretAccessKey.Reveal()), string(c.SessionToken.Reveal())}
}

// ReuseRequest asks whether cached credentials may be handed out once more. Through which roles they
// were got the broker knows from its own record of the grant.
type ReuseRequest struct {
	Role        string `json:"role"` // that the credentials are of: of a chain, the last
	AccessKeyID string `json:"access_key_id"`
	Reason      string `json:"reason,omitempty"`
	Ticket      string `json:"ticket,omitempty"`
}

// Reuse is permission to hand out cached credentials once more.
type Reuse struct {
	SecondsLeft int `json:"seconds_left"` // until they expire, by the broker's clock
}

// ConsoleRequest asks for an address that opens the AWS console as a role, without a password.
type ConsoleRequest struct {
	CredentialsRequest
	Service string `json:"service,omitempty"` // like "s3"; with Path empty, that service's own page
	Path    string `json:"path,omitempty"`    // path and query below the console's host, like "/s3/buckets?region=eu-west-1"
	Region  string `json:"region,omitempty"`
}

// Console is that address. Whoever has it is that person in the console: a secret, for 15 minutes.
type Console struct {
	URL       secret.Secret `json:"url"`
	LogoutURL string        `json:"logout_url"` // to be opened before, where the browser is logged in already
	Expires   time.Time     `json:"expires"`    // of the console session, at the latest

	// LogoutLeadsOn: LogoutURL with "&redirect_uri=" and URL, escaped, behind it logs out and goes on to URL.
	// Else it leads nowhere further.
	LogoutLeadsOn bool `json:"logout_leads_on"`

	Role    string   `json:"role"`
	RoleARN string   `json:"role_arn"`
	Notices []string `json:"notices"`
}

// Wire implements Revealer.
func (c Console) Wire() any {
	type plain Console
	return struct {
		plain
		URL string `json:"url"`
	}{plain(c), string(c.URL.Reveal())}
}

// Host is an SSH target as its users see it.
type Host struct {
	Name    string            `json:"name"`
	Labels  map[string]string `json:"labels"`
	Logins  []string          `json:"logins"` // those that the asker may use
	Allowed bool              `json:"allowed"`
	Why     string            `json:"why,omitempty"`
}

// Hosts lists hosts.
type Hosts struct {
	Hosts []Host `json:"hosts"`
}

// CertificateRequest asks for an access certificate for a public key (authorized_keys form).
type CertificateRequest struct {
	PublicKey string    `json:"public_key"`
	Reason    string    `json:"reason,omitempty"`
	Ticket    string    `json:"ticket,omitempty"`
	Proof     *KeyProof `json:"proof,omitempty"` // for ProofVerify: that a FIDO2 key has verified its user
}

// Certificate is an issued SSH certificate (authorized_keys form, one line).
type Certificate struct {
	Certificate string    `json:"certificate"`
	Serial      uint64    `json:"serial,string"`
	ValidAfter  time.Time `json:"valid_after"`
	ValidBefore time.Time `json:"valid_before"`

	FrontCAs []string `json:"front_cas,omitempty"` // of an access certificate: authorized_keys lines, as a bastion may show them while it lives
}
