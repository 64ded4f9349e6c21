//go:build man

package main

import (
	"strconv"

	"github.com/spf13/cobra"
)

// manSection is what every page says.
type manSection struct {
	title string
	items [][2]string
}

// manSections are what pages have in common, in the order of man-pages(7).
func manSections(c *cobra.Command) []manSection {
	codes := [][2]string{}
	for _, v := range []struct {
		code int
		text string
	}{
		{exitDone, "done"}, {exitFailed, "failed"}, {exitUsage, "wrong usage, or a question without a terminal and without --yes"}, {exitDenied, "denied"},
		{exitLogin, "login needed"}, {exitCancelled, "cancelled by the person"}, {exitRevoked, "revoked"}, {exitUnreachable, "broker or identity provider unreachable, or what answers in its place is not trusted"},
	} {
		codes = append(codes, [2]string{strconv.Itoa(v.code), v.text})
	}
	if c.Name() == "exec" || c.Name() == "ssh" {
		codes = append(codes, [2]string{"any other", "that of the command that ran; 128+n where signal n ended it. A failure of sega's own begins with sega: on stderr, and no command ran"})
	}
	return []manSection{
		{"EXIT STATUS", codes},
		{"ENVIRONMENT", [][2]string{
			{"SEGA_BROKER", "the broker, like sega.corp.example; default: the one of the last login"},
			{"SEGA_CA_FILE", "PEM file that alone is trusted for the broker's certificate; default: the system's trust"},
			{"SEGA_HOME", "sega's folder; default: sega in the user's configuration folder"},
			{"SEGA_KEYRING_BACKEND", "where the key of the stored secrets goes"},
			{"SEGA_CONSOLE_BROWSER", "browser of sega console, like --browser"},
			{"SEGA_NO_AGENT", "set to anything, it is --no-agent"},
			{"SEGA_AUDIT_IDENTITY", "file with a reviewer's age identity, which opens recordings"},
			{"SEGA_ERRORS", "json: errors are one JSON object on stderr"},
			{"BROWSER", "browser for sega login"},
			{"NO_COLOR", "set to anything, it keeps colours from full screens"},
		}},
		{"FILES", [][2]string{
			{"$SEGA_HOME/secrets/", "session and credentials, sealed under a key of the system's store, or else of a file beside them"},
			{"$SEGA_HOME/broker.json", "the broker of the last login, with the pinned key of its log"},
			{"$SEGA_HOME/checkpoint-*", "the latest checkpoint of each broker's log that this machine has seen"},
			{"$SEGA_HOME/agent/", "socket and log of the agent"},
			{"$SEGA_HOME/ssh/", "short-lived key and certificate of the block of sega configure --ssh"},
			{"~/.ssh/sega.conf", "that block; ~/.ssh/config includes it first"},
			{"$SEGA_HOME/lists/", "names of roles, hosts, sessions and people for completion, until the logout"},
			{"$SEGA_HOME/turns/", "empty files: without an agent of many that ask at once one asks"},
			{"$SEGA_HOME/browser/", "profiles of sega console --browser, with the cookies of their sessions"},
			{"$SEGA_HOME/uses.json", "how much each role was used, for the order in which they are offered"},
		}},
	}
}
