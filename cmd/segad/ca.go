package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sega/audit"
	"sega/broker/api"
	"sega/cmd/segad/config"
	"sega/keychain/atomicfile"
	"sega/keychain/secret"
	"sega/sshca"
	"sega/sshca/softkey"
)

// hostLife is how long a host's certificate lives where nothing else is said.
const hostLife = 30 * 24 * time.Hour

func newCASignHost() *cobra.Command {
	var dir, place, passphrase, name string
	life := hostLife
	c := &cobra.Command{Use: "sign-host PUBLIC-KEY-FILE", Short: "Sign a host's key with the host CA, without the broker and its log, and print the certificate", Args: exactly(1),
		Long: `Sign a host's key with the host CA and print the certificate: for an emergency, or where no broker runs yet. No broker is asked, so the audit
log has no event of it, its serial is of the era 0, which no broker gives, and segad ca retire does not know when it expires. Hosts that are enrolled
(sega host enroll) get theirs from the broker.`,
		Example: "  segad ca sign-host --dir /etc/sega/ca --passphrase /etc/sega/ca.pass --name web-1 ssh_host_ed25519_key.pub > ssh_host_ed25519_key-cert.pub",
		RunE: func(cmd *cobra.Command, args []string) error {
			if place == "" {
				place = filepath.Join(dir, "host")
			}
			signer, err := openPlace(cmd.Context(), place, passphrase)
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
			// No broker counts these serials, and none gives any of the era 0: seconds since 1970 rise, and are unique for one operator.
			serial, err := sshca.NewSerial(0, uint32(time.Now().Unix()))
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
	c.Flags().StringVar(&place, "key", "", "place of the host CA's key, like pkcs11:…, where it is not the file host of --dir")
	c.Flags().StringVar(&passphrase, "passphrase", "", "file that holds the passphrase of a key file")
	c.Flags().StringVar(&name, "name", "", "the host's ID in the broker's inventory")
	c.Flags().DurationVar(&life, "life", hostLife, "how long it is valid, 2160h at the most")
	_ = c.MarkFlagRequired("name")
	c.MarkFlagsOneRequired("dir", "key")
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
			if err := atomicfile.Replace(out, key.Reveal(), 0o600); err != nil {
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
	c := group(&cobra.Command{Use: "ca", Short: "Make, show and rotate the keys of the four SSH CAs", Example: "  segad ca init --dir /etc/sega/ca --passphrase /etc/sega/ca.pass"},
		newCAInit(), newCAList(), newCASignHost(), newCALogKey())
	c.AddCommand(newCASteps()...)
	return c
}

func newCAInit() *cobra.Command {
	var dir, place, passphrase string
	c := &cobra.Command{Use: "init", Short: "Create the keys that do not exist yet, or one key", Args: exactly(0),
		Long: `Create the key files of the four CAs that do not exist yet in a folder, each encrypted under the passphrase. With --key create one key: in a file, or in a
token of PKCS#11 (ECDSA P-256, by a place that has object and id). Keys of AWS KMS and of an ssh-agent are made by their own tools.`,
		Example: `  segad ca init --dir /etc/sega/ca --passphrase /etc/sega/ca.pass
  segad ca init --key /etc/sega/ca/access-2 --passphrase /etc/sega/ca.pass
  segad ca init --key 'pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=sega;object=access;id=01?pin-source=/etc/sega/hsm.pin'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if place != "" {
				key, err := createKey(cmd.Context(), place, passphrase)
				if err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), sshca.MarshalLine(key))
				}
				return err
			}
			return initDir(cmd, dir, passphrase)
		}}
	c.Flags().StringVar(&dir, "dir", "", "folder of the key files")
	c.Flags().StringVar(&place, "key", "", "place of one key: a path or pkcs11:…")
	c.Flags().StringVar(&passphrase, "passphrase", "", "file that holds the passphrase of key files")
	c.MarkFlagsOneRequired("dir", "key")
	c.MarkFlagsMutuallyExclusive("dir", "key")
	return c
}

func initDir(cmd *cobra.Command, dir, passphrase string) error {
	pass, err := passphraseOf(passphrase)
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
}

func newCAList() *cobra.Command {
	var dir, passphrase, path string
	var asJSON bool
	c := &cobra.Command{Use: "list", Short: "Show the keys, where their rotation stands and who has seen it", Args: exactly(0),
		Example: "  segad ca list --config /etc/sega/broker.yaml\n  segad ca list --dir /etc/sega/ca --passphrase /etc/sega/ca.pass",
		Long:    "Show the keys of the CAs as the running broker knows them, who has seen the next one, and which step comes next. With --dir show the public keys of a folder's key files alone.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return listDir(cmd, dir, passphrase)
			}
			socket, err := operatorsSocket(path)
			if err != nil {
				return err
			}
			cas, err := askBroker[api.CAs](cmd.Context(), socket, http.MethodGet, api.RouteCAs, nil)
			if err != nil {
				return err
			}
			if !asJSON {
				showCAs(cmd.OutOrStdout(), cas, "")
				return nil
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			for _, ca := range cas.CAs {
				if err := out.Encode(ca); err != nil {
					return err
				}
			}
			return nil
		}}
	c.Flags().StringVar(&path, "config", "", "configuration file of the running broker (YAML)")
	c.Flags().BoolVar(&asJSON, "json", false, "one object a line, with --config")
	c.Flags().StringVar(&dir, "dir", "", "folder of the key files")
	c.Flags().StringVar(&passphrase, "passphrase", "", "file that holds the passphrase")
	c.MarkFlagsOneRequired("config", "dir")
	c.MarkFlagsMutuallyExclusive("config", "dir")
	return c
}

func listDir(cmd *cobra.Command, dir, passphrase string) error {
	pass, err := passphraseOf(passphrase)
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
}

// passphraseOf reads the file of a passphrase, which key files need.
func passphraseOf(path string) (secret.Secret, error) {
	if path == "" {
		return secret.Secret{}, fmt.Errorf("%w: required flag --passphrase is not set: key files need it", errUsage)
	}
	return config.Secret(path)
}
