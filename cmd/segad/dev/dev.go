//go:build linux

package dev

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"sega/broker/api"
	"sega/cmd/segad/config"
	"sega/cmd/segad/dev/provider"
	"sega/cmd/segad/dev/sts"
	"sega/keychain/atomicfile"
	"sega/keychain/secret"
	"sega/sshca"
)

const (
	clientID     = "sega-dev"
	redirectPath = "/callback"
	startTime    = 60 * time.Second
)

// Options say where and with which binary.
type Options struct {
	Data string       // folder; made where it does not exist
	Self string       // path of segad
	Log  *slog.Logger // of the environment itself
	Out  io.Writer    // is told when everything answers; may be nil

	Database         string // of the broker, as in its file; "": sega.db in the folder
	DatabasePassword string // path of the password for it

	SessionLife time.Duration // of every AWS session; 0: as asked for
	KeepAlive   time.Duration // of the bastion; 0: its own default
}

// environment is one run of `segad dev up`.
type environment struct {
	Options
	data     string
	log      *slog.Logger
	saved    saved
	login    string // the account that runs it
	ports    map[string]int
	hostCA   ssh.Signer
	hopCAs   sshca.Bundle
	cas      config.CA
	provider *provider.Provider
	sts      *sts.Server
	console  *sts.Console
	group    *errgroup.Group
	running  []*process
}

// Dev is dev.json: how to use a running environment.
type Dev struct {
	Broker   string            `json:"broker"`
	Issuer   string            `json:"issuer"`
	STS      string            `json:"sts"`
	Console  string            `json:"console"` // of AWS, its federation endpoint too
	Bastion  string            `json:"bastion"` // host:port
	Database string            `json:"database"`
	Host     DevHost           `json:"host"`
	Users    []Person          `json:"users"`
	Env      map[string]string `json:"env"`
	PIDs     map[string]int    `json:"pids"` // of this start; a server that dies gets another
}

// DevHost is the SSH target.
type DevHost struct {
	Name  string `json:"name"`
	Login string `json:"login"`
}

// Up runs everything until ctx ends and leaves nothing running.
func Up(ctx context.Context, o Options) error {
	data, err := filepath.Abs(o.Data)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	e := &environment{Options: o, data: data, log: o.Log, ports: map[string]int{}}
	unlock, err := e.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Remove(e.file("dev.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	defer func() { _ = os.Remove(e.file("dev.json")) }()
	if err := adoptOrphans(); err != nil {
		return err
	}
	defer endOrphans()
	e.group, ctx = errgroup.WithContext(ctx)
	err = e.startAll(ctx)
	if err != nil {
		e.group.Go(func() error { return err }) // ends what has been started
	}
	return e.group.Wait()
}

// lock keeps a second environment out of the folder; the kernel drops it with the process.
func (e *environment) lock() (unlock func(), err error) {
	f := flock.New(e.file("lock"), flock.SetPermissions(0o600))
	held, err := f.TryLock()
	if err == nil && !held {
		err = fmt.Errorf("another `segad dev up` runs in %s", e.data)
	}
	return func() { _ = f.Unlock() }, err
}

func (e *environment) startAll(ctx context.Context) error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	e.login = me.Username
	for _, step := range []func(context.Context) error{
		func(context.Context) error { return e.loadSaved() },
		func(context.Context) error { return e.makeKeys() },
		e.startProvider, e.choosePorts, e.startSTS,
		func(context.Context) error { return e.writeConfigs() },
		e.startHost, e.startServers, e.awaitAll,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := e.announce(); err != nil {
		return err
	}
	if e.Out != nil {
		fmt.Fprintf(e.Out, "everything answers: %s\nin another shell:  eval \"$(%s dev env --data %s)\"\n", e.file("dev.json"), e.Self, e.data)
	}
	return nil
}

func (e *environment) choosePorts(context.Context) (err error) {
	for _, name := range []string{"broker", "bastion", "host"} {
		if e.ports[name], err = e.port(name); err != nil {
			return err
		}
	}
	return nil
}

func (e *environment) address(name string) string { return fmt.Sprintf("127.0.0.1:%d", e.ports[name]) }

func (e *environment) origin() string { return "https://" + e.address("broker") }

func (e *environment) listen(name string) (net.Listener, error) {
	port, err := e.port(name)
	if err != nil {
		return nil, err
	}
	e.ports[name] = port
	return net.Listen("tcp", e.address(name))
}

// startProvider starts what stands in for the IdP, in this process.
func (e *environment) startProvider(ctx context.Context) error {
	l, err := e.listen("provider")
	if err != nil {
		return err
	}
	var redirects []string
	for _, port := range e.saved.RedirectPorts {
		redirects = append(redirects, fmt.Sprintf("http://127.0.0.1:%d%s", port, redirectPath))
	}
	e.provider, err = provider.New(provider.Config{Listener: l, ClientID: clientID, RedirectURIs: redirects, Users: e.providerUsers(), StateFile: e.file("provider.json"), Log: e.log})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	e.group.Go(func() error { return e.provider.Run(ctx) })
	return nil
}

// startSTS starts what stands in for AWS, in this process. It reads the broker's keys from the broker.
func (e *environment) startSTS(ctx context.Context) error {
	ca, err := os.ReadFile(e.file("ca.pem"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	l, err := e.listen("sts")
	if err != nil {
		return err
	}
	roles, providers := e.trust()
	e.sts, err = sts.New(sts.Config{Listener: l, Region: region, Roles: roles, Providers: providers, StateFile: e.file("sts.json"), Log: e.log, Life: e.SessionLife,
		HTTP:    &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}},
		Callers: []sts.Caller{{AccessKeyID: e.saved.AWSKeyID, SecretAccessKey: secret.FromString(e.saved.AWSSecret), ARN: brokerARN}}})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	e.group.Go(func() error { return e.sts.Run(ctx) })
	if err := e.startConsole(ctx); err != nil {
		return err
	}
	return sts.WriteEndpointRules(e.file("aws"), e.sts.URL())
}

// startConsole starts what stands in for AWS's console and its federation endpoint.
func (e *environment) startConsole(ctx context.Context) error {
	l, err := e.listen("console")
	if err != nil {
		return err
	}
	if e.console, err = sts.NewConsole(e.sts, l); err != nil {
		return errors.Join(err, l.Close())
	}
	e.group.Go(func() error { return e.console.Run(ctx) })
	return nil
}

// trust is what IAM knows: the roles, whom each trusts, and the broker as OIDC provider where a role wants it.
func (e *environment) trust() (roles []sts.Role, providers []sts.Provider) {
	known := map[string]*sts.Provider{}
	for _, r := range awsRoles {
		role := sts.Role{ARN: r.ARN, MaxDuration: r.MaxDuration, AllowTag: true, AllowSourceIdentity: true}
		if r.Mode != api.ModeWebIdentity {
			if role.Trusted = trusted[r.Name]; role.Trusted == nil {
				role.Trusted = []string{brokerARN}
			}
			roles = append(roles, role)
			continue
		}
		account := strings.Split(r.ARN, ":")[4]
		if known[account] == nil {
			known[account] = &sts.Provider{Account: account, URL: e.origin()}
		}
		audience := "sega:" + r.Name
		known[account].Audiences = append(known[account].Audiences, audience)
		role.Federated = []sts.Federation{{Provider: known[account].ARN(), Audience: audience, Subject: "usr_*"}}
		roles = append(roles, role)
	}
	for _, p := range known {
		providers = append(providers, *p)
	}
	return roles, providers
}

// start runs a server as a process of its own.
func (e *environment) start(ctx context.Context, p *process) {
	e.running = append(e.running, p)
	e.group.Go(func() error { return p.run(ctx, e.log) })
}

// startServers starts broker, indexer and bastion. The broker ends after the bastion, which tells it how
// its sessions have ended.
func (e *environment) startServers(ctx context.Context) error {
	longer, stopBroker := context.WithCancel(context.WithoutCancel(ctx))
	e.start(longer, &process{name: "broker", argv: []string{e.Self, "broker", "--config", e.file("broker.yaml")}, log: e.file("log", "broker.log")})
	e.start(ctx, &process{name: "indexer", argv: []string{e.Self, "indexer", "--config", e.file("indexer.yaml")}, log: e.file("log", "indexer.log")})
	bastion := &process{name: "bastion", argv: []string{e.Self, "bastion", "--config", e.file("bastion.yaml")}, log: e.file("log", "bastion.log")}
	e.running = append(e.running, bastion)
	e.group.Go(func() error {
		defer stopBroker()
		return bastion.run(ctx, e.log)
	})
	return nil
}

// awaitAll waits until broker, bastion, indexer and host answer. The bastion answers when it has a
// certificate and the feed, the indexer when it takes searches.
func (e *environment) awaitAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	ca, err := os.ReadFile(e.file("ca.pem"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	web := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	defer web.CloseIdleConnections()
	get := func(path string) (string, error) {
		resp, err := web.Get(e.origin() + path)
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
		}
		return string(body), err
	}
	if err := await(ctx, "the broker ("+e.file("log", "broker.log")+")", func(context.Context) error { _, err := get("/readyz"); return err }); err != nil {
		return err
	}
	err = await(ctx, "the bastion ("+e.file("log", "bastion.log")+")", func(context.Context) error {
		body, err := get("/metrics")
		if err == nil && !strings.Contains(body, "\nsega_feeds 1") {
			err = errors.New("it does not follow the feed")
		}
		if err != nil {
			return err
		}
		return banner(e.address("bastion"))
	})
	if err != nil {
		return err
	}
	err = await(ctx, "the indexer ("+e.file("log", "indexer.log")+")", func(context.Context) error {
		body, err := get("/metrics")
		if err == nil && !strings.Contains(body, "\nsega_indexers 1") {
			err = errors.New("it does not take searches")
		}
		return err
	})
	if err != nil {
		return err
	}
	return await(ctx, "the host ("+e.file("log", "host.log")+")", func(context.Context) error { return banner(e.address("host")) })
}

// banner reads an SSH server's first bytes.
func banner(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != "SSH-" {
		return errors.New("it does not speak SSH")
	}
	return nil
}

// announce writes dev.json when everything answers.
func (e *environment) announce() error {
	d := Dev{Broker: e.origin(), Issuer: e.provider.Issuer(), STS: e.sts.URL(), Console: e.console.URL(), Bastion: e.address("bastion"), Database: e.database(),
		Host: DevHost{Name: hostName, Login: e.login}, Users: e.saved.Users, PIDs: map[string]int{}, Env: map[string]string{
			"SEGA_BROKER": e.origin(), "SEGA_CA_FILE": e.file("ca.pem"), "SEGA_DEV": e.data,
			"AWS_REGION": region, "AWS_DEFAULT_REGION": region, "AWS_EC2_METADATA_DISABLED": "true",
			"AWS_ENDPOINT_URL_STS": e.sts.URL(), "AWS_DATA_PATH": e.file("aws"),
		}}
	for _, p := range e.running {
		d.PIDs[p.name] = p.running()
	}
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Replace(e.file("dev.json"), append(data, '\n'), 0o600)
}

// Read reads the dev.json of a running environment.
func Read(data string) (Dev, error) {
	var d Dev
	raw, err := os.ReadFile(filepath.Join(data, "dev.json"))
	if err != nil {
		return d, fmt.Errorf("no dev environment runs in %s: %w\nrun: segad dev up --data %s", data, err, data)
	}
	return d, json.Unmarshal(raw, &d)
}
