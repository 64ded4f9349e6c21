//go:build !man

package main

import "github.com/spf13/cobra"

// addMan adds nothing: what writes the manual is built with the tag man.
func addMan(*cobra.Command) {}
