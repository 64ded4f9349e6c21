package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"sega/audit/store"
	"sega/broker"
	"sega/broker/api"
	"sega/broker/awsidentity"
	"sega/broker/awssts"
	"sega/broker/policy"
	"sega/broker/state"
	"sega/cmd/segad/config"
	"sega/idp"
)

// joinLife is how long a configured join token may be used, from when it is first seen.
const joinLife = 24 * time.Hour

// discoverTries bounds how long a broker waits for its IdP at the start.
const discoverTime = 30 * time.Second

// parts are what a broker is wired from.
type parts struct {
	config broker.Config
	log    store.Log
}

// openBroker opens everything that the file names. What is wrong is said before anything listens.
func openBroker(ctx context.Context, path string, file config.Broker, log *slog.Logger) (p parts, err error) {
	p.config = broker.Config{Origin: file.Origin, Node: file.Node, Version: version, Issuer: file.IDP.Issuer, ClientID: file.IDP.ClientID,
		Scopes: file.IDP.Scopes, ACRValues: file.IDP.ACRValues, RedirectPorts: file.IDP.RedirectPorts, RedirectPath: file.IDP.RedirectPath,
		DeviceGrant: file.IDP.DeviceGrant, TrustEmail: file.IDP.TrustEmail, Roles: roles(file), Hosts: hosts(file), HostDomains: file.HostDomains, Bastions: bastions(file), Indexers: indexers(file), Redactions: redactions(file), Times: times(file), Sessions: sessionLimits(file.SessionLimits), Now: time.Now, Logger: log}
	if p.config.TrustedProxies, err = prefixes(file.TrustedProxies); err != nil {
		return p, err
	}
	if p.config.Ladder, err = ladder(file.Ladder); err != nil {
		return p, err
	}
	if err := wireCAs(ctx, &p.config, path, file.KeysFile(path), file.CA, log); err != nil {
		return p, err
	}
	if p.config.Instances, err = instances(path, file); err != nil {
		return p, err
	}
	p.config.Policy = policy.NewEngine(func() (*policy.Set, error) { return policy.Load(os.DirFS(config.Path(path, file.Policy))) })
	if err := p.config.Policy.Err(); err != nil {
		log.Error("policy not loaded: everything is denied until it is mended", "error", err)
	}
	if p.config.Recordings, err = openRecordings(ctx, path, file.Recordings, file.RecordingsCredentials, log); err != nil {
		return p, err
	}
	if err := openIDP(ctx, &p.config, file.IDP); err != nil {
		return p, err
	}
	if p.config.WebIdentity, err = openIssuer(path, file); err != nil {
		return p, err
	}
	if p.config.Minter, err = openAWS(ctx, path, file, p.config.WebIdentity); err != nil {
		return p, err
	}
	if p.config.Consoles, err = awssts.NewConsole(awssts.ConsoleConfig{Endpoint: file.AWS.FederationEndpoint, Issuer: file.Origin}); err != nil {
		return p, err
	}
	if p.log, err = openLog(ctx, path, file, &p.config, log); err != nil {
		return p, err
	}
	if err := addJoinTokens(ctx, path, file, p.log); err != nil {
		return p, errors.Join(err, p.log.Close())
	}
	return p, nil
}

// openLog opens database and log under the log's own key (R9).
func openLog(ctx context.Context, path string, file config.Broker, c *broker.Config, log *slog.Logger) (_ store.Log, err error) {
	key, err := openLogKey(path, file)
	if err != nil {
		return nil, err
	}
	c.LogKey = key.VerifierKey()
	if c.Mark, err = readMark(file.MarkFile(path)); err != nil {
		return nil, err
	}
	if c.Revoked, err = readRevoked(file.RevokedFile(path)); err != nil {
		return nil, err
	}
	at, err := openDatabase(path, file)
	if err != nil {
		return nil, err
	}
	c.Peers = at.Postgres != ""
	c.Log, err = at.log(ctx, key, log)
	return c.Log, err
}

// machineToken is a configured join token.
type machineToken struct{ name, kind, path string }

// addJoinTokens makes the configured join tokens known. One that was seen before stays as it is:
// spent is spent.
func addJoinTokens(ctx context.Context, path string, file config.Broker, log store.Log) error {
	machines := []machineToken{}
	for _, b := range file.Bastions {
		machines = append(machines, machineToken{b.Name, api.MachineBastion, b.JoinToken})
	}
	for _, x := range file.Indexers {
		machines = append(machines, machineToken{x.Name, api.MachineIndexer, x.JoinToken})
	}
	for _, m := range machines {
		if m.path == "" {
			continue
		}
		token, err := config.Secret(config.Path(path, m.path))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed after the enrolment, as it should be
		}
		if err != nil {
			return err
		}
		hash := sha256.Sum256(token.Reveal())
		err = broker.AddJoinToken(ctx, log, hash[:], m.name, m.kind, time.Now().Add(joinLife))
		if err != nil && !errors.Is(err, state.ErrExists) {
			return err
		}
	}
	return nil
}

// openIDP discovers the identity provider; it may be starting at the same time as we.
func openIDP(ctx context.Context, c *broker.Config, file config.IDP) error {
	ctx, cancel := context.WithTimeout(ctx, discoverTime)
	defer cancel()
	client := &http.Client{Timeout: 10 * time.Second}
	for {
		provider, err := idp.Discover(ctx, file.Issuer, client)
		if err == nil {
			c.Device = provider
			c.Verifier, err = idp.NewVerifier(provider, idp.VerifierConfig{ClientID: file.ClientID, MFAValues: file.MFAValues,
				ACRValues: file.MFAACRValues, GroupsClaim: file.GroupsClaim, Now: c.Now})
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("discover the identity provider %s: %w", file.Issuer, err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func openAWS(ctx context.Context, path string, file config.Broker, issuer *broker.Issuer) (broker.Minter, error) {
	c := awssts.Config{Region: file.AWS.Region, Endpoint: file.AWS.Endpoint, Chained: file.AWS.Chained, Now: time.Now}
	if issuer != nil {
		c.Tokens, c.Keyless = issuer, keyless(file)
	}
	if file.AWS.Credentials != "" {
		provider, err := sharedCredentials(ctx, config.Path(path, file.AWS.Credentials))
		if err != nil {
			return nil, err
		}
		c.Credentials = provider
	}
	return awssts.New(ctx, c)
}

func sharedCredentials(ctx context.Context, path string) (aws.CredentialsProvider, error) {
	shared, err := awsconfig.LoadSharedConfigProfile(ctx, "default", func(o *awsconfig.LoadSharedConfigOptions) {
		o.CredentialsFiles, o.ConfigFiles = []string{path}, []string{}
	})
	if err != nil {
		return nil, fmt.Errorf("AWS credentials in %s: profile default cannot be read", path)
	}
	value := shared.Credentials
	if !value.HasKeys() {
		return nil, fmt.Errorf("AWS credentials in %s: profile default holds no keys", path)
	}
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return value, nil }), nil
}

func prefixes(lines []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, line := range lines {
		p, err := netip.ParsePrefix(line)
		if err != nil {
			return nil, fmt.Errorf("trusted_proxies: %q is not an address range like 10.0.0.0/8", line)
		}
		out = append(out, p)
	}
	return out, nil
}

func roles(file config.Broker) []broker.Role {
	var out []broker.Role
	for _, r := range file.Roles {
		out = append(out, broker.Role{Name: r.Name, ARN: r.ARN, Description: r.Description, ExternalID: r.ExternalID, MaxDuration: r.MaxDuration, Labels: r.Labels, Mode: r.Mode, Audience: r.Audience})
	}
	return out
}

func hosts(file config.Broker) []broker.Host {
	var out []broker.Host
	for _, h := range file.Hosts {
		if h.ID == "" {
			h.ID = h.Name
		}
		out = append(out, broker.Host{Name: h.Name, ID: h.ID, Address: h.Address, Logins: h.Logins, HostKeys: h.HostKeys, Labels: h.Labels})
	}
	return out
}

func instances(path string, file config.Broker) (out broker.Instances, err error) {
	if file.Instances == nil {
		return out, nil
	}
	data, err := os.ReadFile(config.Path(path, file.Instances.Certificates))
	if err != nil {
		return out, fmt.Errorf("certificates of instances: %w", err)
	}
	if out.Certificates, err = awsidentity.ParseCertificates(data); err != nil {
		return out, fmt.Errorf("certificates of instances: %w", err)
	}
	for _, r := range file.Instances.Rules {
		rule := broker.InstanceRule{Account: r.Account, Region: r.Region, IDs: r.IDs, Prefix: r.Prefix, Port: r.Port, Logins: r.Logins, Labels: r.Labels, Groups: r.Groups, MaxAge: r.MaxAge}
		if rule.Port == 0 {
			rule.Port = 22
		}
		out.Rules = append(out.Rules, rule)
	}
	return out, nil
}

func bastions(file config.Broker) []broker.Bastion {
	var out []broker.Bastion
	for _, b := range file.Bastions {
		out = append(out, broker.Bastion{Name: b.Name, Address: b.Address, Egress: b.Egress})
	}
	return out
}

func indexers(file config.Broker) (names []string) {
	for _, x := range file.Indexers {
		names = append(names, x.Name)
	}
	return names
}

func redactions(file config.Broker) []broker.Redaction {
	var out []broker.Redaction
	for _, r := range file.Redact {
		out = append(out, broker.Redaction{Name: r.Name, Pattern: r.Pattern})
	}
	return out
}

func sessionLimits(file config.SessionLimits) broker.SessionLimits {
	out := broker.DefaultSessionLimits()
	for _, v := range []struct{ set, to *int }{{file.PerPerson, &out.PerPerson}, {file.PerHost, &out.PerHost}} {
		if v.set != nil {
			*v.to = *v.set
		}
	}
	for _, l := range file.ByLabel {
		out.ByLabel = append(out.ByLabel, broker.LabelLimits{Labels: l.Labels, PerPerson: l.PerPerson, PerHost: l.PerHost})
	}
	return out
}

func ladder(file []config.LadderRule) ([]broker.LadderRule, error) {
	var out []broker.LadderRule
	for _, r := range file {
		do, pause, err := r.Step()
		if err != nil {
			return nil, err
		}
		out = append(out, broker.LadderRule{Labels: r.Labels, On: r.On, Do: do, Pause: pause})
	}
	return out, nil
}

func times(file config.Broker) broker.Times {
	t := broker.DefaultTimes()
	for _, v := range []struct {
		set time.Duration
		to  *time.Duration
	}{{file.Session, &t.Session}, {file.Login, &t.Login}, {file.Idle, &t.Idle}, {file.Lease, &t.Lease}} {
		if v.set > 0 {
			*v.to = v.set
		}
	}
	return t
}
