package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/crypto/ssh"

	"sega/broker"
	"sega/cmd/segad/config"
	"sega/keychain/secret"
	"sega/sshca"
	"sega/sshca/softkey"
)

// wireCAs opens the keys of the CAs, and lets the broker read anew which ones there are: a rotation needs no restart.
func wireCAs(c *broker.Config, path string, file config.CA, log *slog.Logger) (err error) {
	if c.CAs, err = openCAs(path, file, log); err != nil {
		return err
	}
	c.ReloadCAs = func(context.Context) (broker.CAs, error) {
		now, err := config.LoadBroker(path)
		if err != nil {
			return broker.CAs{}, err
		}
		return openCAs(path, now.CA, log)
	}
	return nil
}

func openCAs(path string, file config.CA, log *slog.Logger) (cas broker.CAs, err error) {
	pass, err := config.Secret(config.Path(path, file.Passphrase))
	if err != nil {
		return cas, err
	}
	defer pass.Wipe()
	for _, ca := range []struct {
		name   string
		places config.Keys
		to     *[]ssh.Signer
		lines  []string
		beside *[]ssh.PublicKey
	}{
		{"access", file.Access, &cas.Access, file.MoreAccess, &cas.MoreAccess}, {"hop", file.Hop, &cas.Hop, file.MoreHop, &cas.MoreHop},
		{"front", file.Front, &cas.Front, file.MoreFront, &cas.MoreFront}, {"host", file.Host, &cas.Host, file.MoreHost, &cas.MoreHost},
	} {
		if *ca.to, err = openKeys(path, ca.places, pass, log.With("ca", ca.name)); err != nil {
			return cas, fmt.Errorf("%s CA: %w", ca.name, err)
		}
		bundle, err := sshca.ParseBundle(ca.lines)
		if err != nil {
			return cas, fmt.Errorf("more_%s: %w", ca.name, err)
		}
		*ca.beside = bundle
	}
	return cas, nil
}

// openKeys opens the keys of one CA. One that cannot be opened is left out where there are others: the broker is not ready
// while the one that signs is missing.
func openKeys(path string, places config.Keys, pass secret.Secret, log *slog.Logger) (signers []ssh.Signer, err error) {
	if len(places) == 0 {
		return nil, errors.New("no key configured\nrun: segad ca init")
	}
	for _, place := range places {
		signer, failed := softkey.Open(config.Path(path, place), pass)
		if failed != nil {
			log.Error("a key of a CA was not opened", "error", failed)
			err = errors.Join(err, failed)
			continue
		}
		signers = append(signers, signer)
	}
	if len(signers) == 0 {
		return nil, err
	}
	return signers, nil
}
