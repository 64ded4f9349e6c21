package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
	"sega/cmd/sega/columns"
	"sega/cmd/segad/config"
)

// stepOptions are the flags of the steps of a rotation.
type stepOptions struct {
	config string
	yes    bool
	api.CAStep
}

// caSteps are the commands that change which keys a CA has.
var caSteps = []struct {
	name, short, long string
	route             string
	flags             func(c *cobra.Command, o *stepOptions)
}{
	{"publish", "Put a CA's next key into all trust bundles, beside the one that signs", `Put the next key of a CA into all trust bundles, beside the one that signs. It must stand in the list ca.CA of the broker's configuration, which the
running broker reads anew. Nothing is signed with it before segad ca rotate.`, api.RouteCAPublish, func(c *cobra.Command, o *stepOptions) {
		c.Flags().StringVar(&o.Key, "key", "", "SHA256: fingerprint of the key, where several are new")
	}},
	{"withdraw", "Take a published key back that has not signed, for good", `Take a key out of the trust bundles that was published and has not signed, for good, and onto the revocation list: it may be withdrawn because it was stolen. To go on make
another one.`, api.RouteCAWithdraw, nil},
	{"rotate", "Sign with the published key from now on", `Have a CA sign with its published key from now on. It is refused while an enrolled bastion or host, or a broker, has not seen the key, and for the
front CA until every laptop has it; what the old key has signed stays good.`, api.RouteCARotate, func(c *cobra.Command, o *stepOptions) {
		c.Flags().BoolVar(&o.Force, "force", false, "although somebody has not seen the key: who has not lets nobody in")
		c.Flags().BoolVar(&o.ByHand, "by-hand", false, "hosts that are not enrolled have the key in their TrustedUserCAKeys file")
	}},
	{"retire", "Take a CA's old key out of the trust bundles, for good", `Take the key that signed before the last rotation out of all trust bundles, and onto the revocation list. It is refused before all that it has signed
has expired, and of the host CA without --by-hand while there are hosts that are not enrolled: what segad ca sign-host has signed the broker does not know.`, api.RouteCARetire, func(c *cobra.Command, o *stepOptions) {
		c.Flags().BoolVar(&o.Force, "force", false, "although what it has signed is refused from then on: where the key was stolen")
		c.Flags().BoolVar(&o.ByHand, "by-hand", false, "of the host CA: hosts that are not enrolled have a certificate of the new key")
	}},
	{"adopt", "Sign with a configured key in place of one that is lost", `Have a CA sign with a key that the configuration names, in place of the one that signs by the database and that the broker does not have: where that
one is lost, or where the database was restored to before a rotation whose old key was destroyed. The lost key is retired for good, and goes onto the revocation
list; nothing that it has signed is trusted any more, unless the configuration names it in more_CA. It is refused while the broker has the key that signs.`, api.RouteCAAdopt, func(c *cobra.Command, o *stepOptions) {
		c.Flags().StringVar(&o.Key, "key", "", "SHA256: fingerprint of the key that is to sign, where the configuration names several")
		c.Flags().BoolVar(&o.Force, "force", false, "although another broker runs: none of them has the key")
	}},
}

func newCASteps() (all []*cobra.Command) {
	for _, step := range caSteps {
		var o stepOptions
		c := &cobra.Command{Use: step.name + " CA", Short: step.short, Long: step.long, Args: exactly(1), ValidArgs: caNames, Example: "  segad ca " + step.name + " access --config /etc/sega/broker.yaml",
			RunE: func(cmd *cobra.Command, args []string) error { return runStep(cmd, step.name, step.route, args[0], o) }}
		c.Flags().StringVar(&o.config, "config", "", "configuration file of the running broker (YAML)")
		c.Flags().StringVar(&o.Reason, "reason", "", "why, for the log")
		c.Flags().StringVar(&o.Ticket, "ticket", "", "ticket, for the log")
		c.Flags().BoolVar(&o.yes, "yes", false, "do it without asking")
		if step.flags != nil {
			step.flags(c, &o)
		}
		_ = c.MarkFlagRequired("config")
		all = append(all, c)
	}
	return all
}

// runStep shows where the CA stands, asks, and has the running broker take the step.
func runStep(cmd *cobra.Command, name, route, ca string, o stepOptions) error {
	if !slices.Contains(caNames, ca) {
		return fmt.Errorf("%w: no CA %q: there are %s", errUsage, ca, strings.Join(caNames, ", "))
	}
	socket, err := operatorsSocket(o.config)
	if err != nil {
		return err
	}
	now, err := askBroker[api.CAs](cmd.Context(), socket, http.MethodGet, api.RouteCAs, nil)
	if err != nil {
		return err
	}
	showCAs(cmd.ErrOrStderr(), now, ca)
	if err := confirmStep(cmd.Context(), fmt.Sprintf("%s the %s CA?", name, ca), o.yes); err != nil {
		return err
	}
	after, err := askBroker[api.CAs](cmd.Context(), socket, http.MethodPost, strings.Replace(route, "{ca}", ca, 1), o.CAStep)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "done; the %s CA now:\n", ca)
	showCAs(cmd.OutOrStdout(), after, ca)
	return nil
}

func operatorsSocket(path string) (string, error) {
	file, err := config.LoadBroker(path)
	if err != nil {
		return "", err
	}
	return file.OperatorsSocket(path), nil
}

// askBroker asks the broker that runs on this machine.
func askBroker[T any](ctx context.Context, socket, method, route string, body any) (out T, err error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return out, err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://broker"+route, bytes.NewReader(raw))
	if err != nil {
		return out, err
	}
	web := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}}
	resp, err := web.Do(r)
	if err != nil {
		return out, fmt.Errorf("no broker answers at %s: %w\nrun it, on this machine and as this account, then repeat the command", socket, errors.Unwrap(err))
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return out, err
	}
	if resp.StatusCode != http.StatusOK {
		var p api.Problem
		if json.Unmarshal(answer, &p) != nil || p.Detail == "" {
			return out, fmt.Errorf("the broker answered %s", resp.Status)
		}
		return out, problemText(p)
	}
	return out, json.Unmarshal(answer, &out)
}

// problemText is a problem as people read it.
func problemText(p api.Problem) error {
	if p.Hint == "" {
		return errors.New(p.Detail)
	}
	return errors.New(p.Detail + "\n" + p.Hint)
}

// showCAs writes where CAs stand: all of them, or one.
func showCAs(w io.Writer, all api.CAs, only string) {
	fmt.Fprintf(w, "trust bundles of version %d\n", all.Version)
	t := columns.New(w, "CA", "WHAT", "WHICH", "VERSION", "STATE")
	lines := ""
	for _, ca := range all.CAs {
		if only != "" && ca.Name != only {
			continue
		}
		showCA(t, ca)
		for _, k := range ca.Keys {
			if k.Phase != "retired" {
				lines += fmt.Sprintf("%-6s  %-7s  %s\n", ca.Name, k.Phase, k.Line)
			}
		}
	}
	_ = t.Flush()
	fmt.Fprint(w, lines) // as wide as they are: somebody copies them
}

func showCA(t *columns.Table, ca api.CA) {
	row := func(cells ...string) { _ = t.Row(append([]string{ca.Name}, cells...)...) }
	for _, k := range ca.Keys {
		row(k.Phase, k.Fingerprint, strconv.FormatInt(k.Version, 10), keyTimes(k))
	}
	for _, key := range ca.New {
		row("new", key, "", "in the configuration alone")
	}
	for _, s := range ca.Seen {
		word := "has said nothing"
		switch {
		case s.Seen:
			word = "has the next key"
		case s.Version > 0:
			word = fmt.Sprintf("has version %d, said %s", s.Version, s.At.Format(time.RFC3339))
		}
		row("  "+s.Kind, s.Name, "", word)
	}
	if len(ca.ByHand) > 0 {
		what := "see to their TrustedUserCAKeys"
		if ca.Next == "retire" {
			what = "sign their keys anew, segad ca sign-host"
		}
		row("  by hand", "", "", "not enrolled, "+what+": "+strings.Join(ca.ByHand, " "))
	}
	if !ca.Signing {
		row("", "DOES NOT SIGN", "", "see the broker's log")
	}
	if ca.Next != "publish" {
		row("to do", fmt.Sprintf("segad ca %s %s%s", ca.Next, ca.Name, byHand(ca)), "", notYet(ca))
	}
}

func keyTimes(k api.CAKey) string {
	out := "since " + k.Published.Format(time.RFC3339)
	if !k.Replaced.IsZero() {
		out += ", signed until " + k.Replaced.Format(time.RFC3339)
	}
	if k.Foreign {
		out += ", NOT TRUSTED: not in the broker's configuration"
	}
	if !k.Retired.IsZero() {
		out += ", retired " + k.Retired.Format(time.RFC3339)
	}
	if k.Kept {
		out += ", STILL CONFIGURED: take it out, or a restored database brings it back"
	}
	return out
}

// byHand is the flag without which the next step is refused.
func byHand(ca api.CA) string {
	if len(ca.ByHand) == 0 {
		return ""
	}
	return " --by-hand"
}

// notYet says what the next step waits for.
func notYet(ca api.CA) string {
	if !ca.NotYet.IsZero() {
		return "not before " + ca.NotYet.Format(time.RFC3339)
	}
	if slices.ContainsFunc(ca.Seen, func(s api.CASeen) bool { return !s.Seen }) {
		return "when all of them have the next key"
	}
	return ""
}
