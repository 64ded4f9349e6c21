//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// newHost says where hosts are: their commands know Linux's sshd, accounts and sockets.
func newHost(*app) *cobra.Command {
	return &cobra.Command{Use: "host", Short: "Enrol this machine as a host, and answer its sshd", GroupID: groupHost, Args: cobra.ArbitraryArgs, Example: "  sega host status",
		RunE: func(*cobra.Command, []string) error {
			return withKind(kindConfig, errors.New("the commands of hosts run on Linux"))
		}}
}
