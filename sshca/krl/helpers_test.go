package krl

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// made is when every list of the tests was made.
var made = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// private is the Ed25519 key of a name, the same in every run.
func private(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func signer(t testing.TB, name string) ssh.Signer { return signerOf(t, private(name)) }

func signerOf(t testing.TB, key any) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func public(t testing.TB, name string) ssh.PublicKey { return signer(t, name).PublicKey() }

// rsaKey is one for all tests: it takes a second to make.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		panic(err)
	}
	return k
})

func ecdsaKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// certificate is one of a CA for the key of a name.
func certificate(t testing.TB, ca ssh.Signer, name string, serial uint64, id string) *ssh.Certificate {
	t.Helper()
	c := &ssh.Certificate{Key: public(t, name), Serial: serial, CertType: ssh.UserCert, KeyId: id, ValidPrincipals: []string{"someone"}, ValidBefore: ssh.CertTimeInfinity}
	if err := c.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	return c
}

func marshal(t testing.TB, l List) []byte {
	t.Helper()
	data, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// program returns the path of a program of OpenSSH. Where it is missing the test is skipped, but never in CI:
// there the oracle is the point.
func program(t testing.TB, name string) string {
	t.Helper()
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

func writeFile(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func line(key ssh.PublicKey) string {
	return strings.TrimRight(string(ssh.MarshalAuthorizedKey(key)), "\n")
}

// privateFile writes an unencrypted key for the programs of OpenSSH; tests alone do that.
func privateFile(t testing.TB, key any) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "key", pem.EncodeToMemory(block))
}

func base64Raw(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }
