package main

import (
	"errors"
	"fmt"

	"sega/keychain"
)

// place makes sure that a session can be kept before a person is sent through MFA for it. What is
// stored and cannot be read any more is moved aside: a login replaces it anyway.
func (a *app) place() error {
	err := a.ready()
	switch {
	case errors.Is(err, keychain.ErrNoKey), errors.Is(err, keychain.ErrCorrupt), errors.Is(err, keychain.ErrOtherBackend):
	default:
		return err
	}
	c, configErr := a.secretsConfig()
	if configErr != nil {
		return configErr
	}
	aside, asideErr := keychain.Aside(c)
	if asideErr != nil {
		return errors.Join(err, asideErr)
	}
	e := explanationOf(err, "")
	fmt.Fprintf(a.err, "sega: %s\n  what was stored is now in %s\n", escape(e.Detail), escape(aside))
	a.store = nil
	return a.ready()
}

// ready says so where the first secret's key finds no better place than a file.
func (a *app) ready() error {
	store, err := a.secrets()
	if err != nil {
		return err
	}
	before := store.Describe()
	if err := store.Ready(); err != nil {
		return err
	}
	if after := store.Describe(); before.Backend == "" && after.Backend == keychain.BackendFile && a.getenv("SEGA_KEYRING_BACKEND") == "" {
		fmt.Fprintf(a.err, "sega: no keyring of this system takes the key of what is stored: %s\n", escape(after.Text))
	}
	return nil
}
