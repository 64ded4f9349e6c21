package softkey

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
)

// openssl reads what Create writes: a CA key is never a prisoner of this program.
func TestOpenSSLReadsTheFile(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is missing")
		}
		t.Skip("openssl is not installed")
	}
	path := filepath.Join(t.TempDir(), "ca.key")
	if err := writeNew(path, keyFile(t, 0)); err != nil {
		t.Fatal(err)
	}
	signer, err := Open(path, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(openssl, "pkey", "-in", path, "-passin", "stdin", "-pubout")
	cmd.Stdin = bytes.NewReader(append(passphrase.Reveal(), '\n'))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(out)
	if block == nil {
		t.Fatalf("openssl wrote %q", out)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ssh.NewPublicKey(key)
	if err != nil || !bytes.Equal(got.Marshal(), signer.PublicKey().Marshal()) {
		t.Errorf("openssl reads another key: %v", err)
	}
}
