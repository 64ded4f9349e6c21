package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

// inventoryTime bounds a look at the enrolled hosts that no request's own context bounds.
const inventoryTime = 5 * time.Second

// enrolledHost is an entry of the inventory as all else sees it.
func enrolledHost(h state.EnrolledHost) Host {
	out := Host{Name: h.Name, ID: h.Name, Address: h.Terms.Address, Logins: h.Terms.Logins, Labels: h.Terms.Labels, PlainKeys: h.Terms.PlainKeys, machine: h.Machine, groups: h.Terms.Groups}
	if h.Terms.PlainKeys {
		out.HostKeys = h.HostKeys
	}
	return out
}

// static returns the host of a name in the configuration.
func (s *Server) static(name string) (Host, bool) {
	for _, h := range s.Hosts {
		if h.Name == name {
			return h, true
		}
	}
	return Host{}, false
}

// taken says whose name a host must not enrol under, "" where it is free (R7): that of a bastion, another
// machine, or a host of the configuration, by which it would be found no more; and what means something else to
// people, whose ssh_config leads every name of the inventory to sega's bastions.
func (s *Server) taken(name string) string {
	if whose := reserved(name); whose != "" {
		return whose
	}
	if !s.declared(name) {
		return "somebody else, for all that host_domains of the broker's configuration says"
	}
	if _, ok := s.bastion(name); ok {
		return "a bastion"
	}
	for _, x := range s.Indexers {
		if x == name {
			return "an indexer"
		}
	}
	for _, h := range s.Hosts {
		if h.Name == name || h.ID == name {
			return "a host of the broker's configuration"
		}
	}
	return ""
}

// reserved says what a name stands for on every laptop, "" where for nothing: no host has it.
func reserved(name string) string {
	switch name {
	case "sega-bastion": // so sega configure --ssh calls them
		return "the bastions in people's ssh_config"
	case "localhost":
		return "every machine itself"
	}
	return ""
}

// declared reports whether a name may be one of the organisation's: it has no dot, so that it is nobody's on the
// internet, or it lies under a domain of the configuration. Else whoever may enrol a host could have everybody's
// ssh to github.com.
func (c *Config) declared(name string) bool {
	return !strings.Contains(name, ".") || slices.ContainsFunc(c.HostDomains, func(domain string) bool { return strings.HasSuffix(name, "."+domain) })
}

// hostIn finds a host of the configuration, else one that has enrolled and whose name nobody else has.
func (s *Server) hostIn(ctx context.Context, q state.Querier, name string) (Host, bool, error) {
	if h, ok := s.static(name); ok {
		return h, true, nil
	}
	if s.taken(name) != "" {
		return Host{}, false, nil
	}
	h, err := state.HostByName(ctx, q, name)
	if errors.Is(err, state.ErrNotFound) {
		return Host{}, false, nil
	}
	return enrolledHost(h), err == nil, err
}

// host finds a host of the inventory. One that cannot be looked up is not there.
func (s *Server) host(name string) (h Host, ok bool) {
	if h, ok := s.static(name); ok {
		return h, true
	}
	err := s.readInventory(func(ctx context.Context, q store.Querier) (err error) {
		h, ok, err = s.hostIn(ctx, q, name)
		return err
	})
	return h, ok && err == nil
}

// inventory returns all hosts: those of the configuration, then those that have enrolled, by name.
func (s *Server) inventory() ([]Host, error) {
	out := append([]Host{}, s.Hosts...)
	err := s.readInventory(func(ctx context.Context, q store.Querier) error {
		all, err := state.EnrolledHosts(ctx, q)
		for _, h := range all {
			if s.taken(h.Name) == "" {
				out = append(out, enrolledHost(h))
			}
		}
		return err
	})
	return out, err
}

// allHosts is the inventory as far as it can be read.
func (s *Server) allHosts() []Host {
	all, _ := s.inventory()
	return all
}

func (s *Server) readInventory(read func(context.Context, store.Querier) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), inventoryTime)
	defer cancel()
	err := s.Log.Read(ctx, read)
	if err != nil {
		s.Logger.Error("the enrolled hosts cannot be read", "error", err)
	}
	return err
}

// unmoved re-reads, in the transaction that would release something for a host, that it is the one that was
// decided on: it may have been enrolled anew meanwhile, for other labels.
func (s *Server) unmoved(ctx context.Context, q state.Querier, h Host) error {
	if h.machine == "" {
		return nil
	}
	now, ok, err := s.hostIn(ctx, q, h.Name)
	if err == nil && (!ok || now.machine != h.machine) {
		err = api.Errorf(api.KindConflict, "host %q has enrolled anew meanwhile", h.Name).WithHint("repeat the command")
	}
	return err
}
