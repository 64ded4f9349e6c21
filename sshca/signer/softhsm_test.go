//go:build pkcs11

package signer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sega/keychain/secret"
	"sega/sshca"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// newToken makes a token of SoftHSM and returns what a place of a key in it begins with.
func newToken(t *testing.T) (token string, c Config) {
	t.Helper()
	util := needs(t, "softhsm2-util")
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command(util, "--init-token", "--free", "--label", "sega", "--so-pin", "12345678", "--pin", "87654321").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	return "pkcs11:module-path=" + softHSM + ";token=sega;", Config{Secret: func(path string) (secret.Secret, error) {
		if path != "hsm.pin" {
			return secret.Secret{}, fmt.Errorf("no secret %s", path)
		}
		return secret.FromString("87654321"), nil
	}}
}

// TestSoftHSM: four keys of one token sign beside each other, and close without disturbing the others.
func TestSoftHSM(t *testing.T) {
	token, c := newToken(t)
	place := func(name, id string) string { return token + "object=" + name + ";id=" + id + "?pin-source=hsm.pin" }
	if _, err := Open(t.Context(), place("access", "01"), c); err == nil {
		t.Error("a key that is not there was opened")
	}
	var keys []*remote
	for i, name := range []string{"access", "hop", "front", "host"} {
		id := fmt.Sprintf("0%d", i+1)
		made, err := Create(t.Context(), place(name, id), c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Create(t.Context(), place(name, id), c); err == nil {
			t.Errorf("%s was made twice", name)
		}
		ca, err := Open(t.Context(), place(name, id), c)
		if err != nil {
			t.Fatal(err)
		}
		if sshca.MarshalLine(ca.PublicKey()) != sshca.MarshalLine(made) {
			t.Errorf("%s: another key was opened", name)
		}
		keys = append(keys, ca.(*remote))
	}
	for _, key := range keys {
		if err := certifies(t, key); err != nil {
			t.Error(err)
		}
	}
	lints(t, keys[0])
	keys[0].drop()
	for _, key := range keys {
		if err := certifies(t, key); err != nil {
			t.Errorf("after one was closed: %v", err)
		}
	}
	for _, key := range keys {
		_ = key.Close()
	}
}

// TestSoftHSMGone: a wrong PIN opens nothing, and errors repeat none.
func TestSoftHSMGone(t *testing.T) {
	token, c := newToken(t)
	place := token + "object=access;id=01?pin-source=hsm.pin"
	if _, err := Create(t.Context(), place, c); err != nil {
		t.Fatal(err)
	}
	wrong := Config{Secret: func(string) (secret.Secret, error) { return secret.FromString("canary00"), nil }}
	if _, err := Open(t.Context(), place, wrong); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("with a wrong PIN: %v", err)
	}
	ca, err := Open(t.Context(), place, c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ca.(*remote).Close() }()
	ca.(*remote).drop()
	t.Setenv("SOFTHSM2_CONF", "/dev/null") // the module, opened anew, finds no token
	if err := certifies(t, ca); !errors.Is(err, sshca.ErrSigner) {
		t.Errorf("without the token: %v", err)
	}
}
