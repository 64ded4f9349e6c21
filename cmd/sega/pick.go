package main

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sega/broker/api"
	"sega/cmd/sega/picker"
)

// pickHelp is what the help of commands says that take their role so.
const pickHelp = "Without ROLE, on a terminal, a list opens to pick one from; it asks for a reason or a ticket where the role needs one."

// role is the ROLE of a command line, and what stands behind it. Where the line has none, the person
// picks it on the terminal, and what it asks for goes into o; without a terminal it is a usage error.
func (a *app) role(cmd *cobra.Command, args []string, o *roleOptions) (role string, rest []string, err error) {
	if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
		return args[0], args[1:], nil
	}
	in, out, err := openScreen(a.getenv)
	if err != nil {
		return "", nil, usagef("ROLE is missing; your roles: sega roles")
	}
	defer func() { _ = errors.Join(in.Close(), out.Close()) }()
	if _, err := o.request(""); err != nil { // what is wrong with the flags is said before, not after
		return "", nil, err
	}
	choice, err := a.pick(cmd.Context(), in, out, o)
	if err != nil {
		return "", nil, err
	}
	o.reason, o.ticket = choice.Reason, choice.Ticket
	return choice.Role, args, nil
}

// pick shows the roles of the person on a terminal, which need not be where stdout goes.
func (a *app) pick(ctx context.Context, in, out *os.File, o *roleOptions) (picker.Choice, error) {
	s, err := a.open(ctx)
	if err != nil {
		return picker.Choice{}, err
	}
	v, err := s.Roles(ctx)
	if err != nil {
		return picker.Choice{}, err
	}
	s.listRoles(v)
	choice, err := picker.Run(ctx, picker.Config{Roles: a.pickable(v), Reason: o.reason, Ticket: o.ticket, In: in, Out: out, Colour: a.getenv("NO_COLOR") == ""})
	if errors.Is(err, picker.ErrCancelled) {
		err = errCancelled
	}
	return choice, err
}

// pickable are roles as the picker shows them.
func (a *app) pickable(v api.Roles) []picker.Role {
	uses, now := a.uses(), a.now()
	var out []picker.Role
	for _, r := range v.Roles {
		p := picker.Role{Name: r.Name, Account: r.Account, Description: r.Description, Max: span(r.MaxSeconds), Mode: r.Mode, Use: uses[r.Name].score(now),
			NeedsReason: slices.Contains(r.Needs, api.NeedReason), NeedsTicket: slices.Contains(r.Needs, api.NeedTicket), NeedsFresh: slices.Contains(r.Needs, api.NeedFresh)}
		if !r.Allowed {
			p.Refused = firstOf(r.Why, "policy does not permit it")
		}
		out = append(out, p)
	}
	return out
}

// interactive reports whether somebody sits before this command: its stdin is a terminal.
func (a *app) interactive() bool { return a.stdin != nil && term.IsTerminal(int(a.stdin.Fd())) }
