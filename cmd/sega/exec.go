package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
	"sega/cmd/sega/agent"
	"sega/cmd/sega/awsconfig"
)

// execOptions are the flags of `sega exec`.
type execOptions struct {
	role  roleOptions
	fixed bool   // variables instead of the endpoint
	need  string // how long the command takes
}

func newExec(a *app) *cobra.Command {
	var o execOptions
	c := &cobra.Command{Use: "exec [ROLE] [-- COMMAND [ARG...]]", Short: "Run a command with a role's credentials, or a shell", GroupID: groupAccess,
		Example: "  sega exec dev-admin -- aws s3 ls\n  sega exec dev-admin --need 2h -- terraform apply\n  sega exec dev-admin          # a sub-shell",
		Long: "Run a command with the role's temporary credentials. It takes sega's place: streams, signals, terminal and exit code are its own.\n" +
			"Where it cannot be started the exit code is 127 (there is none) or 126 (it is no program), as shells have it.\n" + pickHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			if len(args) > 1 && dash != 1 && dash != 0 {
				return usagef("put -- between the role and the command: sega exec %s -- %s", args[0], strings.Join(args[1:], " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			role, argv, err := a.role(cmd, args, &o.role)
			if err != nil {
				return err
			}
			return a.exec(cmd.Context(), o, role, argv)
		}}
	c.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if len(cmd.Flags().Args()) > 1 { // what was read so far: a role and the begin of a command
			return usagef("%s; put -- between the role and the command", err)
		}
		return usageError{err.Error()}
	})
	o.role.flags(c)
	c.Flags().BoolVar(&o.fixed, "env", false, "give the credentials as variables, which end, instead of an endpoint that renews them")
	c.Flags().StringVar(&o.need, "need", "", "refuse before the start what would end sooner than this, like 2h")
	return c
}

// exec becomes the command. It is looked for first: nothing is asked of the broker for a misspelt one.
func (a *app) exec(ctx context.Context, o execOptions, role string, argv []string) error {
	r, err := o.role.request(role)
	if err != nil {
		return err
	}
	need, err := parseNeed(o.need)
	if err != nil {
		return err
	}
	if len(argv) == 0 {
		argv = []string{shell(a.getenv)}
	}
	path, err := lookPath(argv[0], a.env())
	if err != nil {
		return err
	}
	g, at, err := a.obtainForChild(ctx, r, o.fixed, need)
	if err != nil {
		return err
	}
	d := a.delivery(g, at, o.fixed)
	if need > 0 {
		now, err := a.brokersTime(ctx)
		if err != nil {
			return err
		}
		if err := d.lasts(now, need); err != nil {
			return err
		}
	}
	a.remember(role)
	return takeOver(ctx, path, argv, childEnv(a.env(), d.variables()))
}

// shell is the one of a sub-shell.
func shell(getenv func(string) string) string {
	variable, fallback := "SHELL", "/bin/sh"
	if runtime.GOOS == "windows" {
		variable, fallback = "COMSPEC", "cmd.exe"
	}
	if s := getenv(variable); s != "" {
		return s
	}
	return fallback
}

// parseNeed reads how long a command takes; 0 where nothing is said.
func parseNeed(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if n, atoiErr := strconv.Atoi(s); atoiErr == nil && n <= 7*24*3600 {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d <= 0 {
		return 0, usagef("--need is how long the command takes, like 2h or 5400 (seconds)")
	}
	return d, nil
}

// obtainForChild returns credentials, and where a child gets further ones for as long as it runs; nil
// where there is no such place: without an agent, or where variables are wanted.
func (a *app) obtainForChild(ctx context.Context, r api.CredentialsRequest, fixed bool, need time.Duration) (granted, *agent.Endpoint, error) {
	if !fixed {
		g, at, err := a.endpointFromAgent(ctx, r)
		if !errors.Is(err, errNoAgent) {
			return g, at, err
		}
	}
	g, err := a.obtainFor(ctx, r, need)
	return g, nil, err
}

// startMargin is what may pass between the asking and the start.
const startMargin = 5 * time.Minute

// obtainFor asks for credentials that last as long as is needed, where nobody has said how long they are
// to last.
func (a *app) obtainFor(ctx context.Context, r api.CredentialsRequest, need time.Duration) (granted, error) {
	if need == 0 || r.Seconds != 0 {
		return a.obtain(ctx, r)
	}
	r.Seconds = sessionSeconds(need + startMargin)
	g, err := a.obtain(ctx, r)
	if err != nil || len(g.Notices) > 0 || g.Expiration.Sub(a.now()) >= need {
		return g, err
	}
	// They were cached, and have lived for a while. Of another length there are none yet.
	r.Seconds = sessionSeconds(need + 2*startMargin - time.Duration(a.now().Unix()%int64(startMargin.Seconds()))*time.Second)
	return a.obtain(ctx, r)
}

// sessionSeconds is a length that AWS knows.
func sessionSeconds(d time.Duration) int { return min(max(int(d.Seconds()), 900), 12*3600) }

// delivery is how a child gets its credentials: from an endpoint, or as variables that end.
type delivery struct {
	granted
	endpoint *agent.Endpoint // nil: variables
	asked    bool            // for variables
}

// delivery decides. An endpoint that other credentials come before would be asked by nobody: the child
// would act as somebody else.
func (a *app) delivery(g granted, at *agent.Endpoint, fixed bool) delivery {
	d := delivery{granted: g, endpoint: at, asked: fixed}
	if fixed || at == nil {
		d.endpoint = nil
		return d
	}
	if before := a.shadowing(); before != "" {
		fmt.Fprintf(a.err, "sega: %s comes before what would renew the credentials: they end at %s\n", escapeLine(before), stamp(g.Expiration))
		d.endpoint = nil
	}
	return d
}

// shadowing names what SDKs ask before an endpoint; "" where there is nothing. A file that cannot be read is
// one that they stumble over as well.
func (a *app) shadowing() string {
	found, err := awsconfig.Shadows(a.getenv)
	if err != nil {
		return err.Error()
	}
	for _, s := range found {
		if s.Over == awsconfig.OverEndpoint {
			return fmt.Sprintf("%s in section [%s] of %s", s.Key, s.Section, s.File)
		}
	}
	return ""
}

// ends is when the child has no credentials any more, unless somebody revokes them sooner.
func (d delivery) ends() time.Time {
	if d.endpoint != nil {
		return d.LoginEnds
	}
	return d.Expiration
}

// brokersTime is what the broker's clock says, to the second: this machine's may be hours off.
func (a *app) brokersTime(ctx context.Context) (time.Time, error) {
	r, err := a.status(ctx)
	return r.Login.Add(-time.Duration(r.Left) * time.Second), err
}

// lasts refuses what would end before the need is over.
func (d delivery) lasts(now time.Time, need time.Duration) error {
	left := d.ends().Sub(now)
	if need <= left {
		return nil
	}
	rest, needed := span(int(max(left, 0)/time.Second)), span(int(need/time.Second))
	if d.endpoint != nil {
		return api.Errorf(api.KindStepUp, "your login ends at %s, in %s, and %s are needed", stamp(d.ends()), rest, needed).WithHint("run: sega login, if a whole login lasts that long")
	}
	p := api.Errorf(api.KindDenied, "the credentials of %s end at %s, in %s, and %s are needed", d.Role, stamp(d.ends()), rest, needed)
	if d.asked {
		return p.WithHint("without --env they are renewed until your login ends, at %s", stamp(d.LoginEnds))
	}
	return p.WithHint("ask for longer ones with --duration, as far as the role's maximum goes: sega roles")
}
