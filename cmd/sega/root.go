package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Groups of the help, in order.
const (
	groupAccess   = "access"
	groupSecurity = "security"
	groupReview   = "review"
	groupHost     = "host"
)

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args []string, a *app) int {
	root := newRootFor(a, args)
	if completes(args) {
		a.addCompleters(root, args[1:])
	}
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(a.err)
	c, err := root.ExecuteContextC(ctx)
	if ctx.Err() != nil && err != nil && exitCode(err) == exitFailed {
		err = errCancelled
	}
	if err != nil {
		tell := explain
		if a.errorsAsJSON(args, err) {
			tell = explainJSON
		}
		tell(a.err, err, c.CommandPath())
	}
	return exitCode(err)
}

// commands are all there are, in the order of the help.
var commands = []struct {
	name string
	make func(*app) *cobra.Command
}{
	{"login", newLogin}, {"logout", newLogout}, {"status", newStatus}, {"roles", newRoles}, {"exec", newExec}, {"env", newEnv}, {"credential-process", newCredentialProcess}, {"console", newConsole},
	{"serve", newServe}, {"hosts", newHosts}, {"ssh", newSSH}, {"keys", newKeys}, {"configure", newConfigure}, {"agent", newAgent}, {"doctor", newDoctor},
	{"sessions", newSessions}, {"revoke", newRevoke}, {"unblock", newUnblock},
	{"audit", newAudit},
	{"host", newHost},
}

// newRootFor is newRoot, with nothing but the command that is asked for where that is plain: to make
// all of them takes as long as a warm answer of the agent.
func newRootFor(a *app, args []string) *cobra.Command {
	for _, c := range commands {
		if len(args) > 0 && args[0] == c.name {
			return rootWith(a, c.name)
		}
	}
	return newRoot(a)
}

func newRoot(a *app) *cobra.Command { return rootWith(a, "") }

// rootWith makes one command, or all.
func rootWith(a *app, only string) *cobra.Command {
	root := &cobra.Command{
		Use: "sega", Short: "Get into production, stop who must not, see what was done", Version: version,
		Long: "sega gives engineers AWS credentials and SSH sessions after one login with MFA, lets security staff stop access\n" +
			"in a second, and lets reviewers find, replay and verify what was done.",
		Example:       "  sega login sega.corp.example\n  sega exec dev-admin -- aws s3 ls\n  sega ssh web-1",
		SilenceErrors: true, SilenceUsage: true, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q", args[0])
			}
			return cmd.Help()
		},
	}
	root.AddGroup(&cobra.Group{ID: groupAccess, Title: "Access:"}, &cobra.Group{ID: groupSecurity, Title: "Security:"}, &cobra.Group{ID: groupReview, Title: "Review:"}, &cobra.Group{ID: groupHost, Title: "On hosts:"})
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON: what is listed as one object a line, an error as one object on stderr")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err.Error()} })
	for _, c := range commands {
		if only == "" || c.name == only {
			root.AddCommand(c.make(a))
		}
	}
	root.PersistentFlags().BoolVar(&a.noAgent, "no-agent", false, "work without the agent: ask the broker from here each time")
	if only == "" {
		addCompletion(root)
		addMan(root)
	}
	return root
}

// addCompletion gives cobra's own command what all others have: an example, and an error for what
// it does not know.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		c.Example = "  sega completion bash > /etc/bash_completion.d/sega"
		c.Args, c.RunE = cobra.ArbitraryArgs, func(*cobra.Command, []string) error {
			return usagef("say for which shell: bash, fish, powershell or zsh")
		}
		for _, shell := range c.Commands() {
			shell.Args, shell.Example = atMost(0), "  sega completion "+shell.Name()
		}
	}
}

// atMost is cobra.MaximumNArgs with our usage error.
func atMost(n int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > n {
			return usagef("unexpected argument %q", args[n])
		}
		return nil
	}
}

// exactly takes as many arguments as names.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("%s is missing", names[len(args)])
		}
		return atMost(len(names))(nil, args)
	}
}

// jsonLines writes one object a line.
func jsonLines[T any](w io.Writer, values []T) error {
	for _, v := range values {
		if err := writeJSON(w, v); err != nil {
			return err
		}
	}
	return nil
}

// writeJSON writes one object on a line that a terminal shows and does not obey.
func writeJSON(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, escape(string(line))+"\n")
	return err
}

// readFrom reads one line.
func readFrom(r io.Reader) (string, error) {
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		return "", usagef("nothing was given on stdin")
	}
	return strings.TrimSpace(line), nil
}
