// Package agent owns the laptop's agent: the process that holds a login's session, role credentials and
// SSH key in memory, answers commands over a Unix socket, refreshes what runs out, and drops all of it
// within a second of a revocation. The client's side of the socket is here too.
//
// It does not own how a session is stored, renewed or shown to the broker: that comes in as a Login.
// It serves the flow "AWS credentials" of docs/architecture.md.
package agent
