package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/audit"
	"sega/audit/query"
	"sega/broker/api"
)

// filters are what selects events: the query's own text, and flags that add to it.
type filters struct {
	user, kind, role, host, outcome, session, since, until string
	intents                                                bool
}

func (f *filters) flags(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.user, "user", "", "e-mail or subject; 'alice@*' for a prefix, '~alice' for a part")
	flags.StringVar(&f.kind, "kind", "", "kind of event, like aws.assume or 'session.*'")
	flags.StringVar(&f.role, "role", "", "AWS role")
	flags.StringVar(&f.host, "host", "", "SSH host")
	flags.StringVar(&f.outcome, "outcome", "", "success, failure, denied, revoked, unknown or intent")
	flags.StringVar(&f.session, "session", "", "ses_… or ssh_…")
	flags.StringVar(&f.since, "since", "", "like 7d, 2h or 2026-01-31T08:00:00Z")
	flags.StringVar(&f.until, "until", "", "like --since")
	flags.BoolVar(&f.intents, "intents", false, "also what was begun, not only how it ended")
	complete(c, "kind", audit.Kinds())
	complete(c, "outcome", []string{"success", "failure", "denied", "revoked", "unknown", "intent"})
}

// complete offers the values of a flag to the shell.
func complete(c *cobra.Command, flag string, values []string) {
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// values puts text and flags together. Times are made absolute here, by this machine's clock and zone.
func (f filters) values(text string, now time.Time) (url.Values, error) {
	x, err := query.Parse(text, now)
	if err != nil {
		return nil, queryError(err, text)
	}
	whole := []query.Expr{x}
	for _, v := range []struct{ name, value string }{{"user", f.user}, {"kind", f.kind}, {"role", f.role}, {"host", f.host}, {"outcome", f.outcome}, {"session", f.session}, {"since", f.since}, {"until", f.until}} {
		if v.value == "" {
			continue
		}
		x, err := query.Term(v.name, v.value, now)
		if err != nil {
			return nil, usagef("--%s: %s", v.name, strings.TrimPrefix(err.Error(), v.name+": "))
		}
		whole = append(whole, x)
	}
	q := url.Values{}
	if joined := query.Format(query.Join(whole...)); joined != "" {
		if _, err := query.Parse(joined, now); err != nil {
			return nil, queryError(err, joined) // together they are too much
		}
		q.Set(api.ParamQuery, joined)
	}
	if f.intents {
		q.Set(api.ParamIntents, "1")
	}
	return q, nil
}

// queryError shows where in the query the mistake is.
func queryError(err error, text string) error {
	var syntax *query.SyntaxError
	if !errors.As(err, &syntax) {
		return err
	}
	line, mark, _ := strings.Cut(syntax.Mark(text), "\n")
	if len(line) > 200 || escape(line) != line {
		return usagef("%s", err) // it would not stand below its place
	}
	return withHint(usagef("%s", err), "  %s\n  %s", line, mark)
}

// queryOptions are what `audit query` asks beside.
type queryOptions struct {
	filters
	newest        bool
	limit         int
	after, before int64
	counts        bool // whether countBy was given
	countBy       string
	top           int
}

func newAuditQuery(a *app) *cobra.Command {
	var o queryOptions
	c := &cobra.Command{Use: "query [QUERY]", Short: "List or count events, oldest first", Args: cobra.ArbitraryArgs, ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  sega audit query 'user:alice@example.com kind:session.* since:7d'\n  sega audit query 'outcome:denied or reason:~outage' --json\n  sega audit query --user alice@example.com --since 7d --newest --limit 20\n  sega audit query 'kind:aws.assume since:30d' --count-by user,role --top 10",
		Long:    queryHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.counts = cmd.Flags().Changed("count-by")
			q, err := o.values(strings.Join(args, " "), a.now())
			if err == nil {
				err = o.page(q)
			}
			if err != nil {
				return err
			}
			if o.before == 0 { // where a list of the newest has come to the first event
				defer fmt.Fprintln(a.err, noEvent)
				return quietly(newEventList(a.out, a.json).flush())
			}
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			if o.counts {
				return quietly(s.printCounts(cmd.Context(), q, o))
			}
			return quietly(s.printEvents(cmd.Context(), q, a.json))
		}}
	o.flags(c)
	f := c.Flags()
	f.IntVar(&o.limit, "limit", 0, "at most so many events; 0 for all")
	f.BoolVar(&o.newest, "newest", false, "the newest first")
	f.Int64Var(&o.after, "after", -1, "only events behind this IDX, to go on where a list ended")
	f.Int64Var(&o.before, "before", -1, "only events before this IDX, to go on where a list of the newest ended")
	f.StringVar(&o.countBy, "count-by", "", "count instead, by "+strings.Join(dimensionNames(), ", ")+" (of UTC), joined by commas")
	f.IntVar(&o.top, "top", 0, "only the largest so many counts; 0 for all")
	_ = c.RegisterFlagCompletionFunc("count-by", completeDimensions)
	return c
}

const queryHelp = `List the events that a query selects, oldest first, or count them. A query is made of terms, all of
which must hold; "or", "not" or "-", and parentheses combine them otherwise:

  user:alice@example.com   kind:session.*   host:web-*   role:prod-*   outcome:denied   session:ssh_…
  reason:~outage (a part)  ticket: resource: action: source: node: id: policy:
  since:7d  until:2026-01-31T08:00:00Z  "rm -rf" (free text in reasons, tickets, commands and paths)
  screen:"DROP TABLE" (what a recorded screen showed)

Times, in lists too, are of this machine's zone where they name none; the days of --count-by are days of UTC.

Commands, paths and screens are searched and shown where policy lets you read content. That you ask is an event.`

// page adds which part of the list is wanted.
func (o queryOptions) page(q url.Values) error {
	switch {
	case o.limit < 0:
		return usagef("--limit is a number of events")
	case o.top < 0:
		return usagef("--top is a number of counts")
	case o.after < -1 || o.before < -1:
		return usagef("--after and --before are an IDX of the list")
	case !o.counts && o.top > 0:
		return usagef("--top goes with --count-by")
	case o.counts && (o.limit > 0 || o.newest || o.after >= 0 || o.before >= 0):
		return usagef("--count-by counts all events of the query: leave out --limit, --newest, --after and --before")
	case o.counts:
		return addDimensions(q, o.countBy)
	}
	if o.limit > 0 {
		q.Set(api.ParamLimit, strconv.Itoa(o.limit))
	}
	if o.after >= 0 {
		q.Set(api.ParamAfter, strconv.FormatInt(o.after, 10))
	}
	if o.before > 0 {
		q.Set(api.ParamBefore, strconv.FormatInt(o.before, 10))
	}
	if o.newest {
		q.Set(api.ParamNewest, "1")
	}
	return nil
}

// printEvents prints what the broker sends, as it comes.
func (s *session) printEvents(ctx context.Context, q url.Values, asJSON bool) error {
	out, empty := newEventList(s.app.out, asJSON), true
	for e, err := range s.Events(s.app.noticed(ctx), q) {
		if empty = false; err == nil {
			err = out.add(e)
		}
		if err != nil {
			return errors.Join(out.salvage(), err)
		}
	}
	if empty {
		defer s.app.nothing(q)
	}
	return out.flush()
}

// noticed has what the broker says of its answers told to the person.
func (a *app) noticed(ctx context.Context) context.Context {
	return api.WithNotices(ctx, func(text string) { fmt.Fprintf(a.err, "sega: %s\n", escape(text)) })
}

// eventList prints events, as a table or as JSON.
type eventList struct {
	*columns
	asJSON bool
}

func newEventList(w io.Writer, asJSON bool) *eventList {
	return &eventList{newColumns(w, "IDX", "TIME", "KIND", "OUTCOME", "WHO", "WHAT", "SESSION", "REASON"), asJSON}
}

func (l *eventList) add(e api.Event) error {
	if l.asJSON {
		line, err := flatten(e)
		if err != nil {
			return err
		}
		return l.write(string(line))
	}
	v, err := audit.Parse(e.Envelope)
	if err != nil {
		return fmt.Errorf("event %d: %w", e.Index, err)
	}
	what := strings.TrimSpace(v.Resource + " " + aboutText(v.Kind, e.Details))
	return l.row(strconv.FormatInt(e.Index, 10), stamp(v.Time), v.Kind, string(v.Outcome), actorName(v.Actor), what, firstOf(v.SessionID, v.LoginID), v.Reason)
}

func (l *eventList) flush() error {
	if l.asJSON {
		return l.send()
	}
	return l.columns.flush()
}

func (l *eventList) salvage() error {
	if l.asJSON {
		return l.send()
	}
	return l.columns.salvage()
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
