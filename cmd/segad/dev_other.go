//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newDev() *cobra.Command {
	return &cobra.Command{Use: "dev", Short: "Run everything on loopback (Linux only)", Example: "  segad dev up",
		RunE: func(*cobra.Command, []string) error { return errors.New("`segad dev` runs on Linux only") }}
}
