package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/audit"
	"sega/audit/recording"
	"sega/broker/api"
)

// shown is what `audit show --json` prints.
type shown struct {
	ID        string     `json:"id"`
	Person    string     `json:"person"`
	LoginID   string     `json:"login_id"`
	Host      string     `json:"host"`
	Login     string     `json:"login"`
	Route     string     `json:"route"`
	Source    string     `json:"source"`
	Client    string     `json:"client"`
	Started   time.Time  `json:"started"`
	Ended     *time.Time `json:"ended"`
	Outcome   string     `json:"outcome"`
	Reason    string     `json:"reason"` // and ticket: what the person gave for it
	Ticket    string     `json:"ticket"`
	EndReason string     `json:"end_reason"`
	Commands  []shownOne `json:"commands"`
	Unlisted  int        `json:"commands_unlisted,omitempty"` // beyond those above
	Files     int64      `json:"files,omitempty"`             // operations on files, which audit query lists
	Forwards  int64      `json:"forwards,omitempty"`          // likewise, that were asked for
	BytesIn   int64      `json:"bytes_in"`
	BytesOut  int64      `json:"bytes_out"`
	BytesErr  int64      `json:"bytes_err"`
	Recording string     `json:"recording"`
	Detail    string     `json:"recording_detail,omitempty"`
}

type shownOne struct {
	Time    time.Time `json:"time"`
	Type    string    `json:"type"`
	Command string    `json:"command"`

	Withheld bool `json:"withheld,omitempty"` // policy does not let the asker read it
	Refused  bool `json:"refused,omitempty"`  // policy did not let it start

	Exit   *uint32 `json:"exit,omitempty"`   // its status, of the first programs of a session alone
	Signal string  `json:"signal,omitempty"` // that ended it
}

func newAuditShow(a *app) *cobra.Command {
	c := &cobra.Command{Use: "show SESSION", Short: "Show one SSH session: who, why, when, what was run, and whether its recording is whole", Args: exactly("SESSION"), Example: "  sega audit show ssh_abc…",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			v, err := s.evidenceOf(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			out := summary(v)
			verdict, err := s.verdict(cmd.Context(), v)
			switch {
			case api.IsKind(err, api.KindDenied):
				out.Recording, out.Detail = "not checked", "you may not read recordings"
			case err != nil:
				return err
			default:
				out.Recording, out.Detail = verdict.Status, verdict.Detail
				if v.end == nil && verdict.Status == recording.StatusInterrupted {
					out.Recording = "going on"
				}
			}
			if a.json {
				return writeJSON(a.out, out)
			}
			return a.showSession(out)
		}}
	return c
}

func summary(v *evidence) shown {
	out := shown{ID: v.id, Person: actorName(v.start.Actor), LoginID: v.start.LoginID, Host: v.started.Host, Login: v.started.Login, Route: v.started.Route,
		Source: v.start.Source, Client: v.started.Client, Started: v.start.Time, Reason: v.start.Reason, Ticket: v.start.Ticket, Outcome: "live", Commands: []shownOne{}, Unlisted: v.unlisted, Files: v.files, Forwards: v.forwards,
		BytesIn: v.ended.In, BytesOut: v.ended.Out, BytesErr: v.ended.Err}
	if v.end != nil {
		out.Ended, out.Outcome, out.EndReason = &v.end.Time, string(v.end.Outcome), v.end.Reason
	}
	exits := map[uint32]exitDetails{}
	for _, e := range v.ended.Exits {
		exits[e.Channel] = e
	}
	for _, c := range v.commands {
		exit := exits[c.details.Channel]
		out.Commands = append(out.Commands, shownOne{Time: c.event.Time, Type: c.details.Type, Command: c.details.Command,
			Withheld: c.details.Withheld, Refused: c.event.Outcome != audit.Success, Exit: exit.Status, Signal: exit.Signal})
	}
	return out
}

// row is a program, what was typed for it, and how it ended.
func (c shownOne) row() []string {
	text := c.Command
	if c.Withheld {
		text = "(withheld: policy does not let you read what was typed)"
	}
	switch {
	case c.Refused:
		text += " (refused)"
	case c.Signal != "":
		text += " (ended by " + c.Signal + ")"
	case c.Exit != nil:
		text += fmt.Sprintf(" (exit %d)", *c.Exit)
	}
	return []string{c.Type, stamp(c.Time) + "  " + strings.TrimSpace(text)}
}

func (a *app) showSession(v shown) error {
	ended := "still live"
	if v.Ended != nil {
		ended = stamp(*v.Ended) + " (" + v.Ended.Sub(v.Started).Round(time.Millisecond).String() + ")"
	}
	rows := [][]string{{"person", v.Person}, {"login", v.LoginID}, {"host", v.Login + "@" + v.Host + " (" + v.Route + ")"}, {"from", v.Source + " " + v.Client},
		{"reason", v.Reason}, {"ticket", v.Ticket}, {"started", stamp(v.Started)}, {"ended", ended}, {"because", v.EndReason}, {"outcome", v.Outcome},
		{"bytes", fmt.Sprintf("%d in, %d out, %d err", v.BytesIn, v.BytesOut, v.BytesErr)}, {"recording", strings.TrimSuffix(v.Recording+": "+v.Detail, ": ")}}
	rows = slices.DeleteFunc(rows, func(row []string) bool { return row[1] == "" })
	for _, c := range v.Commands {
		rows = append(rows, c.row())
	}
	if v.Unlisted > 0 {
		rows = append(rows, []string{"…", fmt.Sprintf("%d more: sega audit query 'session:%s kind:session.command'", v.Unlisted, v.ID)})
	}
	if v.Files > 0 {
		rows = append(rows, []string{"files", fmt.Sprintf("%d operations: sega audit query 'session:%s kind:sftp.*'", v.Files, v.ID)})
	}
	if v.Forwards > 0 {
		rows = append(rows, []string{"forwards", fmt.Sprintf("%d asked for: sega audit query 'session:%s kind:forward.*'", v.Forwards, v.ID)})
	}
	return table(a.out, []string{"session", v.ID}, rows)
}
