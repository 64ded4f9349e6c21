package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
)

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
				rows = append(rows, []string{h.Name, strings.Join(h.Logins, " "), labels(h.Labels), h.Why})
			}
			return table(a.out, []string{"HOST", "LOGINS", "LABELS", "MISSING"}, rows)
		}}
	c.Flags().BoolVar(&all, "all", false, "also those that you may not open, and why")
	c.AddCommand(newHostsToken(a))
	return c
}
