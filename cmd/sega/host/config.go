//go:build linux

package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Dir is where a host keeps its files.
const Dir = "/var/lib/sega-host"

// How sshd gets to know a login's principals.
const (
	ByCommand = "command" // AuthorizedPrincipalsCommand: asks about each certificate
	ByFile    = "file"    // AuthorizedPrincipalsFile: sshd itself compares, and nothing but the KRL revokes
)

// DefaultUser is whom sshd runs sega as.
const DefaultUser = "nobody"

// Config is a host's own configuration: written by `sega host enroll`, read by all else.
type Config struct {
	Broker    string `json:"broker"`            // https://host[:port]
	CAFile    string `json:"ca_file,omitempty"` // trust of the broker's certificate; else the system's
	Name      string `json:"name"`
	PlainKeys bool   `json:"plain_keys,omitempty"` // sshd knows no certificates
	By        string `json:"principals"`           // ByCommand or ByFile

	SSHD        string `json:"sshd"`        // program
	SSHDConfig  string `json:"sshd_config"` // its configuration
	Snippet     string `json:"snippet"`     // our file among it
	HostKey     string `json:"host_key"`    // public key, which the certificate is for
	Certificate string `json:"certificate"`
	Sega        string `json:"sega"` // path of this program, which sshd calls
	User        string `json:"user"` // that sshd calls it as
	Socket      string `json:"socket"`
	Unit        string `json:"unit,omitempty"` // of systemd, where it is there

	Accounts *Accounts `json:"accounts,omitempty"` // nil: none are made

	dir    string
	prefix string // of the files of accounts, in tests
}

// Accounts says for whom a host makes Unix accounts: it is the host's own word beside that of its token.
type Accounts struct {
	Groups     []string `json:"groups"`                // of the identity provider
	UnixGroups []string `json:"unix_groups,omitempty"` // that such an account is put into
	Shell      string   `json:"shell,omitempty"`
	Kill       bool     `json:"kill,omitempty"` // end what still runs of an account that goes
}

// Names of the files in a host's folder.
const (
	configName     = "host.json"
	keyName        = "machine.key"
	bundleName     = "bundle.json"
	hopCAsName     = "hop_cas"
	krlName        = "krl"
	principalsName = "principals"
	caName         = "broker_ca.pem"
	accountsName   = "accounts.json"
	reportedName   = "audit.json"
)

// Load reads the configuration in a host's folder.
func Load(dir string) (Config, error) {
	var c Config
	data, err := os.ReadFile(filepath.Join(dir, configName))
	if errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("this host is not enrolled: there is no %s", filepath.Join(dir, configName))
	}
	if err != nil {
		return c, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("%s: %w", filepath.Join(dir, configName), err)
	}
	c.dir = dir
	return c, nil
}

func (c Config) file(name string) string { return filepath.Join(c.dir, name) }

func (c Config) marshal() []byte {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		panic(err) // strings and lists of strings
	}
	return append(data, '\n')
}
