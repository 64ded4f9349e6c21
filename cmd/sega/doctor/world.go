package doctor

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sega/broker/api"
)

// Errors by which a World says that there is nothing to be looked at.
var (
	ErrNoLogin = errors.New("you are not logged in")
	ErrNoAgent = errors.New("no agent runs")
)

// World is this machine as the checks see it. Nothing in it may change anything or ask anybody.
type World struct {
	Version string // of sega
	Home    string // sega's folder, which may not exist
	User    string // the person's home
	Getenv  func(string) string
	Environ func() []string
	Now     func() time.Time

	Origin    func() (string, error)               // of the broker that commands would ask
	Pinned    *api.Configuration                   // what is remembered of it, nil before the first login
	Transport func() (*http.Transport, error)      // to the broker; its certificate is checked as by commands
	Explain   func(error) (text, mend string)      // what a command would say of an error
	Secrets   func() (backend, where string)       // the place of the key of the stored secrets
	Login     func(context.Context) (Login, error) // the stored session; ErrNoLogin where there is none

	Bastions []api.BastionAddress                            // that Pinned names
	Reach    func(ctx context.Context, address string) error // nil where SSH answers there

	Agent       func(context.Context) (Agent, error) // ErrNoAgent where none runs
	AgentSocket string

	// Observe holds a signed checkpoint against the one that this machine remembers, and returns its
	// size in events. Nil where no key of a log is pinned.
	Observe func(ctx context.Context, note []byte) (int64, error)

	AWS func() (AWS, error) // the files of AWS's tools
}

// Login is a stored session.
type Login struct {
	ID        string
	Origin    string
	Person    string
	MFA       bool
	Renewable bool // there is a refresh token
	Expires   time.Time
	NotAfter  time.Time
	Broker    Broker // asks with this session, and does not renew it
}

// Broker is what the checks ask of the broker with the person's session.
type Broker interface {
	Status(context.Context) (api.Status, error)
	Roles(context.Context) (api.Roles, error)
	Hosts(context.Context) (api.Hosts, error)
}

// Agent is what a running agent says of itself.
type Agent struct {
	Version string
	State   string
	Why     string
	Healthy bool // it gives warm answers
	Mend    string
}

// AWS is what the files of AWS's tools say.
type AWS struct {
	Profiles []string // of both files
	Ours     int      // profiles whose credentials come from sega
	Hidden   []string // what keeps a profile of sega's from asking it, a sentence each
	First    []string // what programs that name no profile use before they ask sega's endpoint, a place each
	Rivals   []string // profiles that ask another tool
}

// exam is one run of all checks.
type exam struct {
	World
	broker  *fact[broker]
	idp     *fact[provider]
	session *fact[Login]
	status  *fact[api.Status]
	hostsOf *fact[api.Hosts]
}

// Checks are all checks of a machine, in the order in which they are told.
func Checks(w World) []Check {
	x := &exam{World: w}
	x.broker = newFact(probeTime, x.askBroker)
	x.idp = newFact(probeTime, x.askProvider)
	x.session = newFact(secretsTime, w.Login)
	x.status = newFact(probeTime, x.askStatus)
	x.hostsOf = newFact(probeTime, x.askHosts)
	return []Check{
		{"version", x.version}, {"environment", x.environment}, {"home", x.home}, {"keychain", x.keychain}, {"agent", x.agent},
		{"proxy", x.proxy}, {"ca", x.ca}, {"broker", x.reach}, {"ready", x.ready}, {"clock", x.clock}, {"log", x.log},
		{"idp", x.provider}, {"ports", x.ports}, {"login", x.login}, {"roles", x.roles}, {"hosts", x.hosts}, {"bastions", x.bastions},
		{"aws-cli", x.awsCLI}, {"aws-files", x.awsFiles}, {"aws-environment", x.awsEnvironment},
		{"ssh", x.ssh}, {"ssh-config", x.sshConfig}, {"ssh-agent", x.sshAgent}, {"other-tools", x.rivals},
	}
}

// one is what most checks return.
func one(f Finding) []Finding { return []Finding{f} }

// orGood is what was found, or that all is well.
func orGood(found []Finding, format string, args ...any) []Finding {
	if len(found) == 0 {
		return one(good(format, args...))
	}
	return found
}
