// Package dev runs all of sega on one machine's loopback for trying and testing it: an OIDC
// provider (dev/provider) and an STS double (dev/sts) that are strict about what they accept,
// broker and bastion as processes of their own, and a host, which is the system's own sshd where
// there is one. It makes every key and person anew in a data folder and never serves anything but
// loopback. Nobody else imports it.
//
// It serves the flow "try it" of docs/architecture.md.
package dev
