package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/audit"
	"sega/audit/query"
	"sega/broker/api"
)

func newAudit(a *app) *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Find, replay and verify what was done", GroupID: groupReview, Args: cobra.ArbitraryArgs,
		Example: "  sega audit query --user alice@example.com --since 7d\n  sega audit verify",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command audit %q", args[0])
			}
			return usagef("say what: sega audit query, show, play or verify")
		}}
	c.AddCommand(newAuditQuery(a), newAuditShow(a), newAuditPlay(a), newAuditVerify(a), newAuditProve(a))
	return c
}

// queryOptions are what `audit query` asks, apart from the query's own text.
type queryOptions struct {
	user, kind, role, host, outcome, session, since, until string
	intents, asJSON                                        bool
	limit                                                  int
}

func newAuditQuery(a *app) *cobra.Command {
	var o queryOptions
	c := &cobra.Command{Use: "query [QUERY]", Short: "List events, oldest first", Args: cobra.ArbitraryArgs,
		Example: "  sega audit query 'user:alice@example.com kind:session.* since:7d'\n  sega audit query 'outcome:denied or reason:~outage' --json\n  sega audit query --user alice@example.com --since 7d",
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := o.query(strings.Join(args, " "), a.now())
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			return s.printEvents(cmd.Context(), q, o.asJSON)
		}}
	f := c.Flags()
	f.StringVar(&o.user, "user", "", "e-mail or subject; alice@* for a prefix")
	f.StringVar(&o.kind, "kind", "", "kind of event, like aws.assume or 'session.*'")
	f.StringVar(&o.role, "role", "", "AWS role")
	f.StringVar(&o.host, "host", "", "SSH host")
	f.StringVar(&o.outcome, "outcome", "", "success, failure, denied, revoked, unknown or intent")
	f.StringVar(&o.session, "session", "", "ses_… or ssh_…")
	f.StringVar(&o.since, "since", "", "like 7d, 2h or 2026-01-31T08:00:00Z")
	f.StringVar(&o.until, "until", "", "like --since")
	f.BoolVar(&o.intents, "intents", false, "also what was begun, not only how it ended")
	f.IntVar(&o.limit, "limit", 0, "at most so many events; 0 for all")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object a line")
	return c
}

// query puts text and flags together. The times are made absolute here, by this machine's clock and zone.
func (o queryOptions) query(text string, now time.Time) (url.Values, error) {
	whole := query.And{}
	x, err := query.Parse(text, now)
	if err != nil {
		return nil, usagef("%s", err)
	}
	if x != nil {
		whole = append(whole, x)
	}
	for _, f := range []struct{ name, value string }{{"user", o.user}, {"kind", o.kind}, {"role", o.role}, {"host", o.host}, {"outcome", o.outcome}, {"session", o.session}, {"since", o.since}, {"until", o.until}} {
		if f.value == "" {
			continue
		}
		x, err := query.Parse(f.name+":"+f.value, now)
		if err != nil {
			return nil, usagef("--%s: %s", f.name, err)
		}
		whole = append(whole, x)
	}
	q := url.Values{}
	if text := query.Format(whole); text != "" {
		q.Set(api.ParamQuery, text)
	}
	if o.intents {
		q.Set(api.ParamIntents, "1")
	}
	if o.limit < 0 {
		return nil, usagef("--limit is a number of events")
	}
	if o.limit > 0 {
		q.Set(api.ParamLimit, strconv.Itoa(o.limit))
	}
	return q, nil
}

// printEvents prints what the broker sends, as it comes.
func (s *session) printEvents(ctx context.Context, q url.Values, asJSON bool) error {
	var rows [][]string
	for e, err := range s.Events(ctx, q) {
		if err != nil {
			return err
		}
		if asJSON {
			line, err := flatten(e)
			if err != nil {
				return err
			}
			if _, err := s.app.out.Write(line); err != nil {
				return err
			}
			continue
		}
		v, err := audit.Parse(e.Envelope)
		if err != nil {
			return fmt.Errorf("event %d: %w", e.Index, err)
		}
		rows = append(rows, []string{strconv.FormatInt(e.Index, 10), stamp(v.Time), v.Kind, string(v.Outcome), actorName(v.Actor), v.Resource, firstOf(v.SessionID, v.LoginID), v.Reason})
	}
	if asJSON {
		return nil
	}
	return table(s.app.out, []string{"IDX", "TIME", "KIND", "OUTCOME", "WHO", "WHAT", "SESSION", "REASON"}, rows)
}

// flatten is the envelope's own fields, then idx and details, as one object on one line.
func flatten(e api.Event) ([]byte, error) {
	envelope := bytes.TrimSpace(e.Envelope)
	if len(envelope) < 2 || envelope[len(envelope)-1] != '}' {
		return nil, fmt.Errorf("event %d is not an object", e.Index)
	}
	var b bytes.Buffer
	b.Write(envelope[:len(envelope)-1])
	fmt.Fprintf(&b, `,"idx":%d`, e.Index)
	if len(e.Details) > 0 {
		b.WriteString(`,"details":`)
		b.Write(e.Details)
	}
	b.WriteString("}\n")
	var compact bytes.Buffer
	if err := json.Compact(&compact, b.Bytes()); err != nil {
		return nil, fmt.Errorf("event %d: %w", e.Index, err)
	}
	return []byte(escape(compact.String()) + "\n"), nil
}

func actorName(v audit.Actor) string {
	return firstOf(v.Email, v.Sub, v.Kind)
}

func firstOf(values ...string) string {
	for _, v := range values {
		if strings.TrimSpace(v) != "" {
			return v
		}
	}
	return ""
}
