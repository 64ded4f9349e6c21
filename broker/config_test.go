package broker

import (
	"strings"
	"testing"
)

// TestConfigRefuses: New starts no broker that would be unsafe or incomplete.
func TestConfigRefuses(t *testing.T) {
	w := newWorld(t)
	host := func(name, id string) func(*Config) {
		return func(c *Config) { c.Hosts = append(c.Hosts, Host{Name: name, ID: id}) }
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"plain HTTP":                         {func(c *Config) { c.Origin = "http://sega.test" }, "origin"},
		"no origin":                          {func(c *Config) { c.Origin = "" }, "origin"},
		"an origin with a path":              {func(c *Config) { c.Origin = "https://sega.test/x" }, "origin"},
		"no host in the origin":              {func(c *Config) { c.Origin = "https://" }, "origin"},
		"no node":                            {func(c *Config) { c.Node = "" }, "no node"},
		"no issuer":                          {func(c *Config) { c.Issuer = "" }, "no issuer"},
		"no client":                          {func(c *Config) { c.ClientID = "" }, "no client ID"},
		"no log":                             {func(c *Config) { c.Log = nil }, "no log"},
		"no policy":                          {func(c *Config) { c.Policy = nil }, "no policy"},
		"no verifier":                        {func(c *Config) { c.Verifier = nil }, "no verifier"},
		"no minter":                          {func(c *Config) { c.Minter = nil }, "no minter"},
		"no recordings":                      {func(c *Config) { c.Recordings = nil }, "no recordings"},
		"no clock":                           {func(c *Config) { c.Now = nil }, "no clock"},
		"no logger":                          {func(c *Config) { c.Logger = nil }, "no logger"},
		"no access CA":                       {func(c *Config) { c.CAs.Access = nil }, "no access CA"},
		"no hop CA":                          {func(c *Config) { c.CAs.Hop = nil }, "no hop CA"},
		"no front CA":                        {func(c *Config) { c.CAs.Front = nil }, "no front CA"},
		"no host CA":                         {func(c *Config) { c.CAs.Host = nil }, "no host CA"},
		"the device grant without provider":  {func(c *Config) { c.DeviceGrant = true }, "device grant"},
		"a bastion without egress":           {func(c *Config) { c.Bastions[0].Egress = nil }, "egress"},
		"a host named like a bastion":        {host("bastion-1", "host-9"), "name of a bastion"},
		"a host whose ID is a bastion's":     {host("web-9", "bastion-1"), "name of a bastion"},
		"two hosts of one name":              {host("web-1", "host-9"), "another host"},
		"two hosts of one ID":                {host("web-9", "host-1"), "another host"},
		"a host's name is another's ID":      {host("host-1", "host-9"), "another host"},
		"a host whose ID is another's name":  {host("web-9", "web-1"), "another host"},
		"two roles of one name":              {func(c *Config) { c.Roles = append(c.Roles, c.Roles[0]) }, "twice"},
		"a log key that is none":             {func(c *Config) { c.LogKey = "x" }, ""},
		"a bastion of the name of a bastion": {func(c *Config) { c.Bastions = append(c.Bastions, c.Bastions[0]) }, "bastion"},
	} {
		t.Run(name, func(t *testing.T) {
			config := w.config
			config.Bastions = append([]Bastion(nil), w.config.Bastions...)
			config.Hosts = append([]Host(nil), w.config.Hosts...)
			c.change(&config)
			s, err := New(t.Context(), config)
			if err == nil || s != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestConfigTakes(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Origin, c.Hosts[0].ID = origin+"/", "web-1"
	})
	if w.s.Origin != origin || w.s.Times != DefaultTimes() || w.s.limits.limits != DefaultLimits() {
		t.Errorf("origin %q, times %+v, limits %+v", w.s.Origin, w.s.Times, w.s.limits.limits)
	}
}

func TestAccount(t *testing.T) {
	for arn, want := range map[string]string{"arn:aws:iam::111122223333:role/x": "111122223333", "arn:aws-cn:iam::1:role/a:b": "1", "": "", "x": "", "a:b:c:d": ""} {
		if got := (Role{ARN: arn}).Account(); got != want {
			t.Errorf("%q: %q, want %q", arn, got, want)
		}
	}
}
