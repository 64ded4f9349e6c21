package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
)

// enough is how long cached credentials must still live to be handed out: botocore refreshes by
// force at 10 minutes.
const enough = 10 * time.Minute

// roleOptions are the flags of everything that needs a role's credentials.
type roleOptions struct {
	reason, ticket, duration string
	chain                    []string
	policyFile               string
	readOnly                 bool
}

func (o *roleOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.reason, "reason", "", "why, where policy asks for it")
	c.Flags().StringVar(&o.ticket, "ticket", "", "ticket, where policy asks for it")
	c.Flags().StringVarP(&o.duration, "duration", "d", "", "how long, like 45m or 3600 (seconds)")
	c.Flags().StringArrayVar(&o.chain, "chain", nil, "a role to be assumed from ROLE; again for a further one")
	c.Flags().StringVar(&o.policyFile, "policy", "", "file with an IAM policy (JSON) that narrows the credentials")
	c.Flags().BoolVar(&o.readOnly, "read-only", false, "narrow the credentials to AWS's policy ReadOnlyAccess")
}

// request is what the flags ask for of a role.
func (o *roleOptions) request(role string) (api.CredentialsRequest, error) {
	seconds, err := parseSeconds(o.duration)
	if err != nil {
		return api.CredentialsRequest{}, err
	}
	r := api.CredentialsRequest{Role: role, Reason: o.reason, Ticket: o.ticket, Seconds: seconds, Chain: o.chain, ReadOnly: o.readOnly}
	if o.policyFile == "" {
		return r, nil
	}
	data, err := os.ReadFile(o.policyFile)
	if err != nil {
		return r, usageError{err.Error()}
	}
	if !json.Valid(data) {
		return r, usagef("%s is not JSON", o.policyFile)
	}
	r.Policy = string(data)
	return r, nil
}

// parseSeconds reads how long a session is to be; 0 where nothing is said.
func parseSeconds(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if n, atoiErr := strconv.Atoi(s); atoiErr == nil && n <= 12*3600 {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 15*time.Minute || d > 12*time.Hour {
		return 0, usagef("a duration is between 15m and 12h, like 45m or 3600")
	}
	return int(d.Seconds()), nil
}

// granted are a role's credentials, and the login that they came by.
type granted struct {
	api.Credentials
	LoginID   string
	LoginEnds time.Time
	Person    api.Person
}

// obtain returns credentials: ones that were handed out before and that the broker still stands by,
// or new ones. It is the one way by which commands get any.
func (a *app) obtain(ctx context.Context, r api.CredentialsRequest) (granted, error) {
	g, err := a.fromAgent(ctx, r)
	if !errors.Is(err, errNoAgent) {
		return g, err
	}
	s, err := a.open(ctx)
	if err != nil {
		return granted{}, err
	}
	creds, err := s.credentials(ctx, r)
	login := s.saved().Session
	return granted{creds, login.LoginID, login.NotAfter, login.Person}, err
}
