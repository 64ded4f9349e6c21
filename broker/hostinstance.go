package broker

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/awsidentity"
	"sega/broker/state"
)

// instanceAge is how long after its start an instance may enrol by its identity document, where a rule says nothing.
const instanceAge = time.Hour

// Instances let hosts of AWS in by their identity documents.
type Instances struct {
	Certificates []*x509.Certificate // of AWS, RSA-2048
	Rules        []InstanceRule
}

// InstanceRule says which instances may enrol, and as what. Their name is Prefix and the instance's ID.
type InstanceRule struct {
	Account, Region string
	IDs             []string // instances; none: any of account and region
	Prefix          string
	Port            int
	Logins          []string
	Labels          map[string]string
	Groups          []string
	MaxAge          time.Duration // since the instance's start
}

func (c *Config) validateInstances() error {
	if len(c.Instances.Rules) > 0 && len(c.Instances.Certificates) == 0 {
		return errors.New("broker: instances may enrol, and no certificate of AWS is configured")
	}
	for i, r := range c.Instances.Rules {
		if r.Account == "" || r.Region == "" || r.Port < 1 || r.Port > 65535 || r.MaxAge < 0 {
			return fmt.Errorf("broker: rule %d for instances needs an account, a region and a port", i+1)
		}
		if strings.Contains(r.Prefix, ".") {
			return fmt.Errorf("broker: rule %d for instances: a name_prefix has no dot, for the names end with the instance's ID and lie under no domain", i+1)
		}
	}
	return nil
}

// admits reports whether a rule lets an instance in now.
func (r InstanceRule) admits(d awsidentity.Document, now time.Time) bool {
	age := r.MaxAge
	if age == 0 {
		age = instanceAge
	}
	since := now.Sub(d.Pending)
	return r.Account == d.Account && r.Region == d.Region && (len(r.IDs) == 0 || slices.Contains(r.IDs, d.Instance)) && since >= -5*time.Minute && since <= age
}

// byDocument uses an instance's identity document up: AWS's signature, a rule that lets it in, its name, and that it
// comes for the first time. All processes of an instance can read the document: who comes first is the host, and
// whoever comes second is an event.
func (s *Server) byDocument(r api.HostEnrollRequest) (admission, *api.Problem) {
	d, err := awsidentity.Verify(r.Document, s.Instances.Certificates)
	if err != nil {
		return nil, api.Errorf(api.KindDenied, "the instance identity document is refused").WithCause(err)
	}
	i := slices.IndexFunc(s.Instances.Rules, func(rule InstanceRule) bool { return rule.admits(d, s.Now()) && r.Name == rule.Prefix+d.Instance })
	if i < 0 {
		return nil, api.Errorf(api.KindDenied, "no rule lets instance %s of account %s in %s enrol under this name, or not so long after its start", d.Instance, d.Account, d.Region).
			WithHint("the operators add a rule under instances in the broker's configuration, or somebody runs: sega hosts token NAME")
	}
	rule := s.Instances.Rules[i]
	terms := state.HostTerms{Address: net.JoinHostPort(d.Address.String(), strconv.Itoa(rule.Port)), Logins: rule.Logins, Labels: rule.Labels, Groups: rule.Groups}
	return func(ctx context.Context, tx store.Tx) (state.HostTerms, error) {
		err := state.UseInstance(ctx, tx, "aws/"+d.Account+"/"+d.Region+"/"+d.Instance, s.Now())
		if errors.Is(err, state.ErrExists) {
			err = api.Errorf(api.KindDenied, "instance %s has enrolled before", d.Instance).
				WithHint("where it was not that host: sega revoke host %s; to enrol it anew: sega hosts token %s", r.Name, r.Name)
		}
		return terms, err
	}, nil
}
