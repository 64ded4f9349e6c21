//go:build linux

package dev

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"sega/cmd/segad/config"
	"sega/keychain/atomicfile"
	"sega/keychain/secret"
	"sega/sshca"
	"sega/sshca/softkey"
)

// caSection is that of the broker's file as it stands, where a rotation may have put other keys; those of a first start where there is none.
func (e *environment) caSection() (config.CA, error) {
	file, err := config.LoadBroker(e.file("broker.yaml"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return config.CA{Access: config.Keys{"ca/access"}, Hop: config.Keys{"ca/hop"}, Front: config.Keys{"ca/front"}, Host: config.Keys{"ca/host"}, Passphrase: "ca.passphrase"}, nil
	case err != nil:
		return config.CA{}, fmt.Errorf("which keys the CAs have is not known: %w", err)
	}
	return file.CA, nil
}

// openCAs makes the first keys of the CAs where they do not exist yet, and keeps what the host needs: all hop CAs, and the key that signs
// its certificate, the first of the host CA.
func (e *environment) openCAs() (err error) {
	if e.cas, err = e.caSection(); err != nil {
		return err
	}
	conf := e.file("broker.yaml")
	pass, err := config.Secret(config.Path(conf, e.cas.Passphrase))
	if err != nil {
		return err
	}
	for name, keys := range map[string]config.Keys{"access": e.cas.Access, "hop": e.cas.Hop, "front": e.cas.Front, "host": e.cas.Host} {
		if len(keys) == 0 {
			return fmt.Errorf("%s names no key of the %s CA", conf, name)
		}
		if keys[0] == "ca/"+name {
			if err := makeCA(e.file(keys[0]), pass); err != nil {
				return fmt.Errorf("%s CA: %w", name, err)
			}
		}
	}
	if e.hostCA, err = softkey.Open(config.Path(conf, e.cas.Host[0]), pass); err != nil {
		return err
	}
	var lines strings.Builder
	for _, place := range e.cas.Hop {
		hop, err := softkey.Open(config.Path(conf, place), pass)
		if err != nil {
			return err
		}
		e.hopCAs = append(e.hopCAs, hop.PublicKey())
		lines.WriteString(sshca.MarshalLine(hop.PublicKey()) + "\n")
	}
	return atomicfile.Replace(e.file("host", "hop_ca.pub"), []byte(lines.String()), 0o600)
}

func makeCA(path string, pass secret.Secret) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	_, err := softkey.Create(path, pass, softkey.Ed25519)
	return err
}
