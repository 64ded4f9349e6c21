package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
)

// hostTokenOptions say what a host will be.
type hostTokenOptions struct {
	address, reason, ticket string
	logins, labels, groups  []string
	plainKeys               bool
	expires                 time.Duration
}

func newHostsToken(a *app) *cobra.Command {
	var o hostTokenOptions
	c := &cobra.Command{Use: "token NAME", Short: "Make a single-use token with which a host enrols itself", Args: exactly("NAME"),
		Long: "Make a single-use token with which a host enrols itself: name, address, logins and labels are what you say here,\n" +
			"and nothing of it the host's own word. The token goes to standard output, and once it is used it is good for nothing.",
		Example: "  sega hosts token db-1 --login deploy --label env=dev > db-1.token",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := o.request(args[0])
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			v, err := s.HostToken(cmd.Context(), r)
			if err != nil {
				return err
			}
			if a.json {
				return writeJSON(a.out, v.Wire())
			}
			plain := ""
			if o.plainKeys {
				plain = " --plain-keys"
			}
			fmt.Fprintf(a.err, "good for one enrolment as %s until %s; on the host: sega host enroll --name %s --broker %s --token-file FILE%s\n",
				escapeLine(v.Name), stamp(v.Expires), escapeLine(v.Name), s.Origin(), plain)
			_, err = fmt.Fprintf(a.out, "%s\n", v.Token.Reveal())
			return err
		}}
	f := c.Flags()
	f.StringVar(&o.address, "address", "", "host:port that bastions dial (default: the name, port 22)")
	f.StringArrayVar(&o.logins, "login", nil, "an account for people there; may be repeated")
	f.StringArrayVar(&o.labels, "label", nil, "KEY=VALUE, by which policy decides; may be repeated")
	f.StringArrayVar(&o.groups, "group", nil, "people of this group may have accounts of their own there; may be repeated")
	f.BoolVar(&o.plainKeys, "plain-keys", false, "its sshd knows no certificates: it asks for the key of each session")
	f.DurationVar(&o.expires, "expires", time.Hour, "how long the token may be used, a week at most")
	f.StringVar(&o.reason, "reason", "", "why; the log keeps it")
	f.StringVar(&o.ticket, "ticket", "", "ticket that asks for it")
	return c
}

func (o hostTokenOptions) request(name string) (api.HostTokenRequest, error) {
	r := api.HostTokenRequest{Name: name, Address: o.address, Logins: o.logins, Labels: map[string]string{}, PlainKeys: o.plainKeys, Groups: o.groups,
		Seconds: int(o.expires / time.Second), Reason: o.reason, Ticket: o.ticket}
	if o.address == "" {
		r.Address = name + ":22"
	}
	if o.expires < time.Second {
		return r, usagef("--expires is how long the token may be used, like 30m")
	}
	if len(o.logins)+len(o.groups) == 0 {
		return r, usagef("nobody would get into a host without accounts for people: --login NAME, or --group for accounts of their own")
	}
	for _, l := range o.labels {
		k, v, found := strings.Cut(l, "=")
		if _, twice := r.Labels[k]; !found || k == "" || twice {
			return r, usagef("--label %s: a label is KEY=VALUE, and each key stands once", l)
		}
		r.Labels[k] = v
	}
	return r, nil
}
