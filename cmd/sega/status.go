package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/broker/api"
	"sega/cmd/sega/agent"
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
	Agent   bool      `json:"agent"`        // the agent answered, which needs no network
	Role    string    `json:"role"`         // whose credentials this shell has by sega exec, or empty
	Left    int64     `json:"seconds_left"` // until the login ends, by the broker's clock
}

// secondsLeft is how long a login still lasts.
func secondsLeft(s api.Status) int64 { return max(0, int64(s.NotAfter.Sub(s.Now).Seconds())) }

func newStatus(a *app) *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Show who you are logged in as, until when, and where secrets are kept", GroupID: groupAccess, Args: atMost(0), Example: "  sega status\n  sega status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := a.secrets()
			if err != nil {
				return err
			}
			kept := store.Describe().Text
			r, err := a.status(cmd.Context())
			if errors.Is(err, errNotLoggedIn) && !a.json {
				fmt.Fprintf(a.err, "secrets: %s\n", kept)
			}
			if err != nil {
				return err
			}
			r.Secrets, r.Role = kept, a.getenv("SEGA_ROLE")
			if a.json {
				return writeJSON(a.out, r)
			}
			return table(a.out, []string{"broker", r.Broker}, r.rows())
		}}
}

func (r statusReport) rows() [][]string {
	mfa, from := "no", "the broker"
	if r.MFA {
		mfa = "yes"
	}
	if r.Agent {
		from = "the agent, which follows the broker"
	}
	return [][]string{
		{"person", r.Person}, {"groups", strings.Join(r.Groups, ", ")}, {"session", r.LoginID}, {"login by", r.Method + ", MFA " + mfa},
		{"renewed by", clock(r.Expires)}, {"login ends", clock(r.Login)}, {"secrets", r.Secrets}, {"audit log", fmt.Sprintf("%d events, consistent with what this machine has seen", r.LogSize)}, {"says", from},
	}
}

// status is what the agent says, as long as the broker's feed lives there; else what the broker says.
func (a *app) status(ctx context.Context) (statusReport, error) {
	q, err := a.question(agent.OpSession, nil)
	if err != nil {
		return statusReport{}, err
	}
	reply, err := a.askAgent(ctx, q)
	if err == nil && reply.Status != nil && reply.Status.FeedAlive {
		r := report(reply.Status.Origin, *reply.Status.Session, reply.Status.LogSize)
		r.Agent = true
		return r, nil
	}
	if err != nil && !errors.Is(err, errNoAgent) {
		return statusReport{}, err
	}
	s, err := a.open(ctx)
	if err != nil {
		return statusReport{}, err
	}
	v, err := s.Status(ctx)
	if err != nil {
		return statusReport{}, err
	}
	_, tree := s.witness.Latest()
	return report(s.saved().Origin, v, tree.N), nil
}

func report(origin string, v api.Status, logSize int64) statusReport {
	return statusReport{Broker: origin, Person: personName(v.Person), LoginID: v.LoginID, Groups: v.Groups, Method: v.Method, MFA: v.MFA, Expires: v.Expires, Login: v.NotAfter, LogSize: logSize, Left: secondsLeft(v)}
}

func personName(p api.Person) string {
	if p.Email != "" {
		return p.Email
	}
	return p.Subject
}
