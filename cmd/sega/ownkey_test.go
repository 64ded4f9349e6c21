package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const onePublicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

// TestOwnKey: the public half comes from the file, or from the one beside a private half, which is never read for more.
func TestOwnKey(t *testing.T) {
	a, _, _ := testApp(t)
	for name, tt := range map[string]struct {
		text, beside string
		want         string // of the error; "" for a key
	}{
		"a public key":                {onePublicKey + " me@laptop\n", "", ""},
		"a private one and its half":  {"-----BEGIN OPENSSH PRIVATE KEY-----\nnothing\n-----END OPENSSH PRIVATE KEY-----\n", onePublicKey + "\n", ""},
		"a private one of two halves": {"-----BEGIN OPENSSH PRIVATE KEY-----\n", onePublicKey + "\n" + onePublicKey, "no key that can be used"},
		"with options":                {`command="x" ` + onePublicKey, "", "no key that can be used"},
		"DSA":                         {"ssh-dss AAAA", "", "no key that can be used"},
		"nothing":                     {"", "", "no key that can be used"},
		"too much":                    {strings.Repeat(" ", maxKeyFile+1), "", "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "id")
			for file, text := range map[string]string{path: tt.text, path + ".pub": tt.beside} {
				if text == "" && file != path {
					continue
				}
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			k, err := a.ownKey(t.Context(), ownKeyOptions{file: path})
			switch {
			case tt.want == "" && (err != nil || k.public == nil || k.path != path):
				t.Errorf("got %+v, %v", k, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestOwnKeyByPublicHalf: who names id.pub means id, where that is there; else the key is in an agent.
func TestOwnKeyByPublicHalf(t *testing.T) {
	a, _, _ := testApp(t)
	dir := t.TempDir()
	for _, name := range []string{"id", "id.pub", "agents.pub"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(onePublicKey+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for named, want := range map[string]string{"id": "id", "id.pub": "id", "agents.pub": "agents.pub"} {
		k, err := a.ownKey(t.Context(), ownKeyOptions{file: filepath.Join(dir, named)})
		if err != nil || k.path != filepath.Join(dir, want) {
			t.Errorf("%s: %q, %v", named, k.path, err)
		}
	}
}

// TestDropSSH: with the login goes every certificate, and nothing that is not of a login.
func TestDropSSH(t *testing.T) {
	a, _, _ := testApp(t)
	dir, err := a.path("ssh")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.dropSSH(); err != nil {
		t.Errorf("with nothing there: %v", err)
	}
	for _, name := range []string{"id", "id.pub", "id-cert.pub", "own-0123456789abcdef-cert.pub", "own-fedcba9876543210-cert.pub", "known_hosts"} {
		if err := a.writeFile("ssh/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.dropSSH(); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if diff := cmp.Diff([]string{filepath.Join(dir, "known_hosts")}, left); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}
