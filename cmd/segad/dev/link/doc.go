// Package link is a bad network: a laptop's network namespace, joined to the one of the process by packets
// that a goroutine carries between two TUN devices, late, not all of them, and not faster than it is told.
// Tests alone use it. It needs root, and leaves the machine's own network alone: the process that uses it
// runs in a namespace of its own (see the tests' TestMain).
//
// It serves the flow "SSH" of docs/architecture.md, held to a link of 200 ms that loses 2 % of its packets.
package link
