// Package flood holds tests alone: it plays strangers who come to a real bastion in crowds, and holds
// against it that its memory is bounded, that what the log says of them is little and exact, and that
// honest people are served meanwhile. SEGA_SOAK=1 has as many come as design and issue name, else a
// tenth or less.
//
// It owns no product code. It serves the flow "ssh" of docs/architecture.md.
package flood
