// Package config owns the servers' configuration files: one strict YAML file for each server, in
// which an unknown key is an error that names its line, values have units and secrets are paths.
// It reads and checks form; what the values mean is for the servers.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/goccy/go-yaml"

	"sega/keychain/secret"
)

// maxFile bounds a configuration or secret file.
const maxFile = 1 << 20

// Broker is the file of `segad broker`.
type Broker struct {
	Origin         string        `yaml:"origin"`
	Listen         string        `yaml:"listen"`
	Node           string        `yaml:"node"`
	TLS            TLS           `yaml:"tls"`
	Database       string        `yaml:"database"` // ParseDatabase
	LogKey         string        `yaml:"log_key"`  // path of the key that signs checkpoints
	IDP            IDP           `yaml:"idp"`
	AWS            AWS           `yaml:"aws"`
	Issuer         *Issuer       `yaml:"issuer,omitempty"`
	CA             CA            `yaml:"ca"`
	Policy         string        `yaml:"policy"`     // folder of *.cedar files
	Recordings     string        `yaml:"recordings"` // where bastions write to: ParseRecordings
	Roles          []Role        `yaml:"roles"`
	Hosts          []Host        `yaml:"hosts"`
	HostDomains    []string      `yaml:"host_domains,omitempty"` // under which hosts may enrol by names with a dot
	Instances      *Instances    `yaml:"instances,omitempty"`
	Bastions       []Bastion     `yaml:"bastions"`
	Indexers       []Indexer     `yaml:"indexers,omitempty"`
	TrustedProxies []string      `yaml:"trusted_proxies,omitempty"`
	Redact         []Redaction   `yaml:"redact,omitempty"`  // beside the defaults of broker.DefaultRedactions
	Session        time.Duration `yaml:"session,omitempty"` // until it must be renewed
	Login          time.Duration `yaml:"login,omitempty"`   // until a new login
	Idle           time.Duration `yaml:"idle,omitempty"`    // of SSH sessions; 0: none
	Lease          time.Duration `yaml:"lease,omitempty"`   // of bastions without the feed

	RecordingsCredentials string `yaml:"recordings_credentials,omitempty"` // path of a shared credentials file; else the SDK's default chain

	DatabasePasswordFile string `yaml:"database_password,omitempty"` // path of PostgreSQL's password

	Mark string `yaml:"mark,omitempty"` // path that the newest checkpoint is noted at: MarkFile

	SessionLimits SessionLimits `yaml:"session_limits,omitempty"` // of SSH
	Ladder        []LadderRule  `yaml:"ladder,omitempty"`

	Operators string `yaml:"operators,omitempty"` // path of the socket of segad ca: OperatorsSocket
}

// TLS names the PEM files of the server's certificate.
type TLS struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// IDP is the identity provider.
type IDP struct {
	Issuer        string   `yaml:"issuer"`
	ClientID      string   `yaml:"client_id"`
	Scopes        []string `yaml:"scopes,omitempty"`
	ACRValues     []string `yaml:"acr_values,omitempty"` // asked for at login
	MFAValues     []string `yaml:"mfa_amr,omitempty"`    // amr values that prove a second factor
	MFAACRValues  []string `yaml:"mfa_acr,omitempty"`    // acr values that prove one
	GroupsClaim   string   `yaml:"groups_claim,omitempty"`
	RedirectPorts []int    `yaml:"redirect_ports"`
	RedirectPath  string   `yaml:"redirect_path,omitempty"`
	DeviceGrant   bool     `yaml:"device_grant,omitempty"`
	TrustEmail    bool     `yaml:"trust_email,omitempty"` // although email_verified is absent or false
}

// AWS is how the broker reaches STS.
type AWS struct {
	Region      string `yaml:"region"`
	Endpoint    string `yaml:"endpoint,omitempty"`
	Credentials string `yaml:"credentials,omitempty"` // path of a shared credentials file; else the SDK's default chain
	Chained     *bool  `yaml:"chained,omitempty"`     // whether the broker is an assumed role itself; else AWS is asked

	FederationEndpoint string `yaml:"federation_endpoint,omitempty"` // of consoles, for tests; else AWS's own
}

// Role is an AWS role.
type Role struct {
	Name        string            `yaml:"name"`
	ARN         string            `yaml:"arn"`
	Description string            `yaml:"description,omitempty"`
	ExternalID  string            `yaml:"external_id,omitempty"`
	MaxDuration time.Duration     `yaml:"max_duration,omitempty"` // the role's MaxSessionDuration
	Labels      map[string]string `yaml:"labels,omitempty"`
	Mode        string            `yaml:"mode,omitempty"`     // assume-role or web-identity; the former where empty
	Audience    string            `yaml:"audience,omitempty"` // of tokens for the role; "sega:" and the name where empty
}

// Host is an SSH target.
type Host struct {
	Name     string            `yaml:"name"`
	ID       string            `yaml:"id,omitempty"` // HOST-ID; the name where empty
	Address  string            `yaml:"address"`
	Logins   []string          `yaml:"logins"`
	HostKeys []string          `yaml:"host_keys,omitempty"`
	Labels   map[string]string `yaml:"labels,omitempty"`
}

// Instances lets hosts of AWS enrol by their identity documents.
type Instances struct {
	Certificates string         `yaml:"certificates"` // path of AWS's RSA-2048 certificates of the regions, PEM
	Rules        []InstanceRule `yaml:"rules"`
}

// InstanceRule says which instances may enrol, and as what.
type InstanceRule struct {
	Account string            `yaml:"account"`
	Region  string            `yaml:"region"`
	IDs     []string          `yaml:"ids,omitempty"`         // instances; any of account and region where none are named
	Prefix  string            `yaml:"name_prefix,omitempty"` // the instance's ID follows
	Port    int               `yaml:"port,omitempty"`        // 22
	Logins  []string          `yaml:"logins"`
	Labels  map[string]string `yaml:"labels,omitempty"`
	Groups  []string          `yaml:"groups,omitempty"`  // people of which may have accounts of their own there
	MaxAge  time.Duration     `yaml:"max_age,omitempty"` // since the instance's start; an hour
}

// Bastion is a bastion that may enrol.
type Bastion struct {
	Name      string   `yaml:"name"`
	Address   string   `yaml:"address"`
	Egress    []string `yaml:"egress"`
	JoinToken string   `yaml:"join_token,omitempty"` // path of a single-use token for its enrolment
}

// BastionServer is the file of `segad bastion`.
type BastionServer struct {
	Name       string      `yaml:"name"`
	Listen     string      `yaml:"listen"`
	Broker     string      `yaml:"broker"`
	CAFile     string      `yaml:"ca_file,omitempty"` // trust of the broker's certificate
	LogKey     string      `yaml:"log_key"`           // verifier key of the broker's log, pinned
	Data       string      `yaml:"data"`              // spool, machine key, marks
	JoinToken  string      `yaml:"join_token,omitempty"`
	Recordings string      `yaml:"recordings"` // ParseRecordings
	Recipients []Recipient `yaml:"recipients"` // of recordings; two at least

	RecordingsCredentials string        `yaml:"recordings_credentials,omitempty"` // path of a shared credentials file; else the SDK's default chain
	UploadInterval        time.Duration `yaml:"upload_interval,omitempty"`        // of sessions that live, into recordings
	Banner                string        `yaml:"banner,omitempty"`                 // for everybody who connects
	MOTD                  string        `yaml:"motd,omitempty"`                   // for a shell on a terminal
	KeepAlive             time.Duration `yaml:"keepalive,omitempty"`              // without a byte from a person or a host: a sign of life is asked for, and given up after four of them

	TrustedProxies []string `yaml:"trusted_proxies,omitempty"` // that send the PROXY protocol, and must

	Spool Spool          `yaml:"spool,omitempty"`
	Drain *time.Duration `yaml:"drain,omitempty"` // for how long sessions may go on when it is told to stop
}

// Recipient can read recordings.
type Recipient struct {
	Name string `yaml:"name"`
	Age  string `yaml:"age"` // "age1…"
}

// Redaction is a pattern of secrets that never reach the log.
type Redaction struct {
	Name    string `yaml:"name"`
	Pattern string `yaml:"pattern"` // RE2; empty with the name of a default: that one is off
}

// LoadBroker reads the file of a broker; paths in it are relative to it.
func LoadBroker(path string) (Broker, error) {
	var c Broker
	err := load(path, &c)
	return c, err
}

// LoadBastion reads the file of a bastion.
func LoadBastion(path string) (BastionServer, error) {
	var c BastionServer
	err := load(path, &c)
	return c, err
}

func load(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := Parse(data, v); err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	return nil
}

// Parse reads one strict YAML document. Errors name line and key and quote no values: what stands
// in the wrong place may be a secret.
func Parse(data []byte, v any) error {
	if len(data) > maxFile {
		return errors.New("the file is larger than 1 MiB")
	}
	d := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict(), yaml.DisallowUnknownField())
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return describe(err)
	}
	return nil
}

func describe(err error) error {
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) && unknown.Token != nil {
		return fmt.Errorf("line %d: unknown key %q", unknown.Token.Position.Line, unknown.Token.Value)
	}
	var syntax yaml.Error
	if errors.As(err, &syntax) && syntax.GetToken() != nil && syntax.GetToken().Position != nil {
		return fmt.Errorf("line %d: %s", syntax.GetToken().Position.Line, syntax.GetMessage())
	}
	return errors.New("not a YAML document of this server")
}

// Path resolves a path of a configuration file against the file's folder.
func Path(file, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

// Secret reads a secret's file, without the line's end. Files that others may read are refused.
func Secret(path string) (secret.Secret, error) {
	info, err := os.Stat(path)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("secret: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return secret.Secret{}, fmt.Errorf("secret %s can be read by others\nrun: chmod 600 %s", path, path)
	}
	if info.Size() > maxFile {
		return secret.Secret{}, fmt.Errorf("secret %s is larger than 1 MiB", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("secret: %w", err)
	}
	s := secret.New(bytes.TrimRight(data, "\r\n"))
	clear(data)
	if s.Empty() {
		return s, fmt.Errorf("secret %s is empty", path)
	}
	return s, nil
}
