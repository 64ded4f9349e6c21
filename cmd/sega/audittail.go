package main

import "context"

// sessionTail says how to follow a session.
type sessionTail struct {
	identity, reason string
	raw              bool // let the recorded side reach the reviewer's terminal
}

// tailSession follows what a live SSH session shows.
func (a *app) tailSession(_ context.Context, id string, _ sessionTail) error {
	return withHint(usagef("this sega follows events, and not the screen of %s", id), "run: sega audit play %s", id)
}
