package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"sega/broker"
	"sega/broker/api"
	"sega/cmd/segad/config"
	"sega/keychain/atomicfile"
	"sega/keychain/secret"
	"sega/sshca/softkey"
)

func newIssuer() *cobra.Command {
	return group(&cobra.Command{Use: "issuer", Short: "Make, show and publish the keys of the broker as an OIDC issuer for AWS",
		Example: "  segad issuer init --out /etc/sega/issuer-1.key --passphrase /etc/sega/ca.pass"},
		newIssuerInit(), newIssuerList(), newIssuerPublish(), newIssuerCheck(), newIssuerSubject())
}

func newIssuerInit() *cobra.Command {
	var out, passphrase string
	c := &cobra.Command{Use: "init", Short: "Create a key (ECDSA P-256, for ES256) in a passphrase-encrypted file, and print its ID", Args: exactly(0),
		Example: "  segad issuer init --out /etc/sega/issuer-1.key --passphrase /etc/sega/ca.pass",
		RunE: func(cmd *cobra.Command, _ []string) error {
			pass, err := config.Secret(passphrase)
			if err != nil {
				return err
			}
			pub, err := softkey.Create(out, pass, softkey.ECDSAP256)
			if err != nil {
				return err
			}
			id, err := broker.IssuerKeyID(pub.(ssh.CryptoPublicKey).CryptoPublicKey())
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), id)
			return nil
		}}
	c.Flags().StringVar(&out, "out", "", "file of the new key")
	c.Flags().StringVar(&passphrase, "passphrase", "", "file that holds the passphrase")
	for _, f := range []string{"out", "passphrase"} {
		_ = c.MarkFlagRequired(f)
	}
	return c
}

// issuerCommand is a command about the issuer of a broker's configuration.
func issuerCommand(c *cobra.Command, run func(cmd *cobra.Command, file config.Broker, issuer *broker.Issuer, args []string) error) *cobra.Command {
	var path string
	c.RunE = func(cmd *cobra.Command, args []string) error {
		file, err := config.LoadBroker(path)
		if err != nil {
			return err
		}
		issuer, err := openIssuer(path, file)
		if err == nil && issuer == nil {
			err = fmt.Errorf("%s has no section issuer", path)
		}
		if err != nil {
			return err
		}
		return run(cmd, file, issuer, args)
	}
	c.Flags().StringVar(&path, "config", "", "configuration file of the broker (YAML)")
	_ = c.MarkFlagRequired("config")
	return c
}

func newIssuerList() *cobra.Command {
	return issuerCommand(&cobra.Command{Use: "list", Short: "Show the IDs of the configured keys, and which of them signs", Args: exactly(0),
		Example: "  segad issuer list --config /etc/sega/broker.yaml"},
		func(cmd *cobra.Command, file config.Broker, issuer *broker.Issuer, _ []string) error {
			what := "signs"
			for i, id := range issuer.KeyIDs() {
				fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\t%s\n", what, id, file.Issuer.Keys[i])
				what = "published"
			}
			return nil
		})
}

func newIssuerPublish() *cobra.Command {
	return issuerCommand(&cobra.Command{Use: "publish DIR", Short: "Write the documents that AWS reads as files, for a web server in the broker's place", Args: exactly(1),
		Example: "  segad issuer publish --config /etc/sega/broker.yaml ./site"},
		func(cmd *cobra.Command, _ config.Broker, issuer *broker.Issuer, args []string) error {
			for _, doc := range issuer.Documents() {
				path := filepath.Join(args[0], filepath.FromSlash(doc.Path))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					return err
				}
				if err := atomicfile.Replace(path, doc.Body, 0o644); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\n", path, issuer.URL()+doc.Path)
			}
			return nil
		})
}

func newIssuerCheck() *cobra.Command {
	var caFile string
	c := issuerCommand(&cobra.Command{Use: "check", Short: "Fetch the documents as AWS does, and compare them with the configuration", Args: exactly(0),
		Example: "  segad issuer check --config /etc/sega/broker.yaml"},
		func(cmd *cobra.Command, _ config.Broker, issuer *broker.Issuer, _ []string) error {
			web, err := publicClient(caFile)
			if err != nil {
				return err
			}
			defer web.CloseIdleConnections()
			for _, doc := range issuer.Documents() {
				if err := compare(cmd.Context(), web, issuer.URL()+doc.Path, doc.Body); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "ok\t%s\n", issuer.URL()+doc.Path)
			}
			return nil
		})
	c.Flags().StringVar(&caFile, "ca-file", "", "PEM file that alone is trusted; default: the system's trust")
	return c
}

// publicClient follows no redirect, as AWS documents none.
func publicClient(caFile string) (*http.Client, error) {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		if t.TLSClientConfig.RootCAs = x509.NewCertPool(); !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", caFile)
		}
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// compare fetches what is published at url and holds it against want.
func compare(ctx context.Context, web *http.Client, url string, want []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(want))+1))
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: HTTP status %d", url, resp.StatusCode)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s is not what the configuration says\nrestart the broker, or run: segad issuer publish DIR, and copy the files there; then let no new key sign for an hour", url)
	}
	return nil
}

func newIssuerSubject() *cobra.Command {
	return issuerCommand(&cobra.Command{Use: "subject SUB", Short: "Print the sub of a person's tokens, for a trust policy, from the person's sub at the identity provider", Args: exactly(1),
		Example: "  segad issuer subject --config /etc/sega/broker.yaml 00u1example"},
		func(cmd *cobra.Command, file config.Broker, _ *broker.Issuer, args []string) error {
			fmt.Fprintln(cmd.OutOrStdout(), broker.WebSubject(file.IDP.Issuer, args[0]))
			return nil
		})
}

// openIssuer opens the keys of the section issuer; nil where there is none.
func openIssuer(path string, file config.Broker) (*broker.Issuer, error) {
	section := file.Issuer
	if section == nil {
		return nil, nil
	}
	if len(section.Keys) == 0 {
		return nil, errors.New("issuer: no keys configured\nrun: segad issuer init")
	}
	url, passphrase := section.URL, section.Passphrase
	if url == "" {
		url = file.Origin
	}
	if passphrase == "" {
		passphrase = file.CA.Passphrase
	}
	pass, err := config.Secret(config.Path(path, passphrase))
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	defer pass.Wipe()
	keys, err := openIssuerKeys(path, section.Keys, pass)
	if err != nil {
		return nil, err
	}
	return broker.NewIssuer(url, keys)
}

func openIssuerKeys(path string, files []string, pass secret.Secret) (keys []crypto.Signer, err error) {
	for _, name := range files {
		key, err := softkey.OpenSigner(config.Path(path, name), pass)
		if err != nil {
			return nil, fmt.Errorf("issuer: %w", err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// keyless reports whether no role needs the broker's own AWS credentials.
func keyless(file config.Broker) bool {
	for _, r := range file.Roles {
		if r.Mode != api.ModeWebIdentity {
			return false
		}
	}
	return len(file.Roles) > 0
}
