package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
)

func sorted(s []string) []string {
	sort.Strings(s)
	return s
}

func newSessions(a *app) *cobra.Command {
	c := &cobra.Command{Use: "sessions", Short: "List live logins and SSH sessions: everybody's for security staff, your own for you", GroupID: groupSecurity, Args: atMost(0),
		Example: "  sega sessions\n  sega sessions kill ssh_abc… --reason 'wrong host'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			v, err := s.Sessions(cmd.Context())
			if err != nil {
				return err
			}
			s.listSessions(v)
			if a.json {
				return jsonLines(a.out, v.Sessions)
			}
			var rows [][]string
			for _, i := range v.Sessions {
				rows = append(rows, []string{i.ID, i.Kind, personName(i.Person), at(i), i.Source, stamp(i.Started), stamp(i.NotAfter)})
			}
			return table(a.out, []string{"ID", "KIND", "PERSON", "WHERE", "FROM", "SINCE", "UNTIL AT THE LATEST"}, rows)
		}}
	kill := newRevokeOf(a, api.SubjectSession, "kill ID")
	kill.Short = "End a session: the same as `sega revoke session`"
	kill.Example = "  sega sessions kill ssh_abc… --reason 'wrong host'"
	c.AddCommand(kill)
	return c
}

func at(i api.SessionInfo) string {
	if i.Kind == "machine" {
		return i.Person.Subject
	}
	if i.Host == "" {
		return ""
	}
	return i.Login + "@" + i.Host
}

func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func newRevoke(a *app) *cobra.Command {
	c := &cobra.Command{Use: "revoke", Short: "Cut off a person, a session, a certificate or a host, everywhere, now", GroupID: groupSecurity, Args: cobra.ArbitraryArgs,
		Example: "  sega revoke user alice@example.com --reason 'laptop stolen'\n  sega revoke session ssh_abc… --reason 'wrong host' --yes\n  sega revoke host web-1 --reason 'broken into'",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("sega revokes a user, a session, a cert or a host, not %q", args[0])
			}
			return usagef("say what: sega revoke user E-MAIL, session ID, cert SERIAL or host NAME")
		}}
	user, session := newRevokeOf(a, api.SubjectUser, "user E-MAIL"), newRevokeOf(a, api.SubjectSession, "session ID")
	user.Short = "End everything of a person, and let him in no more until he is unblocked"
	user.Example = "  sega revoke user alice@example.com --reason 'laptop stolen'"
	session.Short = "End a login (ses_…) with all that came of it, or an SSH session (ssh_…)"
	session.Example = "  sega revoke session ssh_abc… --reason 'wrong host' --yes"
	cert, host := newRevokeOf(a, api.SubjectCert, "cert SERIAL"), newRevokeOf(a, api.SubjectHost, "host NAME")
	cert.Short = "End an SSH certificate with what was opened by it; the login goes on"
	cert.Long = cert.Short + ".\nIts serial stands in the log (sega audit query kind:ssh.cert), in sshd's, and in the certificate (ssh-keygen -L)."
	cert.Example = "  sega revoke cert 4294967303 --profile access --reason 'key copied'"
	host.Short = "End all sessions to a host and grant nothing for it until it is unblocked"
	host.Example = "  sega revoke host web-1 --reason 'broken into'"
	c.AddCommand(user, session, cert, host)
	return c
}

// revokeOptions are the flags of a revocation.
type revokeOptions struct {
	reason  string
	profile string
	yes     bool
}

func newRevokeOf(a *app, subject, use string) *cobra.Command {
	var o revokeOptions
	c := &cobra.Command{Use: use, Args: exactly(strings.Fields(use)[1]),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(o.reason) == "" {
				return usagef("a revocation needs a reason: --reason TEXT")
			}
			return a.revoke(cmd.Context(), api.RevokeRequest{Subject: subject, ID: args[0], Profile: o.profile, Reason: o.reason}, o)
		}}
	c.Flags().StringVar(&o.reason, "reason", "", "why; the person reads it, and the log keeps it")
	c.Flags().BoolVar(&o.yes, "yes", false, "do it without asking")
	if subject == api.SubjectCert {
		c.Flags().StringVar(&o.profile, "profile", "", "which CA has counted the serial: access, hop, front or host")
	}
	return c
}

// revoke shows the plan, asks, does it, and prints the receipt.
func (a *app) revoke(ctx context.Context, r api.RevokeRequest, o revokeOptions) error {
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	if !o.yes {
		plan := r
		plan.Plan = true
		receipt, err := s.Revoke(ctx, plan)
		if err != nil {
			return err
		}
		showPlan(a.err, receipt.Plan)
		answer, err := a.ask(ctx, "revoke? [y/N] ")
		if err != nil {
			return err
		}
		if answer != "y" && answer != "yes" {
			return errCancelled
		}
	}
	receipt, err := s.Revoke(ctx, r)
	if err != nil {
		return err
	}
	if a.json {
		return writeJSON(a.out, receipt)
	}
	if o.yes {
		showPlan(a.err, receipt.Plan)
	}
	return showReceipt(a.out, receipt)
}

func showPlan(w io.Writer, p api.Plan) {
	switch {
	case p.What == "":
		fmt.Fprintf(w, "%s (%s)\n", who(p.Person), escape(p.Person.Subject))
	case p.Person.Subject == "":
		fmt.Fprintln(w, escape(p.What))
	default:
		fmt.Fprintf(w, "%s, held by %s (%s)\n", escape(p.What), who(p.Person), escape(p.Person.Subject))
	}
	switch {
	case p.Blocks && p.What != "":
		fmt.Fprintln(w, "  is opened to nobody until: sega unblock host")
	case p.Blocks:
		fmt.Fprintln(w, "  is let in no more until: sega unblock user")
	}
	var rows [][]string
	for _, v := range p.Sessions {
		rows = append(rows, []string{"  ends      ", fmt.Sprintf("%-5s %s %s", v.Kind, v.ID, at(v))})
	}
	if n := len(p.Certificates); n > 0 {
		rows = append(rows, []string{"  worthless ", plural(n, "SSH certificate, which", "SSH certificates, the last of which") + " would have lived until " + stamp(p.Certificates[n-1].Until)})
	}
	for _, v := range lasting(p.AWS) {
		rows = append(rows, []string{"  lives on  ", fmt.Sprintf("AWS credentials of %s until %s: AWS does not take them back", v.What, stamp(v.Until))})
	}
	if len(rows) > 0 {
		_ = table(w, rows[0], rows[1:])
	}
}

// lasting makes one of the credentials of a role, which end at different times: somebody who works has dozens.
func lasting(all []api.Outstanding) []api.Outstanding {
	var out []api.Outstanding
	count := map[string]int{}
	for _, v := range all {
		count[v.What]++
		i := slices.IndexFunc(out, func(o api.Outstanding) bool { return o.What == v.What })
		switch {
		case i < 0:
			out = append(out, v)
		case v.Until.After(out[i].Until):
			out[i].Until = v.Until
		}
	}
	slices.SortStableFunc(out, func(a, b api.Outstanding) int { return a.Until.Compare(b.Until) })
	for i, v := range out {
		if n := count[v.What]; n > 1 {
			out[i].What += fmt.Sprintf(", %d of them, the last", n)
		}
	}
	return out
}

func showReceipt(w io.Writer, r api.Receipt) error {
	if err := table(w, []string{fmt.Sprintf("revoked at %s, event %s, log index %d", stamp(r.Time), r.EventID, r.Index)}, nil); err != nil {
		return err
	}
	var rows [][]string
	for _, p := range r.Points {
		rows = append(rows, []string{p.Name, pointState(p)})
	}
	return table(w, []string{"WHERE", "STATE"}, rows)
}

// pointState says in words how far a revocation is at a point.
func pointState(p api.Point) string {
	does, did := "closes", plural(p.Closed, "session", "sessions")+" cut"
	if p.Kind == api.PointAgent {
		does, did = "drops", plural(p.Closed, "credential", "credentials")+" dropped"
	}
	if !p.Acknowledged {
		return "NOT acknowledged; " + does + " everything by " + stamp(p.Deadline) + " at the latest"
	}
	return fmt.Sprintf("in force after %d ms, %s", p.Millis, did)
}

func newUnblock(a *app) *cobra.Command {
	c := &cobra.Command{Use: "unblock", Short: "Let a revoked person log in anew, or people reach a revoked host again", GroupID: groupSecurity, Args: cobra.ArbitraryArgs,
		Example: "  sega unblock user alice@example.com --reason 'laptop found'\n  sega unblock host web-1 --reason 'rebuilt'",
		RunE: func(*cobra.Command, []string) error {
			return usagef("say whom: sega unblock user E-MAIL, or host NAME")
		}}
	user, host := newUnblockOf(a, api.SubjectUser, "user E-MAIL", "may log in again"), newUnblockOf(a, api.SubjectHost, "host NAME", "may be reached again; where its daemon runs, as soon as that has got a new certificate: two minutes at most")
	user.Short = "Let a revoked person log in anew; nothing old comes back"
	user.Example = "  sega unblock user alice@example.com --reason 'laptop found'"
	host.Short = "Let people reach a revoked host again; its old certificates stay revoked"
	host.Example = "  sega unblock host web-1 --reason 'rebuilt'"
	c.AddCommand(user, host)
	return c
}

func newUnblockOf(a *app, subject, use, done string) *cobra.Command {
	var reason string
	c := &cobra.Command{Use: use, Args: exactly(strings.Fields(use)[1]),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			if err := s.Unblock(cmd.Context(), api.UnblockRequest{Subject: subject, ID: args[0], Reason: reason}); err != nil {
				return err
			}
			fmt.Fprintf(a.err, "%s %s\n", escape(args[0]), done)
			return nil
		}}
	c.Flags().StringVar(&reason, "reason", "", "why")
	return c
}
