package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
)

func newAccount() *cobra.Command {
	return group(&cobra.Command{Use: "account", Short: "Give back account names that people have on hosts", Example: "  segad account release alice --config /etc/sega/broker.yaml"}, newAccountRelease())
}

// releaseOptions are the flags of account release.
type releaseOptions struct {
	config string
	yes    bool
	api.AccountRelease
}

func newAccountRelease() *cobra.Command {
	var o releaseOptions
	c := &cobra.Command{Use: "release NAME", Short: "Make an account name nobody's, so that the next person of that name gets it", Args: exactly(1),
		Long: `Make an account name nobody's: the next person whose e-mail makes it gets it on all hosts that make accounts. It is refused while whose it was is logged in or
has been during the last day, has a registered key, a certificate or an SSH session. Hosts that have made the account keep it for whom they made it, with
his files: there root moves them away and takes the name out of accounts.json.`,
		Example: "  segad account release alice --config /etc/sega/broker.yaml --reason 'moved to another identity provider'",
		RunE:    func(cmd *cobra.Command, args []string) error { return runRelease(cmd, args[0], o) }}
	c.Flags().StringVar(&o.config, "config", "", "configuration file of the running broker (YAML)")
	c.Flags().StringVar(&o.Reason, "reason", "", "why, for the log")
	c.Flags().StringVar(&o.Ticket, "ticket", "", "ticket, for the log")
	c.Flags().BoolVar(&o.yes, "yes", false, "do it without asking")
	_ = c.MarkFlagRequired("config")
	return c
}

// runRelease shows whose the name is, asks, and has the running broker release it.
func runRelease(cmd *cobra.Command, name string, o releaseOptions) error {
	socket, err := operatorsSocket(o.config)
	if err != nil {
		return err
	}
	at := func(route string) string { return strings.Replace(route, "{name}", url.PathEscape(name), 1) }
	whose, err := askBroker[api.AccountName](cmd.Context(), socket, http.MethodGet, at(api.RouteAccount), nil)
	if err != nil {
		return err
	}
	showAccount(cmd.ErrOrStderr(), whose)
	if err := confirmStep(cmd.Context(), fmt.Sprintf("release the account name %s?", whose.Name), o.yes); err != nil {
		return err
	}
	if _, err := askBroker[api.AccountName](cmd.Context(), socket, http.MethodPost, at(api.RouteAccountRelease), o.AccountRelease); err != nil {
		return err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "done; hosts that have made the account keep it for whom they made it")
	return nil
}

func showAccount(w io.Writer, a api.AccountName) {
	fmt.Fprintf(w, "%s is the account name of %s (%s at %s) since %s\n", a.Name, a.Email, a.Subject, a.Issuer, a.Since.UTC().Format(time.RFC3339))
	if a.Held != "" {
		fmt.Fprintln(w, a.Held)
	}
}
