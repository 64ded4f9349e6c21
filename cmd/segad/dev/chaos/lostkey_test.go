//go:build linux

package chaos

import (
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/crypto/ssh"

	"sega/cmd/segad/config"
	"sega/cmd/segad/dev/devtest"
	"sega/sshca/softkey"
)

// startTime bounds how long a broker may take to open its keys and look: on a busy machine each that is a file takes seconds.
const startTime = time.Minute

// TestRestoreBeforeRotation goes through the drill of operations.md: a rotation whose old key is destroyed, and then a database from before
// it. The broker starts and issues nothing, an operator has it adopt the key that is there, and a login works; a copy of the destroyed key
// opens nothing at any time.
func TestRestoreBeforeRotation(t *testing.T) {
	x := newRestoring(t, true)
	place, next := x.file.CA.Access[0], x.path("access-2")
	pass, err := config.Secret(x.file.CA.Passphrase)
	if err != nil {
		t.Fatal(err)
	}
	thief, err := softkey.Open(place, pass)
	if err != nil {
		t.Fatal(err)
	}
	backup := x.backup()

	x.mustSegad("ca", "init", "--key", next, "--passphrase", x.file.CA.Passphrase)
	x.configureAccess(place, next)
	x.ca("publish")
	devtest.Eventually(t, startTime, "the key is not switched to", func() error {
		if r := x.operator().Run("segad", "ca", "rotate", "access", "--yes", "--config", x.path("broker.yaml")); r.Code != 0 {
			return errors.New(r.Err)
		}
		return nil
	})
	x.ca("retire", "--force")
	x.gap = mustCertify(t, x.alice)
	if out, errs, err := x.run(x.gap, "echo rotated"); out != "rotated\n" {
		t.Fatalf("after the rotation: %q %q %v", out, errs, err)
	}
	x.configureAccess(next)
	if err := os.Remove(place); err != nil {
		t.Fatal(err)
	}

	x.setBack(backup, true)
	x.broker.start()
	devtest.Eventually(t, startTime, "the broker does not say that it lacks the key", func() error {
		if r := x.operator().Run("segad", "ca", "list", "--config", x.path("broker.yaml")); !strings.Contains(r.Out, "segad ca adopt access") {
			return errors.New(r.Out + r.Err)
		}
		return nil
	})
	if _, err := x.get("/readyz"); err == nil || !strings.Contains(err.Error(), "access CA is not among those") {
		t.Errorf("readyz without the key that signs: %v", err)
	}
	x.ca("adopt", "--reason", "restored from before the rotation")
	x.awaitBroker()
	if code := x.bastion.stop(); code != 0 {
		t.Errorf("stop the bastion: exit %d", code)
	}
	x.startBastion("--accept-new-log")
	x.opensNothing()
	alice, _ := x.login("alice@example.com", nil)
	id := mustCertify(t, alice)
	if out, errs, err := x.run(id, "echo after"); out != "after\n" {
		t.Errorf("with the adopted key: %q %q %v", out, errs, err)
	}
	forged := *id.cert // as good as the certificate that was let in, but for the key that has signed it
	if err := forged.SignCert(rand.Reader, thief); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(&forged, id.plain)
	if err != nil {
		t.Fatal(err)
	}
	if out, _, err := x.run(identity{signer: signer, cert: &forged}, "echo forged"); err == nil || out != "" {
		t.Errorf("a certificate of the destroyed key was let in: %q", out)
	}
}

func (x *restoring) operator() *devtest.Person { return x.Person("root@dev.sega.invalid") }

func (x *restoring) mustSegad(args ...string) {
	x.t.Helper()
	if r := x.operator().Run("segad", args...); r.Code != 0 {
		x.t.Fatalf("segad %v: exit %d\n%s%s", args, r.Code, r.Out, r.Err)
	}
}

// ca takes a step of the access CA.
func (x *restoring) ca(step string, more ...string) {
	x.t.Helper()
	x.mustSegad(append([]string{"ca", step, "access", "--yes", "--config", x.path("broker.yaml")}, more...)...)
}

// configureAccess names the keys of the access CA in the broker's file, which it reads anew by itself.
func (x *restoring) configureAccess(places ...string) {
	x.t.Helper()
	x.file.CA.Access = places
	raw, err := yaml.Marshal(x.file)
	if err != nil {
		x.t.Fatal(err)
	}
	writeFile(x.t, x.path("broker.yaml"), raw)
}
