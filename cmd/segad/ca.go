package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/audit"
	"sega/cmd/segad/config"
	"sega/sshca"
	"sega/sshca/softkey"
)

// hostLife is how long a host's certificate lives where nothing else is said.
const hostLife = 30 * 24 * time.Hour

func newCASignHost() *cobra.Command {
	var dir, passphrase, name string
	life := hostLife
	c := &cobra.Command{Use: "sign-host PUBLIC-KEY-FILE", Short: "Sign a host's key with the host CA and print the certificate", Args: exactly(1),
		Example: "  segad ca sign-host --dir /etc/sega/ca --passphrase /etc/sega/ca.pass --name web-1 ssh_host_ed25519_key.pub > ssh_host_ed25519_key-cert.pub",
		RunE: func(cmd *cobra.Command, args []string) error {
			pass, err := config.Secret(passphrase)
			if err != nil {
				return err
			}
			signer, err := softkey.Open(filepath.Join(dir, "host"), pass)
			if err != nil {
				return fmt.Errorf("open the host CA: %w", err)
			}
			line, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			key, err := sshca.ParseKey(strings.TrimSpace(string(line)))
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			// No broker counts these serials: seconds since 1970 rise, and are unique for one operator.
			serial, err := sshca.NewSerial(1, uint32(time.Now().Unix()))
			if err != nil {
				return err
			}
			after, before := sshca.Host.Window(time.Now(), life)
			cert, err := sshca.NewHost(sshca.HostParams{Key: key, Serial: serial, KeyID: "host " + name, Names: []string{name}, ValidAfter: after, ValidBefore: before})
			if err != nil {
				return err
			}
			if err := sshca.Sign(cert, sshca.Host, signer); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), sshca.MarshalLine(cert))
			return nil
		}}
	c.Flags().StringVar(&dir, "dir", "", "folder of the key files")
	c.Flags().StringVar(&passphrase, "passphrase", "", "file that holds the passphrase")
	c.Flags().StringVar(&name, "name", "", "the host's ID in the broker's inventory")
	c.Flags().DurationVar(&life, "life", hostLife, "how long it is valid, 2160h at the most")
	for _, f := range []string{"dir", "passphrase", "name"} {
		_ = c.MarkFlagRequired(f)
	}
	return c
}

func newCALogKey() *cobra.Command {
	var out, origin string
	c := &cobra.Command{Use: "log-key", Short: "Create the key that signs the audit log's checkpoints, and print its public half for the bastions", Args: exactly(0),
		Example: "  segad ca log-key --origin sega.corp.example/audit --out /etc/sega/log.key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := os.Lstat(out); err == nil {
				return fmt.Errorf("%s exists already", out)
			}
			key, err := audit.GenerateLogKey(origin)
			if err != nil {
				return err
			}
			if err := config.WriteFile(out, key.Reveal(), 0o600); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), key.VerifierKey())
			return nil
		}}
	c.Flags().StringVar(&out, "out", "", "file of the new key")
	c.Flags().StringVar(&origin, "origin", "", "name of the log, like sega.corp.example/audit")
	for _, f := range []string{"out", "origin"} {
		_ = c.MarkFlagRequired(f)
	}
	return c
}

// caNames are the four CAs of design.md §4 and the files of their keys.
var caNames = []string{"access", "hop", "front", "host"}

func newCA() *cobra.Command {
	return group(&cobra.Command{Use: "ca", Short: "Make and show the keys of the four SSH CAs", Example: "  segad ca init --dir /etc/sega/ca --passphrase /etc/sega/ca.pass"},
		newCAInit(), newCAList(), newCASignHost(), newCALogKey())
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
