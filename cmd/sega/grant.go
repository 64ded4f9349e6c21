package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
	"sega/keychain"
	"sega/keychain/secret"
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
	return granted{creds, s.saved().Session.LoginID, s.saved().Session.NotAfter}, err
}

// itemOf names what is cached for a request: whoever asks for something else gets something else.
func itemOf(r api.CredentialsRequest) (string, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return itemAWS + r.Role + "/" + hex.EncodeToString(sum[:8]), nil
}

// sealedCredentials is the JSON of cached credentials inside the sealed store.
type sealedCredentials struct {
	api.Credentials
	Secret string `json:"secret_access_key"`
	Token  string `json:"session_token"`
}

func (s *session) credentials(ctx context.Context, r api.CredentialsRequest) (api.Credentials, error) {
	store, err := s.app.secrets()
	if err != nil {
		return api.Credentials{}, err
	}
	item, err := itemOf(r)
	if err != nil {
		return api.Credentials{}, err
	}
	cached, err := s.cached(ctx, store, item, r)
	if err != nil || cached.AccessKeyID != "" {
		return cached, err
	}
	fresh, err := s.Credentials(ctx, r)
	if err != nil {
		return fresh, err
	}
	s.app.tell(fresh.Notices)
	raw, err := json.Marshal(fresh.Wire())
	if err != nil {
		return fresh, err
	}
	if err := store.Put(item, secret.New(raw)); err != nil {
		fmt.Fprintf(s.app.err, "sega: the credentials are not cached: %s\n", escape(err.Error()))
	}
	return fresh, nil
}

// cached returns what is cached where the broker lets it be used once more; else nothing. Every
// hand-out without an agent asks the broker first (R12).
func (s *session) cached(ctx context.Context, store *keychain.Store, item string, r api.CredentialsRequest) (api.Credentials, error) {
	raw, err := store.Get(item)
	if errors.Is(err, keychain.ErrNotFound) {
		return api.Credentials{}, nil
	}
	if err != nil {
		return api.Credentials{}, err
	}
	var c sealedCredentials
	if json.Unmarshal(raw.Reveal(), &c) != nil {
		return api.Credentials{}, store.Delete(item)
	}
	// How long they still live the broker says: the laptop's clock may be hours off.
	again, err := s.Reuse(ctx, api.ReuseRequest{Role: c.Role, AccessKeyID: c.AccessKeyID, Reason: r.Reason, Ticket: r.Ticket})
	switch {
	case err == nil && time.Duration(again.SecondsLeft)*time.Second < enough:
		return api.Credentials{}, nil
	case err == nil:
		c.SecretAccessKey, c.SessionToken = secret.FromString(c.Secret), secret.FromString(c.Token)
		return c.Credentials, nil
	case api.IsKind(err, api.KindNotFound):
		return api.Credentials{}, store.Delete(item)
	case api.IsKind(err, api.KindRevoked):
		return api.Credentials{}, errors.Join(err, store.Delete(item))
	}
	return api.Credentials{}, err
}
