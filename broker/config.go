package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit/store"
	"sega/broker/awssts"
	"sega/broker/policy"
	"sega/broker/state"
	"sega/idp"
	"sega/keychain/secret"
	"sega/sshca"
)

// Verifier judges ID tokens; *idp.Verifier is one.
type Verifier interface {
	Verify(ctx context.Context, raw secret.Secret, nonce string) (idp.Identity, error)
	VerifyRefreshed(ctx context.Context, raw secret.Secret, was idp.Identity) (idp.Identity, error)
	VerifyDevice(ctx context.Context, raw secret.Secret) (idp.Identity, error)
	UserInfoGroups(ctx context.Context, access secret.Secret, sub string) ([]string, error)
}

// DeviceFlow runs the device grant at the IdP; *idp.Provider is one.
type DeviceFlow interface {
	DeviceStart(ctx context.Context, clientID string, scopes []string) (idp.Device, error)
	DevicePoll(ctx context.Context, clientID string, d idp.Device) (idp.Tokens, error)
}

// Minter makes AWS credentials; *awssts.Minter is one.
type Minter interface {
	Assume(ctx context.Context, r awssts.Request) (awssts.Result, error)
	// AssumeFrom is Assume with the credentials of the session before: the next hop of a chain.
	AssumeFrom(ctx context.Context, before awssts.Result, r awssts.Request) (awssts.Result, error)
}

// Consoles opens AWS's web console; *awssts.Console is one.
type Consoles interface {
	Place(roleARN string, p awssts.Page) (awssts.Place, error)
	SignIn(ctx context.Context, session awssts.Result, at awssts.Place) (awssts.SignIn, error)
}

// Recordings reads recordings, as ciphertext; *bucket.Dir and *bucket.Cloud are two.
type Recordings interface {
	// Reader returns a recording from a byte on. Read again after io.EOF it goes on with what has come
	// since. fs.ErrNotExist means that there is none yet, fs.ErrInvalid that it is shorter than that.
	Reader(ctx context.Context, sessionID string, from int64) (io.ReadCloser, error)
}

// Role is an AWS role that policy may grant.
type Role struct {
	Name, ARN, Description, ExternalID string
	MaxDuration                        time.Duration
	Labels                             map[string]string
	Mode                               string // api.ModeAssumeRole, the default, or api.ModeWebIdentity
	Audience                           string // of tokens for the role, in the latter; empty: "sega:" and the name
}

// Account returns the account in the role's ARN.
func (r Role) Account() string {
	if parts := strings.Split(r.ARN, ":"); len(parts) > 4 {
		return parts[4]
	}
	return ""
}

// Host is an SSH target of the inventory.
type Host struct {
	Name     string   // what people type
	ID       string   // principal of its host certificate, and the HOST-ID of hop principals
	Address  string   // host:port that the bastion dials
	Logins   []string // accounts that exist for people
	HostKeys []string // pinned plain keys, where the host has no certificate
	Labels   map[string]string

	PlainKeys bool     // its sshd knows no certificates, and asks for each session's key
	machine   string   // that it enrolled as; "" of the configuration
	groups    []string // people of which may have accounts there
}

// Bastion is what the broker knows of a bastion.
type Bastion struct {
	Name    string   // as enrolled
	Address string   // host:port that laptops dial
	Egress  []string // CIDRs from which hosts see it: the source-address of hop certificates (R5)
}

// CAs are the keys that may sign for the four CAs, as the configuration names them, and what else is trusted beside. Which of
// a CA's keys signs is in the database, and changes by a rotation; where it knows none yet, the first one does.
type CAs struct {
	Access, Hop, Front, Host                 []ssh.Signer
	MoreAccess, MoreHop, MoreFront, MoreHost []ssh.PublicKey // never sign: offline, for emergencies
	Unopened                                 []string        // names of the CAs of which a configured key does not open
	Shut                                     []ShutKey       // which keys those are, where that is known
}

// ShutKey is a configured key that does not open at the moment: it signs nothing, and what it has signed stays trusted.
type ShutKey struct {
	CA  string
	Key ssh.PublicKey
}

// Times are the lifetimes of design.md §5.
type Times struct {
	Session, Login      time.Duration // until renewal; until a new login
	AccessCert, HopCert time.Duration
	FrontCert, Backdate time.Duration
	HostCert            time.Duration
	Lease, Heartbeat    time.Duration
	Idle                time.Duration // of SSH sessions; 0: none
	RegisteredKey       time.Duration // of a registered key, where policy says nothing else
	RevokeWait          time.Duration // how long a revocation waits for acknowledgements
	Upstream            time.Duration // for one call to the IdP, or all calls to AWS of one request
	MachineSession      time.Duration
	CALate              time.Duration // what a rotation adds to the life of the last certificates: caLate at the least, but in tests
}

// DefaultTimes are those of design.md §5.
func DefaultTimes() Times {
	return Times{Session: time.Hour, Login: 12 * time.Hour, AccessCert: 8 * time.Minute, HopCert: 2 * time.Minute,
		FrontCert: time.Hour, Backdate: time.Minute, HostCert: sshca.HostLifetime, Lease: 30 * time.Second, Heartbeat: time.Second,
		RegisteredKey: 90 * 24 * time.Hour, RevokeWait: 5 * time.Second, Upstream: 20 * time.Second, MachineSession: 12 * time.Hour, CALate: caLate}
}

// Config is all that a broker needs.
type Config struct {
	Origin, Node, Version string
	Issuer, ClientID      string
	Scopes, ACRValues     []string
	RedirectPorts         []int
	RedirectPath          string
	DeviceGrant           bool
	TrustEmail            bool // e-mails that the IdP does not call verified name people too
	Log                   store.Log
	LogKey                string         // note verifier key of the log
	Mark                  []byte         // checkpoint that an earlier run of this node has seen last; nil: none
	Revoked               *state.Revoked // what stood revoked when Mark was noted; nil: nobody knows
	Peers                 bool           // other brokers may have the same log
	Policy                *policy.Engine
	Verifier              Verifier
	Device                DeviceFlow
	Minter                Minter
	WebIdentity           *Issuer  // for roles in the mode web-identity; nil: there are none
	Consoles              Consoles // nil: nobody gets a console
	CAs                   CAs
	ReloadCAs             func(context.Context) (CAs, error) // reads the configuration anew, when the database knows a key that CAs lacks; may be nil
	Roles                 []Role
	Hosts                 []Host
	HostDomains           []string // under which hosts may enrol by names with a dot
	Instances             Instances
	Bastions              []Bastion
	Indexers              []string // names, as enrolled
	Recordings            Recordings
	Redactions            []Redaction    // beside the defaults, or in place of those of their names (R11)
	TrustedProxies        []netip.Prefix // whose X-Forwarded-For counts (R13)
	Times                 Times
	Limits                Limits
	Sessions              SessionLimits // of SSH
	Ladder                []LadderRule
	Now                   func() time.Time
	Logger                *slog.Logger
}

func (c *Config) validate() error {
	u, err := url.Parse(c.Origin)
	if err != nil || u.Scheme != "https" || u.Host == "" || (u.Path != "" && u.Path != "/") {
		return fmt.Errorf("broker: origin %q is not of the form https://host[:port]", c.Origin)
	}
	c.Origin = "https://" + u.Host
	for what, missing := range map[string]bool{
		"node": c.Node == "", "issuer": c.Issuer == "", "client ID": c.ClientID == "", "log": c.Log == nil, "policy": c.Policy == nil,
		"verifier": c.Verifier == nil, "minter": c.Minter == nil, "recordings": c.Recordings == nil, "clock": c.Now == nil, "logger": c.Logger == nil,
	} {
		if missing {
			return fmt.Errorf("broker: no %s configured", what)
		}
	}
	if c.DeviceGrant && c.Device == nil {
		return errors.New("broker: the device grant is allowed but there is no provider for it")
	}
	if err := c.Sessions.check(); err != nil {
		return err
	}
	for _, r := range c.Ladder {
		if err := r.check(c.Times.Lease); err != nil {
			return err
		}
	}
	return errors.Join(c.CAs.check(), c.validateNames())
}

func (c *Config) validateNames() error {
	seen := map[string]bool{}
	for _, b := range c.Bastions {
		if len(b.Egress) == 0 {
			return fmt.Errorf("broker: bastion %q has no egress addresses: hop certificates would be good from everywhere", b.Name)
		}
		if seen[b.Name] {
			return fmt.Errorf("broker: bastion %q is configured twice", b.Name)
		}
		seen[b.Name] = true
	}
	for _, name := range c.Indexers {
		if seen[name] { // enrolment under a name replaces the machine that has it
			return fmt.Errorf("broker: indexer %q has the name of another machine", name)
		}
		seen[name] = true
	}
	for _, domain := range c.HostDomains {
		if err := sshca.CheckHostName(domain); err != nil {
			return fmt.Errorf("broker: host_domains: %w", err)
		}
	}
	for _, h := range c.Hosts {
		if whose := reserved(h.Name); whose != "" {
			return fmt.Errorf("broker: host %q has the name of %s", h.Name, whose)
		}
		// R7: a mask or an enrolled host must not pose as a bastion.
		if seen[h.Name] || seen[h.ID] {
			return fmt.Errorf("broker: host %q has the name of a bastion or of another host", h.Name)
		}
		seen[h.Name], seen[h.ID] = true, true
	}
	roles := map[string]bool{}
	for _, r := range c.Roles {
		if roles[r.Name] {
			return fmt.Errorf("broker: role %q is configured twice", r.Name)
		}
		roles[r.Name] = true
	}
	if err := c.validateInstances(); err != nil {
		return err
	}
	return c.validateModes()
}

func (c *Config) bastionNames() []string {
	var names []string
	for _, b := range c.Bastions {
		names = append(names, b.Name)
	}
	return names
}
