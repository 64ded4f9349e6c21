package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sega/broker/policy"
)

func newPolicy() *cobra.Command {
	return group(&cobra.Command{Use: "policy", Short: "Check policies before a broker loads them", Example: "  segad policy check ./policy"}, &cobra.Command{Use: "check DIR", Short: "Load the policies of a folder as the broker would", Args: exactly(1), Example: "  segad policy check ./policy",
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := policy.Load(os.DirFS(args[0]))
			if err != nil {
				return fmt.Errorf("policy in %s:\n%w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "ok\t%s\n", set.Digest())
			return nil
		}})
}
