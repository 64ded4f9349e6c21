//go:build linux

package e2e

import (
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
	ca := func(args ...string) devtest.Result {
		return root.Run("segad", append([]string{"ca"}, append(args, "--config", conf)...)...)
	}
	expect(t, ca("list"), 0, "trust", "access  current")
	expect(t, ca("rotate", "access", "--yes"), 1, "no key of the access CA is published", "segad ca publish access")
	expect(t, ca("publish", "access"), 2, "--yes") // nobody to ask
	place := filepath.Join(e.Data, "ca", "access-2")
	expect(t, root.Run("segad", "ca", "init", "--key", place, "--passphrase", filepath.Join(e.Data, "ca.passphrase")), 0, "ssh-ed25519 ")
	text := read(t, conf)
	changed := strings.Replace(text, "access: ca/access\n", "access: [ca/access, ca/access-2]\n", 1)
	if changed == text {
		t.Fatalf("the configuration has no line of the access CA:\n%s", text)
	}
	write(t, conf, changed)
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
}
