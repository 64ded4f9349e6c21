package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
	"sega/idp"
)

// fetchTime is how long a browser has for fetching the address that was handed to it.
const fetchTime = 2 * time.Minute

// consoleOptions are the flags of `sega console`.
type consoleOptions struct {
	roleOptions
	service, path, region string
	print, noLogout       bool
	browser, container    string
}

func newConsole(a *app) *cobra.Command {
	var o consoleOptions
	c := &cobra.Command{Use: "console [ROLE]", Short: "Open the AWS console as a role", GroupID: groupAccess, Args: atMost(1),
		Example: "  sega console dev-admin\n  sega console dev-admin --service s3 --region eu-west-1\n  sega console dev-admin --browser firefox     # in a container of the role's own",
		Long: "Open AWS's web console as a role, without a password. A browser that is signed in already is signed out first, for AWS asks for that;\n" +
			"with --browser each role has a container or profile of its own instead, side by side with the others. The sign-in address is a secret:\n" +
			"the browser is handed an address of this machine that leads there once.\n" + pickHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			way, err := o.way(a)
			if err != nil {
				return err
			}
			role, _, err := a.role(cmd, args, &o.roleOptions)
			if err != nil {
				return err
			}
			r, err := o.request(role)
			if err != nil {
				return err
			}
			a.remember(role)
			return a.openConsole(cmd.Context(), api.ConsoleRequest{CredentialsRequest: r, Service: o.service, Path: o.path, Region: o.region}, way, o)
		}}
	o.flags(c)
	c.Flags().StringVarP(&o.service, "service", "s", "", "the page of a service, like s3")
	c.Flags().StringVar(&o.path, "path", "", "a page of the console, like '/s3/buckets?region=eu-west-1'")
	c.Flags().StringVar(&o.region, "region", "", "the region whose console it is, like eu-west-1")
	c.Flags().BoolVar(&o.print, "print", false, "print the address, a secret for 15 minutes, and open nothing")
	c.Flags().StringVar(&o.browser, "browser", "", "firefox, chrome, chromium, brave, edge or vivaldi, isolated by role; default SEGA_CONSOLE_BROWSER, else the usual browser")
	c.Flags().StringVar(&o.container, "container", "", "container or profile of that browser; default: the role")
	c.Flags().BoolVar(&o.noLogout, "no-logout", false, "do not sign the browser out of AWS first")
	return c
}

// way finds the browser that the flags or the environment name; nil for the usual one.
func (o *consoleOptions) way(a *app) (*isolated, error) {
	if o.print && (o.browser != "" || o.container != "" || o.noLogout) {
		return nil, usagef("--print opens no browser")
	}
	name := o.browser
	if name == "" && !o.print {
		name = a.getenv("SEGA_CONSOLE_BROWSER")
	}
	if name == "" && o.container != "" {
		return nil, usagef("--container is of --browser, which is not given")
	}
	if name == "" {
		return nil, nil
	}
	b, ok := isolatedBrowser(name)
	if !ok {
		return nil, usagef("the browsers that can be isolated are firefox, chrome, chromium, brave, edge and vivaldi, and %q is none; set BROWSER for another one", name)
	}
	return &b, nil
}

// openConsole gets an address from the broker, and a browser there.
func (a *app) openConsole(ctx context.Context, r api.ConsoleRequest, way *isolated, o consoleOptions) error {
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	v, err := s.Console(ctx, r)
	if err != nil {
		return err
	}
	a.tell(v.Notices)
	if o.print {
		_, err := fmt.Fprintln(a.out, string(v.URL.Reveal()))
		return err
	}
	target, err := a.target(v, way != nil || o.noLogout)
	if err != nil {
		return err
	}
	open := idp.OpenBrowser
	if way != nil {
		dir, err := a.home()
		if err != nil {
			return err
		}
		name := o.container
		if name == "" {
			name = v.Role
		}
		open = func(address string) error { return way.open(address, name, dir) }
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	if err := handOver(ctx, target, open); err != nil {
		return consoleError(ctx, err)
	}
	fmt.Fprintf(a.err, "opened the AWS console as %s, until %s at the latest\n", escape(v.Role), clock(v.Expires))
	return nil
}

// target is where the browser is led: through the logout where it may be signed in already and the
// logout is known to lead on.
func (a *app) target(v api.Console, straight bool) (string, error) {
	login := string(v.URL.Reveal())
	in, err := url.Parse(login)
	if err != nil || in.Host == "" || in.User != nil {
		return "", errors.New("the broker's answer holds no address")
	}
	if straight {
		return login, nil
	}
	out, err := url.Parse(v.LogoutURL)
	// The address goes along in the logout's: to its own host, which gets it anyway, and to no other.
	if err == nil && v.LogoutLeadsOn && out.Scheme == in.Scheme && out.Host == in.Host {
		return v.LogoutURL + "&redirect_uri=" + url.QueryEscape(login), nil
	}
	fmt.Fprintf(a.err, "sega: if AWS wants you to sign out first, open %s and repeat this\n", escapeLine(v.LogoutURL))
	return login, nil
}

// consoleError says what to do where no browser came.
func consoleError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, idp.ErrNoBrowser):
		return withHint(err, "or run it with --print, and open the address by hand")
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return withHint(fmt.Errorf("the browser did not fetch the address within %s", fetchTime), "repeat it, or run it with --print and open the address by hand")
	case ctx.Err() != nil:
		return errCancelled
	}
	return err
}
