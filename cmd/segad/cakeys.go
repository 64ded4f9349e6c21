package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"golang.org/x/crypto/ssh"

	"sega/broker"
	"sega/cmd/segad/config"
	"sega/sshca"
	"sega/sshca/signer"
	"sega/sshca/softkey"
)

// wireCAs opens the keys of the CAs, and lets the broker read anew which ones there are: a rotation needs no restart.
func wireCAs(ctx context.Context, c *broker.Config, path, known string, file config.CA, log *slog.Logger) (err error) {
	ring := keyring{open: map[string]ssh.Signer{}}
	if ring.known, err = readKnownKeys(known); err != nil {
		return err
	}
	if c.CAs, err = ring.openCAs(ctx, path, file, log); err != nil {
		return err
	}
	c.ReloadCAs = func(ctx context.Context) (broker.CAs, error) {
		now, err := config.LoadBroker(path)
		if err != nil {
			return broker.CAs{}, err
		}
		return ring.openCAs(ctx, path, now.CA, log)
	}
	return nil
}

// keyring has the keys by place that are no files: each is a connection or a session of an HSM, so it stays open while the
// configuration names it, however often that is read. One reads at a time.
type keyring struct {
	open  map[string]ssh.Signer
	known *knownKeys
}

func (k keyring) openCAs(ctx context.Context, path string, file config.CA, log *slog.Logger) (cas broker.CAs, err error) {
	where, err := signerConfig(path, file.Passphrase)
	if err != nil {
		return cas, err
	}
	defer where.Passphrase.Wipe()
	places := map[string]bool{}
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
		var shut []string
		if *ca.to, shut, err = k.openKeys(ctx, ca.places, where, log.With("ca", ca.name)); err != nil {
			return cas, fmt.Errorf("%s CA: %w", ca.name, err)
		}
		if len(shut) > 0 {
			cas.Unopened = append(cas.Unopened, ca.name)
		}
		for _, place := range shut {
			if key := k.known.of(place); key != nil {
				cas.Shut = append(cas.Shut, broker.ShutKey{CA: ca.name, Key: key})
			}
		}
		bundle, err := sshca.ParseBundle(ca.lines)
		if err != nil {
			return cas, fmt.Errorf("more_%s: %w", ca.name, err)
		}
		*ca.beside = bundle
		for _, place := range ca.places {
			places[place] = true
		}
	}
	k.keep(places)
	k.known.keep(places, log)
	return cas, nil
}

// keep closes the keys that are not of these places.
func (k keyring) keep(places map[string]bool) {
	for place, opened := range k.open {
		if places[place] {
			continue
		}
		delete(k.open, place)
		if c, ok := opened.(io.Closer); ok {
			_ = c.Close()
		}
	}
}

// openKeys opens the keys of one CA. One that cannot be opened is left out where there are others: the broker is not ready
// while the one that signs is missing.
func (k keyring) openKeys(ctx context.Context, places config.Keys, where signer.Config, log *slog.Logger) (signers []ssh.Signer, shut []string, err error) {
	if len(places) == 0 {
		return nil, nil, errors.New("no key configured\nrun: segad ca init")
	}
	for _, place := range places {
		opened, failed := k.openKey(ctx, place, where)
		if failed != nil {
			log.Error("a key of a CA was not opened", "error", failed)
			shut, err = append(shut, place), errors.Join(err, failed)
			continue
		}
		signers = append(signers, opened)
		k.known.learn(place, opened.PublicKey())
	}
	if len(signers) == 0 {
		return nil, nil, err
	}
	return signers, shut, nil
}

func (k keyring) openKey(ctx context.Context, place string, where signer.Config) (ssh.Signer, error) {
	if opened, is := k.open[place]; is {
		return opened, nil
	}
	opened, err := signer.Open(ctx, place, where)
	if err == nil && !signer.IsFile(place) {
		k.open[place] = opened
	}
	return opened, err
}

// signerConfig is how keys are opened that a configuration names. Paths in it are relative to it.
func signerConfig(path, passphrase string) (signer.Config, error) {
	c := signer.Config{Path: func(p string) string { return config.Path(path, p) }, Secret: config.Secret}
	if passphrase == "" {
		return c, nil // of CAs whose keys are no files
	}
	pass, err := config.Secret(config.Path(path, passphrase))
	c.Passphrase = pass
	return c, err
}

// placeConfig is signerConfig for a key that stands on the command line.
func placeConfig(place, passphrase string) (signer.Config, error) {
	if signer.IsFile(place) && passphrase == "" {
		return signer.Config{}, fmt.Errorf("%w: required flag --passphrase is not set: key files need it", errUsage)
	}
	return signerConfig("./command-line", passphrase)
}

// openPlace opens a key that stands on the command line.
func openPlace(ctx context.Context, place, passphrase string) (ssh.Signer, error) {
	c, err := placeConfig(place, passphrase)
	if err != nil {
		return nil, err
	}
	return signer.Open(ctx, place, c)
}

// createKey makes one key and returns its public half.
func createKey(ctx context.Context, place, passphrase string) (ssh.PublicKey, error) {
	c, err := placeConfig(place, passphrase)
	if err != nil {
		return nil, err
	}
	if signer.IsFile(place) {
		return softkey.Create(place, c.Passphrase, softkey.Ed25519)
	}
	return signer.Create(ctx, place, c)
}
