package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
)

// statusReport is what `sega status --json` prints. docs/operations.md documents it.
type statusReport struct {
	Broker  string    `json:"broker"`
	Person  string    `json:"person"`
	LoginID string    `json:"login_id"`
	Groups  []string  `json:"groups"`
	Method  string    `json:"method"`
	MFA     bool      `json:"mfa"`
	Expires time.Time `json:"expires"`
	Login   time.Time `json:"login_until"`
	Secrets string    `json:"secrets"`
	LogSize int64     `json:"log_size"`
	Role    string    `json:"role"`         // whose credentials this shell has by sega exec, or empty
	Left    int64     `json:"seconds_left"` // until the login ends, by the broker's clock
}

// secondsLeft is how long a login still lasts.
func secondsLeft(s api.Status) int64 { return max(0, int64(s.NotAfter.Sub(s.Now).Seconds())) }

func newStatus(a *app) *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Show who you are logged in as, until when, and where secrets are kept", GroupID: groupAccess, Args: atMost(0), Example: "  sega status\n  sega status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := a.secrets()
			if err != nil {
				return err
			}
			kept := store.Describe().Text
			s, err := a.open(cmd.Context())
			if err != nil {
				if errors.Is(err, errNotLoggedIn) && !a.json {
					fmt.Fprintf(a.err, "secrets: %s\n", kept)
				}
				return err
			}
			v, err := s.Status(cmd.Context())
			if err != nil {
				return err
			}
			r := statusReport{Broker: s.saved().Origin, Person: personName(v.Person), LoginID: v.LoginID, Groups: v.Groups, Method: v.Method, MFA: v.MFA, Expires: v.Expires, Login: v.NotAfter, Secrets: kept,
				Role: a.getenv("SEGA_ROLE"), Left: secondsLeft(v)}
			_, tree := s.witness.Latest()
			r.LogSize = tree.N
			if a.json {
				return writeJSON(a.out, r)
			}
			mfa := "no"
			if v.MFA {
				mfa = "yes"
			}
			return table(a.out, []string{"broker", r.Broker}, [][]string{
				{"person", r.Person}, {"groups", fmt.Sprint(r.Groups)}, {"session", r.LoginID}, {"login by", r.Method + ", MFA " + mfa},
				{"renewed", clock(r.Expires)}, {"login ends", clock(r.Login)}, {"secrets", kept}, {"audit log", fmt.Sprintf("%d events, consistent with what this machine has seen", r.LogSize)},
			})
		}}
	return c
}

func personName(p api.Person) string {
	if p.Email != "" {
		return p.Email
	}
	return p.Subject
}

func newRoles(a *app) *cobra.Command {
	var all bool
	c := &cobra.Command{Use: "roles", Aliases: []string{"list", "ls"}, Short: "List the AWS roles that you may use", GroupID: groupAccess, Args: atMost(0), Example: "  sega roles\n  sega roles --all   # and what is missing for the others",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			v, err := s.Roles(cmd.Context())
			if err != nil {
				return err
			}
			s.listRoles(v)
			var shown []api.Role
			for _, r := range v.Roles {
				if r.Allowed || all {
					shown = append(shown, r)
				}
			}
			if a.json {
				return jsonLines(a.out, shown)
			}
			var rows [][]string
			for _, r := range shown {
				rows = append(rows, []string{r.Name, r.Account, span(r.MaxSeconds), r.Mode, strings.Join(r.Needs, ","), r.Description, r.Why})
			}
			return table(a.out, []string{"ROLE", "ACCOUNT", "MAX", "MODE", "NEEDS", "DESCRIPTION", "MISSING"}, rows)
		}}
	c.Flags().BoolVar(&all, "all", false, "also those that you may not use, and why")
	return c
}

// span is a length of time without units that are nought: 1h, 1h30m.
func span(seconds int) string {
	s := (time.Duration(seconds) * time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func newHosts(a *app) *cobra.Command {
	var all bool
	c := &cobra.Command{Use: "hosts", Short: "List the hosts that you may open, and as whom", GroupID: groupAccess, Args: atMost(0), Example: "  sega hosts",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			v, err := s.Hosts(cmd.Context())
			if err != nil {
				return err
			}
			s.listHosts(v)
			var shown []api.Host
			for _, h := range v.Hosts {
				if h.Allowed || all {
					shown = append(shown, h)
				}
			}
			if a.json {
				return jsonLines(a.out, shown)
			}
			var rows [][]string
			for _, h := range shown {
				rows = append(rows, []string{h.Name, fmt.Sprint(h.Logins), labels(h.Labels), h.Why})
			}
			return table(a.out, []string{"HOST", "LOGINS", "LABELS", "MISSING"}, rows)
		}}
	c.Flags().BoolVar(&all, "all", false, "also those that you may not open, and why")
	return c
}
