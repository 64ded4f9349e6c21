package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"sega/broker/api"
	"sega/cmd/sega/agent"
	"sega/cmd/sega/endpoint"
)

// serveTime is how long one asking for credentials may take.
const serveTime = 50 * time.Second

// serveOptions are the flags of `sega serve`.
type serveOptions struct {
	role           roleOptions
	listen, format string
	imds           string // address of EC2's metadata; "": none
}

func newServe(a *app) *cobra.Command {
	var o serveOptions
	c := &cobra.Command{Use: "serve [ROLE]", Short: "Give your roles' credentials to AWS's SDKs on this machine, until Ctrl-C", GroupID: groupAccess, Args: atMost(1),
		Example: "  (umask 077; sega serve dev-admin >env.sh) &   # then: . ./env.sh\n  sega serve                                    # all roles, each under its own path\n  sega serve dev-admin --imds                   # EC2's metadata, for tools that know nothing else",
		Long: "Give your roles' credentials to AWS's SDKs on this machine: the container credentials endpoint, for all roles on one port. What to set in the environment is\n" +
			"printed, with a token that is a secret; then sega stays and answers. SDKs renew by themselves, until the login ends or is revoked.\n" +
			"Without ROLE, AWS_CONTAINER_CREDENTIALS_FULL_URI is what SEGA_ENDPOINT says followed by the role's name.\n" +
			"--imds also gives ROLE as EC2's instance metadata (version 2) does, without a secret: to whoever is on this machine. On 169.254.169.254, where SDKs look by\n" +
			"themselves, it takes root once: ip addr add 169.254.169.254/32 dev lo, and sysctl net.ipv4.ip_unprivileged_port_start=80.",
		RunE: func(cmd *cobra.Command, args []string) error {
			role := ""
			if len(args) > 0 {
				role = args[0]
			}
			return a.serve(cmd.Context(), o, role)
		}}
	o.role.flags(c)
	envFlag(c, &o.format)
	c.Flags().StringVar(&o.listen, "listen", "127.0.0.1:0", "address and port of the endpoint; port 0 is a free one")
	c.Flags().StringVar(&o.imds, "imds", "", "give ROLE as EC2's metadata too, on this address")
	c.Flags().Lookup("imds").NoOptDefVal = "127.0.0.1:0"
	return c
}

// check refuses what cannot be served before anybody is asked for anything.
func (o serveOptions) check(role string) error {
	if o.imds != "" && role == "" {
		return usagef("EC2's metadata is of one role: name it")
	}
	for _, address := range []string{o.listen, o.imds} {
		if address == "" {
			continue
		}
		if _, err := endpoint.Check(address); err != nil {
			return usageError{err.Error()}
		}
	}
	_, err := o.role.request(role)
	return err
}

// serve runs both servers until ctx ends.
func (a *app) serve(ctx context.Context, o serveOptions, role string) error {
	write, err := envFormat(o.format)
	if err != nil {
		return err
	}
	if err := o.check(role); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	s := served{app: a, source: newRoleSource(ctx, a), options: o, role: role}
	text, err := s.open(ctx, group, write)
	if err == nil {
		_, err = io.WriteString(a.out, text)
	}
	if err != nil {
		group.Go(func() error { return err }) // ends what has been started
		return group.Wait()
	}
	if before := a.shadowing(); before != "" {
		fmt.Fprintf(a.err, "sega: %s comes before what is served: SDKs that read it use that\n", escapeLine(before))
	}
	fmt.Fprintln(a.err, "sega: end with Ctrl-C")
	return group.Wait()
}

// served is one run of `sega serve`.
type served struct {
	app     *app
	source  *roleSource
	options serveOptions
	role    string // "": all alike
}

// open starts the servers and returns what to set in the environment.
func (s *served) open(ctx context.Context, group *errgroup.Group, write func([][2]string) (string, error)) (string, error) {
	loginID, err := s.try(ctx)
	if err != nil {
		return "", err
	}
	vars, err := s.start(ctx, group, loginID)
	if err != nil {
		return "", err
	}
	return write(vars)
}

// try gets what is served once, so that what cannot work fails at once, and says what is served.
func (s *served) try(ctx context.Context) (loginID string, err error) {
	if s.role != "" {
		r, err := s.options.role.request(s.role)
		if err != nil {
			return "", err
		}
		g, err := s.source.give(ctx, r)
		if err == nil {
			fmt.Fprintf(s.app.err, "sega: giving %s until the login ends at %s\n", escapeLine(s.role), stamp(g.LoginEnds))
		}
		return g.LoginID, err
	}
	roles, err := s.app.allRoles(ctx)
	for _, r := range roles {
		if r.Allowed {
			fmt.Fprintf(s.app.err, "sega: giving %s\n", escapeLine(r.Name))
		}
	}
	return "", err
}

// start opens the endpoint, and EC2's metadata where that is wanted, and returns where they are.
func (s *served) start(ctx context.Context, group *errgroup.Group, loginID string) (vars [][2]string, err error) {
	server, err := endpoint.New(endpoint.Config{Source: s.source, Wait: serveTime})
	if err != nil {
		return nil, err
	}
	token, err := server.AddRoles(func(role string) (api.CredentialsRequest, bool) {
		r, err := s.options.role.request(role)
		return r, err == nil
	})
	if err != nil {
		return nil, err
	}
	at, err := listen(ctx, s.options.listen)
	if err != nil {
		return nil, err
	}
	group.Go(func() error { return endpoint.Serve(ctx, at, server) })
	base := "http://" + at.Addr().String()
	if s.role != "" {
		vars = endpointVariables(agent.Endpoint{URL: base + endpoint.RolePath(s.role), Token: token}, s.role, loginID)
	} else {
		vars = [][2]string{{"AWS_CONTAINER_AUTHORIZATION_TOKEN", string(token.Reveal())}, {"SEGA_ENDPOINT", base + endpoint.RolePath("")}}
	}
	if s.options.imds == "" {
		return vars, nil
	}
	metadata, err := s.startMetadata(ctx, group)
	return append(vars, metadata...), err
}

// startMetadata returns the variable that leads SDKs to it, where they do not look by themselves.
func (s *served) startMetadata(ctx context.Context, group *errgroup.Group) ([][2]string, error) {
	r, err := s.options.role.request(s.role)
	if err != nil {
		return nil, err
	}
	region := s.app.getenv("AWS_REGION")
	if region == "" {
		region = s.app.getenv("AWS_DEFAULT_REGION")
	}
	m, err := endpoint.NewMetadata(endpoint.MetadataConfig{Source: s.source, Request: r, Region: region, Now: s.app.now, Wait: serveTime})
	if err != nil {
		return nil, err
	}
	at, err := listen(ctx, s.options.imds)
	if err != nil {
		return nil, err
	}
	group.Go(func() error { return endpoint.Serve(ctx, at, m) })
	return [][2]string{{"AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://" + at.Addr().String() + "/"}, {"AWS_EC2_METADATA_DISABLED", "false"}}, nil
}

// listen opens an address, with what to do where the system does not let us.
func listen(ctx context.Context, address string) (net.Listener, error) {
	ln, err := endpoint.Listen(ctx, address)
	a, _ := netip.ParseAddrPort(address) // is one, after check
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		err = withHint(err, "as root, once: ip addr add %s dev lo", a.Addr())
	case errors.Is(err, syscall.EACCES):
		err = withHint(err, "as root, once: sysctl net.ipv4.ip_unprivileged_port_start=%d", a.Port())
	}
	return ln, withKind(kindConfig, err)
}

// roleSource gets credentials for SDKs: however many ask for a role, one asking goes out, and goes on
// when they have gone, some of them after a second.
type roleSource struct {
	ctx     context.Context // of the server
	obtain  func(context.Context, api.CredentialsRequest) (granted, error)
	talk    io.Writer
	flights singleflight.Group

	mu   sync.Mutex
	said map[string]string // by role: what failed last
	of   api.Person        // whose credentials are given: who was logged in first
}

func newRoleSource(ctx context.Context, a *app) *roleSource {
	turn := make(chan struct{}, 1) // an app is used by one at a time
	return &roleSource{ctx: ctx, talk: a.err, said: map[string]string{}, obtain: func(ctx context.Context, r api.CredentialsRequest) (granted, error) {
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return granted{}, api.Errorf(api.KindUnreachable, "there were no credentials within %s", serveTime).WithCause(ctx.Err())
		}
		defer func() { <-turn }()
		return a.obtain(ctx, r)
	}}
}

// Credentials implements endpoint.Source.
func (s *roleSource) Credentials(ctx context.Context, r api.CredentialsRequest) (api.Credentials, error) {
	answer := s.flights.DoChan(r.Role, func() (any, error) {
		ctx, cancel := context.WithTimeout(s.ctx, serveTime)
		defer cancel()
		g, err := s.give(ctx, r)
		if err != nil {
			err = problemFor(err)
		}
		s.say(r.Role, err)
		return g.Credentials, err
	})
	select {
	case v := <-answer:
		return v.Val.(api.Credentials), v.Err
	case <-ctx.Done():
		return api.Credentials{}, api.Errorf(api.KindUnreachable, "there were no credentials yet: ask again").WithCause(ctx.Err())
	}
}

// give gets credentials of the person whose they were at first: programs that run on would act as somebody else
// after another login.
func (s *roleSource) give(ctx context.Context, r api.CredentialsRequest) (granted, error) {
	g, err := s.obtain(ctx, r)
	if err != nil {
		return granted{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == (api.Person{}) {
		s.of = g.Person
	}
	if g.Person.Issuer != s.of.Issuer || g.Person.Subject != s.of.Subject {
		return granted{}, api.Errorf(api.KindUnauthenticated, "somebody else has logged in meanwhile").WithHint("start sega serve again")
	}
	return g, nil
}

// say tells the person at the terminal what an SDK's error text may hide, once.
func (s *roleSource) say(role string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if text != s.said[role] && text != "" {
		fmt.Fprintf(s.talk, "sega: %s: %s\n", escapeLine(role), escapeLine(text))
	}
	s.said[role] = text
}

// problemFor is what an SDK is told, of a kind by which it knows whether to ask again.
func problemFor(err error) *api.Problem {
	var p *api.Problem
	if errors.As(err, &p) {
		return p
	}
	kinds := map[int]api.Kind{exitDenied: api.KindDenied, exitLogin: api.KindUnauthenticated, exitRevoked: api.KindRevoked, exitUnreachable: api.KindUnreachable, exitCancelled: api.KindUnavailable}
	e := explanationOf(err, "sega serve")
	kind, known := kinds[e.Exit]
	if !known {
		kind = api.KindInternal
	}
	return api.Errorf(kind, "%s", e.Detail).WithHint("%s", e.Hint).WithCause(err)
}
