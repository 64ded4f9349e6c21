package sts

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"time"

	"sega/keychain/secret"
)

// Caller is a long-lived access key. An assumed-role ARN makes every call of it role chaining.
type Caller struct {
	AccessKeyID     string
	SecretAccessKey secret.Secret
	ARN             string // arn:aws:iam::111111111111:user/x, or arn:aws:sts::111111111111:assumed-role/ROLE/SESSION
}

// Role is a role and what its trust policy says. A caller has no permission policy of its own: to
// be trusted is enough.
type Role struct {
	ARN                           string
	MaxDuration                   time.Duration // 1 h to 12 h; zero: 1 h, as in IAM
	Trusted                       []string      // ARNs of users, roles and role sessions
	AllowTag, AllowSourceIdentity bool          // sts:TagSession, sts:SetSourceIdentity
	ExternalID                    string        // required where not empty
	Federated                     []Federation  // for AssumeRoleWithWebIdentity
}

// Config describes a double.
type Config struct {
	Listener  net.Listener // of a loopback address; the server closes it
	Region    string       // accepted in signatures beside us-east-1; empty: us-east-1 alone
	Callers   []Caller
	Roles     []Role
	Providers []Provider       // OIDC providers of the accounts
	HTTP      *http.Client     // by which their keys are fetched, with the trust that it takes; nil: the system's
	StateFile string           // issued sessions, mode 0600; empty: they end with the process
	Now       func() time.Time // nil: time.Now
	Life      time.Duration    // of every session, whatever is asked for, so that what runs can be seen to outlive one; zero: as asked
	Log       *slog.Logger     // nil: none
}

var (
	roleARN    = regexp.MustCompile(`\Aarn:aws[a-z-]*:iam::([0-9]{12}):role/(?:[\x21-\x7e]+/)?([\w+=,.@-]{1,64})\z`)
	userARN    = regexp.MustCompile(`\Aarn:aws[a-z-]*:iam::([0-9]{12}):user/(?:[\x21-\x7e]+/)?([\w+=,.@-]{1,64})\z`)
	sessionARN = regexp.MustCompile(`\Aarn:aws[a-z-]*:sts::([0-9]{12}):assumed-role/([\w+=,.@-]{1,64})/([\w+=,.@-]{2,64})\z`)
	keyID      = regexp.MustCompile(`\A\w{16,128}\z`)
)

func (c Config) check() error {
	if c.Listener == nil {
		return errors.New("sts: no listener")
	}
	if a, ok := c.Listener.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return fmt.Errorf("sts: %s is not a loopback address; this double opens to nobody else", c.Listener.Addr())
	}
	for _, k := range c.Callers {
		if err := k.check(); err != nil {
			return err
		}
	}
	for _, r := range c.Roles {
		if err := r.check(); err != nil {
			return err
		}
	}
	for _, p := range c.Providers {
		if err := p.check(); err != nil {
			return err
		}
	}
	return nil
}

func (k Caller) check() error {
	switch {
	case !keyID.MatchString(k.AccessKeyID):
		return errors.New("sts: a caller's access key ID is not 16 to 128 of A-Z a-z 0-9 _")
	case k.SecretAccessKey.Empty():
		return fmt.Errorf("sts: caller %s has no secret access key", k.AccessKeyID)
	case !userARN.MatchString(k.ARN) && !sessionARN.MatchString(k.ARN):
		return fmt.Errorf("sts: caller %s: %q is the ARN of neither a user nor a role session", k.AccessKeyID, k.ARN)
	}
	return nil
}

func (r Role) check() error {
	if !roleARN.MatchString(r.ARN) {
		return fmt.Errorf("sts: %q is not the ARN of a role", r.ARN)
	}
	if r.MaxDuration != 0 && (r.MaxDuration < time.Hour || r.MaxDuration > 12*time.Hour) {
		return fmt.Errorf("sts: role %s: a maximum duration lies between 1h and 12h", r.ARN)
	}
	for _, t := range r.Trusted {
		if !userARN.MatchString(t) && !roleARN.MatchString(t) && !sessionARN.MatchString(t) {
			return fmt.Errorf("sts: role %s trusts %q, the ARN of neither a user nor a role nor a role session", r.ARN, t)
		}
	}
	for _, f := range r.Federated {
		if err := f.check(); err != nil {
			return err
		}
	}
	return nil
}

// max returns the role's MaxSessionDuration.
func (r Role) max() time.Duration {
	if r.MaxDuration == 0 {
		return time.Hour
	}
	return r.MaxDuration
}

// trusts reports whether the trust policy names p: its own ARN, or that of the role whose session
// it is.
func (r Role) trusts(p principal) bool {
	s := sessionARN.FindStringSubmatch(p.arn)
	for _, t := range r.Trusted {
		if t == p.arn || t == p.role && p.role != "" {
			return true
		}
		m := roleARN.FindStringSubmatch(t)
		if p.role == "" && s != nil && m != nil && m[1] == s[1] && m[2] == s[2] {
			return true
		}
	}
	return false
}
