// Package clients holds the matrix of real SSH clients: what people use as it comes from their
// distribution, through real broker and bastion processes to a stock sshd, by sega's commands as a
// person would type them. A row checks bytes, exit status, recording and log.
//
// It serves the flow "SSH" of docs/architecture.md; docs/clients.md quotes the table that it prints.
// It does not look at speed (dev/bench) nor at what breaks on the way (dev/chaos).
package clients
