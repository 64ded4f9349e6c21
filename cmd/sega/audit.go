package main

import "github.com/spf13/cobra"

func newAudit(a *app) *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Find, replay and verify what was done", GroupID: groupReview, Args: cobra.ArbitraryArgs,
		Example: "  sega audit query --user alice@example.com --since 7d\n  sega audit verify",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command audit %q", args[0])
			}
			return usagef("say what: sega audit query, show, play or verify")
		}}
	c.AddCommand(newAuditQuery(a), newAuditTail(a), newAuditShow(a), newAuditPlay(a), newAuditVerify(a), newAuditProve(a))
	return c
}
