// Command segad is sega's servers: broker, bastion, and what keeps them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"sega/keychain/secret"
)

// version is set by the linker.
var version = "dev"

func main() {
	if err := secret.NoCore(); err != nil {
		fmt.Fprintf(os.Stderr, "segad: core files cannot be turned off: %v\n", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// codeError carries the exit code of a child that took sega's place.
type codeError int

func (e codeError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code codeError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "segad: %v\nrun: segad --help\n", err)
		return 2
	}
	fmt.Fprintf(os.Stderr, "segad: %v\n", err)
	return 1
}

// errUsage marks what is wrong with the command line itself.
var errUsage = errors.New("usage")

func newRoot() *cobra.Command {
	root := group(&cobra.Command{
		Use: "segad", Short: "sega's servers", Version: version,
		Long:          "segad runs the broker (decides and hands out), the bastion (proxies and records SSH), the indexer (finds what screens showed), and their keys.",
		SilenceErrors: true, SilenceUsage: true, Example: "  segad dev up\n  segad broker --config /etc/sega/broker.yaml",
	}, newBroker(), newBastion(), newIndexer(), newCA(), newAccount(), newIssuer(), newPolicy(), newAudit(), newDev())
	addCompletion(root)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	return root
}

// addCompletion gives cobra's own command what all others have: an example, and an error for what it does not know.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		c.Example = "  segad completion bash > /etc/bash_completion.d/segad"
		c.Args, c.RunE = cobra.ArbitraryArgs, func(*cobra.Command, []string) error {
			return fmt.Errorf("%w: say for which shell: bash, fish, powershell or zsh", errUsage)
		}
		for _, shell := range c.Commands() {
			shell.Args, shell.Example = exactly(0), "  segad completion "+shell.Name()
		}
	}
}

// exactly is cobra.ExactArgs with our usage error.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		if err := errors.Join(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		return nil
	}
}

// group makes a command that only holds others.
func group(c *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	c.Args, c.RunE = cobra.ArbitraryArgs, func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("%w: no command %q", errUsage, args[0])
		}
		return cmd.Help()
	}
	c.AddCommand(commands...)
	return c
}
