//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sega/cmd/segad/dev/devtest"
)

// testRotateCA changes the access CA's key while the broker runs, by the commands that an operator has.
func testRotateCA(t *testing.T, e *devtest.Env) {
	conf := filepath.Join(e.Data, "broker.yaml")
	root, person := e.Person("root@dev.sega.invalid"), e.LoggedIn(alice)
	ca := segadCA(root, conf)
	expect(t, ca("list"), 0, "trust", "access  current")
	expect(t, ca("rotate", "access", "--yes"), 1, "no key of the access CA is published", "segad ca publish access")
	expect(t, ca("publish", "access"), 2, "--yes") // nobody to ask
	addKey(t, e, root, "access")
	expect(t, ca("adopt", "access", "--yes"), 1, "among those of this broker", "segad ca publish access")
	expect(t, ca("publish", "access", "--yes", "--reason", "yearly"), 0, "next", "dev-bastion")
	devtest.Eventually(t, patience, "the bastion does not see the key", func() error {
		if r := ca("rotate", "access", "--yes"); r.Code != 0 {
			return fmt.Errorf("%s", r.Out+r.Err)
		}
		return nil
	})
	expect(t, person.Sega("ssh", e.Host.Name, "--", "echo", "rotated"), 0, "rotated")
	expect(t, ca("retire", "access", "--yes"), 1, "may live until", "--force")
	expect(t, ca("list"), 0, "old", "segad ca retire access")
	expect(t, ca("list", "--json"), 0, `"ca":"access"`, `"phase":"old"`)
	expect(t, root.Run("segad", "account", "release", "frobnicate", "--config", conf, "--yes"), 1, `the account name "frobnicate" is nobody's`)
}

// segadCA runs `segad ca` for the broker of a configuration.
func segadCA(root *devtest.Person, conf string) func(args ...string) devtest.Result {
	return func(args ...string) devtest.Result {
		return root.Run("segad", append([]string{"ca"}, append(args, "--config", conf)...)...)
	}
}

// addKey makes a second key of a CA and names it in the broker's configuration; it returns its public half.
func addKey(t *testing.T, e *devtest.Env, root *devtest.Person, ca string) string {
	t.Helper()
	made := root.Run("segad", "ca", "init", "--key", filepath.Join(e.Data, "ca", ca+"-2"), "--passphrase", filepath.Join(e.Data, "ca.passphrase"))
	expect(t, made, 0, "ssh-ed25519 ")
	conf := filepath.Join(e.Data, "broker.yaml")
	text := read(t, conf)
	changed := strings.Replace(text, fmt.Sprintf("%[1]s: ca/%[1]s\n", ca), fmt.Sprintf("%[1]s: [ca/%[1]s, ca/%[1]s-2]\n", ca), 1)
	if changed == text {
		t.Fatalf("the configuration has no line of the %s CA:\n%s", ca, text)
	}
	write(t, conf, changed)
	return strings.TrimSpace(made.Out)
}

// rotateHop has the hop CA sign with another key: not before the daemon of the enrolled host has it, and with it a login goes on. It returns what
// stops the daemon.
func (r *hostRig) rotateHop() (stop func()) {
	t, root := r.t, r.e.Person("root@dev.sega.invalid")
	t.Helper()
	ca := segadCA(root, filepath.Join(r.e.Data, "broker.yaml"))
	next := addKey(t, r.e, root, "hop")
	expect(t, ca("publish", "hop", "--yes"), 0)
	expect(t, ca("rotate", "hop", "--yes", "--by-hand"), 1, "host "+r.name+" has not seen the key")
	stop = r.startDaemon()
	devtest.Eventually(t, patience, "the host does not say that it has the key", func() error {
		if v := ca("rotate", "hop", "--yes", "--by-hand"); v.Code != 0 {
			return errors.New(v.Out + v.Err)
		}
		return nil
	})
	into := func() {
		t.Helper()
		expect(t, r.e.LoggedIn(alice).Sega("ssh", r.e.Host.Login+"@"+r.name, "--", "echo", "by the next key"), 0, "by the next key")
	}
	into()
	expect(t, ca("retire", "hop", "--yes", "--force"), 0)
	devtest.Eventually(t, patience, "the host trusts the retired key", func() error {
		if got := strings.TrimSpace(read(t, filepath.Join(r.state(), "hop_cas"))); got != next {
			return errors.New(got)
		}
		return nil
	})
	into()
	return stop
}
