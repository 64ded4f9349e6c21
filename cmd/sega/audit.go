package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func newAudit(a *app) *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Find, replay and verify what was done", GroupID: groupReview, Args: cobra.ArbitraryArgs,
		Example: "  sega audit\n  sega audit 'user:alice@example.com since:7d'\n  sega audit query --user alice@example.com --since 7d\n  sega audit verify",
		Long: "Find, replay and verify what was done. Without a command, on a terminal, it opens a browser of the log: the list\n" +
			"follows the query while you type it, Enter shows an event, p replays its session with the identity of\n" +
			"SEGA_AUDIT_IDENTITY, F1 lists the keys, as does ? outside of the query line.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if opened, err := a.browseAudit(cmd.Context(), strings.Join(args, " ")); opened {
				return err
			}
			if len(args) > 0 {
				return usagef("there is no command audit %q", args[0])
			}
			return usagef("say what: sega audit query, show, play or verify")
		}}
	c.AddCommand(newAuditQuery(a), newAuditTail(a), newAuditShow(a), newAuditPlay(a), newAuditExport(a), newAuditVerify(a), newAuditProve(a))
	return c
}
