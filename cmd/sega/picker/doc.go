// Package picker is the screen on which a person picks a role, where a command was given none: a
// query that filters while it is typed, the roles with what they are and what they need, and a line
// for the reason or the ticket that the picked one asks for.
//
// It owns what stands on the screen, the keys, and which roles fit a query in which order. It does
// not own which roles there are, how often each was used, or what is done with the choice:
// cmd/sega/pick.go brings and takes them. Names and descriptions come from the broker and go through
// tui.Clean before they reach the terminal.
//
// It serves the flow "AWS credentials" of docs/architecture.md.
package picker
