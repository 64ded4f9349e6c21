package sshca

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// Profile is one of the four kinds of certificate, each with a CA of its own.
type Profile int

// The profiles. The zero value is none of them.
const (
	Access Profile = iota + 1
	Hop
	Front
	Host
)

// Usual lifetimes. Every certificate is valid from Backdate ago, for clocks that are behind.
const (
	Backdate       = time.Minute
	AccessLifetime = 8 * time.Minute
	HopLifetime    = 2 * time.Minute
	FrontLifetime  = 59 * time.Minute // with Backdate the hour that a mask may live
	HostLifetime   = 30 * 24 * time.Hour
)

// The options of PROTOCOL.certkeys that sega uses.
const (
	optSource    = "source-address"
	optVerify    = "verify-required"   // of sk- keys: the authenticator has verified its user, by a PIN or a fingerprint
	extNoTouch   = "no-touch-required" // never given, and refused: x/crypto would take signatures that nobody touched a key for
	extPTY       = "permit-pty"
	extForward   = "permit-port-forwarding"
	extAgent     = "permit-agent-forwarding"
	extX11       = "permit-X11-forwarding"
	maxHostNames = 64 // OpenSSH takes 256
)

// rules is what a profile allows.
type rules struct {
	name       string
	certType   uint32
	longest    time.Duration // from valid_after to valid_before
	hardware   bool          // sk- keys may be certified, and verify-required may be asked of them
	source     need          // of source-address; no further critical option is known
	extensions []string
	principals func(*ssh.Certificate) error
}

type need int

const (
	never need = iota
	optional
	always
)

func (p Profile) rules() (rules, error) {
	switch p {
	case Access:
		// The bastion decides by the broker's answer what a session may do, and OpenSSH's client asks
		// for no extension: none is needed, and none can help at a host that trusts this CA by mistake.
		return rules{name: "access", certType: ssh.UserCert, longest: time.Hour, hardware: true, source: optional, principals: lintAccess}, nil
	case Hop:
		// permit-user-rc is never given; see PROTOCOL.certkeys.
		return rules{name: "hop", certType: ssh.UserCert, longest: 10 * time.Minute, source: always,
			extensions: []string{extPTY, extForward, extAgent, extX11}, principals: lintHop}, nil
	case Front:
		return rules{name: "front", certType: ssh.HostCert, longest: time.Hour, principals: lintHost}, nil
	case Host:
		return rules{name: "host", certType: ssh.HostCert, longest: 90 * 24 * time.Hour, principals: lintHost}, nil
	}
	return rules{}, fmt.Errorf("%w: %d", ErrProfile, int(p))
}

// String returns "access", "hop", "front" or "host".
func (p Profile) String() string {
	r, err := p.rules()
	if err != nil {
		return fmt.Sprintf("profile(%d)", int(p))
	}
	return r.name
}

// Window returns the validity of a certificate issued now for lifetime: from Backdate ago, cut to
// what the profile allows at most (1 h access, 10 min hop, 1 h front, 90 days host, Backdate included).
func (p Profile) Window(now time.Time, lifetime time.Duration) (after, before time.Time) {
	r, err := p.rules()
	if err != nil {
		return now, now // an empty window, which Sign refuses
	}
	return now.Add(-Backdate), now.Add(min(lifetime, r.longest-Backdate))
}

// AccessParams describes an access certificate.
type AccessParams struct {
	Key             ssh.PublicKey
	Serial          Serial
	KeyID           KeyID // Session is the login's ses_ ID
	ValidAfter      time.Time
	ValidBefore     time.Time
	SourceAddresses []string // addresses or CIDRs; none: from anywhere
	Verified        bool     // verify-required: the key has shown in this minute that it verifies its user; for sk- keys alone
}

// NewAccess returns an unsigned access certificate. Its only principal is the login's ID.
func NewAccess(p AccessParams) (*ssh.Certificate, error) {
	c := newCertificate(ssh.UserCert, p.Key, p.Serial, p.KeyID.String(), p.ValidAfter, p.ValidBefore)
	c.ValidPrincipals = []string{p.KeyID.Session}
	options := map[string]string{}
	if len(p.SourceAddresses) > 0 {
		options[optSource] = joinSources(p.SourceAddresses)
	}
	if p.Verified {
		options[optVerify] = ""
	}
	if len(options) > 0 {
		c.CriticalOptions = options
	}
	return linted(c, Access)
}

// HopParams describes a hop certificate.
type HopParams struct {
	Key             ssh.PublicKey // one for each connection
	Serial          Serial
	KeyID           KeyID // Session is the SSH session's ssh_ ID
	Login           string
	HostID          string
	ValidAfter      time.Time
	ValidBefore     time.Time
	SourceAddresses []string // the bastion's egress as the broker's configuration has it; mandatory
	PTY             bool
	PortForwarding  bool
	AgentForwarding bool
	X11Forwarding   bool
}

// NewHop returns an unsigned hop certificate for one account of one host.
func NewHop(p HopParams) (*ssh.Certificate, error) {
	principal, err := HopPrincipal(p.Login, p.HostID)
	if err != nil {
		return nil, err
	}
	c := newCertificate(ssh.UserCert, p.Key, p.Serial, p.KeyID.String(), p.ValidAfter, p.ValidBefore)
	c.ValidPrincipals = []string{principal}
	c.CriticalOptions = map[string]string{optSource: joinSources(p.SourceAddresses)}
	c.Extensions = map[string]string{}
	for name, given := range map[string]bool{extPTY: p.PTY, extForward: p.PortForwarding, extAgent: p.AgentForwarding, extX11: p.X11Forwarding} {
		if given {
			c.Extensions[name] = ""
		}
	}
	return linted(c, Hop)
}

// HostParams describes a front or host certificate.
type HostParams struct {
	Key         ssh.PublicKey
	Serial      Serial
	KeyID       string   // 1 to 128 printable ASCII characters
	Names       []string // 1 to 64 host names, see CheckHostName
	ValidAfter  time.Time
	ValidBefore time.Time
}

// NewFront returns an unsigned certificate of a bastion, or of the mask that it wears for a host.
func NewFront(p HostParams) (*ssh.Certificate, error) { return p.certificate(Front) }

// NewHost returns an unsigned certificate of a real host.
func NewHost(p HostParams) (*ssh.Certificate, error) { return p.certificate(Host) }

func (p HostParams) certificate(profile Profile) (*ssh.Certificate, error) {
	c := newCertificate(ssh.HostCert, p.Key, p.Serial, p.KeyID, p.ValidAfter, p.ValidBefore)
	c.ValidPrincipals = slices.Clone(p.Names)
	return linted(c, profile)
}

func newCertificate(certType uint32, key ssh.PublicKey, serial Serial, keyID string, after, before time.Time) *ssh.Certificate {
	return &ssh.Certificate{
		Key: key, Serial: uint64(serial), CertType: certType, KeyId: keyID,
		ValidAfter: uint64(after.Unix()), ValidBefore: uint64(before.Unix()),
	}
}

func linted(c *ssh.Certificate, profile Profile) (*ssh.Certificate, error) {
	if err := Lint(c, profile); err != nil {
		return nil, err
	}
	return c, nil
}
