package policy

import "time"

// Kinds of principal.
const (
	KindUser    = "user"
	KindMachine = "machine"
)

// Principal is who asks. A user is (Issuer, Subject); Email is for people to read. A machine is
// its Subject (mch_…).
type Principal struct {
	Issuer  string
	Subject string
	Email   string
	Groups  []string
	Kind    string // KindUser or KindMachine; anything else is denied
}

// Actions, as in schema.cedarschema.
const (
	ActionAssume       = "assume"        // Role
	ActionConsole      = "console"       // Role; beside ActionAssume
	ActionConnect      = "connect"       // Host; Context.Login is needed
	ActionForward      = "forward"       // Host; beside ActionConnect
	ActionOpaque       = "forwardOpaque" // Host; beside ActionForward
	ActionForwardAgent = "forwardAgent"  // Host; beside ActionConnect
	ActionForwardX11   = "forwardX11"    // Host; beside ActionConnect
	ActionOmitContent  = "omitContent"   // Host; of ChannelSFTP
	ActionCertificate  = "certificate"   // Broker
	ActionRegisterKey  = "registerKey"   // Broker
	ActionListSessions = "listSessions"  // Broker, User, Session
	ActionRevoke       = "revoke"        // User, Session, Certificate, Host
	ActionUnblock      = "unblock"       // User, Host
	ActionReadEvents   = "readEvents"    // AuditLog
	ActionReadContent  = "readContent"   // AuditLog
	ActionVerifyLog    = "verifyLog"     // AuditLog, Recording
	ActionReplay       = "replay"        // Recording
	ActionIndex        = "index"         // Recording, for machines
	ActionEnrollHost   = "enrollHost"    // Host
)

// Types of resource, as in schema.cedarschema.
const (
	TypeRole      = "Role"
	TypeHost      = "Host"
	TypeSession   = "Session"
	TypeUser      = "User" // its ID is that of UserID
	TypeAuditLog  = "AuditLog"
	TypeRecording = "Recording"
	TypeBroker    = "Broker"

	TypeCertificate = "Certificate" // of SSH
)

// Resource is what is acted upon.
type Resource struct {
	Type        string
	ID          string            // not empty
	Labels      map[string]string // tags of a Role, Host, Session or Recording
	Account     string            // AWS account of a Role
	Profile     string            // of a Certificate: "access", "hop", "front" or "host"
	Owner       string            // sub of the person that a Session, Certificate, Recording or AuditLog query is about
	OwnerIssuer string            // iss of that person; an Owner without one is refused (R2)
}

// Methods of login that policies and rules know, as in broker/api.
const (
	methodBrowser = "browser"
	methodPaste   = "paste"
	methodDevice  = "device"
	methodKey     = "key" // of a registered public key, which is no login
)

// Context is the circumstances of a request.
type Context struct {
	MFA     bool
	AuthAge time.Duration // since the person authenticated at the IdP
	Method  string        // "browser", "paste", "device", or "key" of a registered public key
	Reason  string
	Ticket  string
	Source  string // IP address, with or without a port; empty where unknown
	Login   string // account on the host, for ActionConnect
	Now     time.Time

	HardwareKey  bool // for ActionCertificate, ActionRegisterKey and ActionConnect: the SSH key is one of a FIDO2 authenticator
	UserVerified bool // which has shown the broker, for this certificate, that it verified its user

	ReadOnly bool // for ActionAssume and ActionConsole: AWS's ReadOnlyAccess is the only session policy
	Narrowed bool // for them, too: there is any session policy

	Channel string  // for ActionConnect and those beside it: what is to begin, "" for the session itself
	Command string  // of ChannelExec, or the name of ChannelSubsystem
	Forward Forward // for ActionForward and ActionOpaque
}

// Kinds of Context.Channel.
const (
	ChannelShell     = "shell"
	ChannelExec      = "exec"
	ChannelSubsystem = "subsystem" // every one but sftp
	ChannelSFTP      = "sftp"
	ChannelSFTPWrite = "sftp-write" // asked beside ChannelSFTP: whether it may change files; else it only reads
	ChannelForward   = "forward"
	ChannelAgent     = "agent"
	ChannelX11       = "x11"
)

// Directions of a Forward.
const (
	DirectionLocal  = "local"  // the person's side listens
	DirectionRemote = "remote" // the host does
)

// Forward is what a forward goes to, or listens at.
type Forward struct {
	Direction string
	Host      string // canonical: in lower case, an address in its usual form
	Port      int64
	Socket    string // a Unix socket's path, in place of Host and Port
	Loopback  bool   // Host is the host's own loopback
}

// Request is a question to a Set.
type Request struct {
	Principal
	Action string
	Resource
	Context
}

// Cause says why a Decision denies, for programs; Reason says it to people.
type Cause string

// Causes of a denial. An allowing Decision has none.
const (
	CauseForbid   Cause = "forbid"    // a forbid policy matched
	CauseNoPermit Cause = "no_permit" // no permit policy matched
	CauseError    Cause = "error"     // a policy could not be evaluated
	CauseMFA      Cause = "mfa"       // the login carries no second factor
	CauseMethod   Cause = "method"    // the login's method is not good enough for the action
	CauseInvalid  Cause = "invalid"   // the request itself is malformed or outside the schema
	CauseNoPolicy Cause = "no_policy" // no valid policy set is loaded
)

// Decision is the answer. The zero value denies.
type Decision struct {
	Allow       bool
	Cause       Cause       // "" if Allow
	PolicyIDs   []string    // determining policies, never nil; if Allow, first the grant that Obligations are of
	Reason      string      // for the person; "" if Allow
	Missing     []string    // groups any one of which would have allowed it, sorted
	Obligations Obligations // to be checked by whoever acts on Allow
	Digest      string      // of the policy set, hex SHA-256; "" without one
	Errors      []string    // of the evaluation, for the broker's own log
}
