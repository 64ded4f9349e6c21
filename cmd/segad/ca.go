package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sega/cmd/segad/config"
	"sega/sshca"
	"sega/sshca/softkey"
)

// caNames are the four CAs of design.md §4 and the files of their keys.
var caNames = []string{"access", "hop", "front", "host"}

func newCA() *cobra.Command {
	return group(&cobra.Command{Use: "ca", Short: "Make and show the keys of the four SSH CAs", Example: "  segad ca init --dir /etc/sega/ca --passphrase /etc/sega/ca.pass"},
		newCAInit(), newCAList())
}

func newCAInit() *cobra.Command {
	var dir, passphrase string
	c := &cobra.Command{Use: "init", Short: "Create the keys that do not exist yet, each in a passphrase-encrypted file", Args: exactly(0),
		Example: "  segad ca init --dir /etc/sega/ca --passphrase /etc/sega/ca.pass",
		RunE: func(cmd *cobra.Command, _ []string) error {
			pass, err := config.Secret(passphrase)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			for _, name := range caNames {
				path := filepath.Join(dir, name)
				if _, err := os.Lstat(path); err == nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "%s exists already\n", path)
					continue
				}
				key, err := softkey.Create(path, pass, softkey.Ed25519)
				if err != nil {
					return fmt.Errorf("create the %s CA: %w", name, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\n", name, sshca.MarshalLine(key))
			}
			return nil
		}}
	c.Flags().StringVar(&dir, "dir", "", "folder of the key files")
	c.Flags().StringVar(&passphrase, "passphrase", "", "file that holds the passphrase")
	for _, f := range []string{"dir", "passphrase"} {
		_ = c.MarkFlagRequired(f)
	}
	return c
}

func newCAList() *cobra.Command {
	var dir, passphrase string
	c := &cobra.Command{Use: "list", Short: "Show the public keys", Args: exactly(0), Example: "  segad ca list --dir /etc/sega/ca --passphrase /etc/sega/ca.pass",
		RunE: func(cmd *cobra.Command, _ []string) error {
			pass, err := config.Secret(passphrase)
			if err != nil {
				return err
			}
			for _, name := range caNames {
				signer, err := softkey.Open(filepath.Join(dir, name), pass)
				if err != nil {
					return fmt.Errorf("open the %s CA: %w", name, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\n", name, sshca.MarshalLine(signer.PublicKey()))
			}
			return nil
		}}
	c.Flags().StringVar(&dir, "dir", "", "folder of the key files")
	c.Flags().StringVar(&passphrase, "passphrase", "", "file that holds the passphrase")
	for _, f := range []string{"dir", "passphrase"} {
		_ = c.MarkFlagRequired(f)
	}
	return c
}
