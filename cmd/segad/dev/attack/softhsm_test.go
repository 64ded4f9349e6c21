//go:build linux && pkcs11

package attack

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/cmd/segad/dev/devtest"
	"sega/keychain/secret"
	"sega/sshca"
	"sega/sshca/signer"
)

// inSoftHSM makes the keys of the four CAs in a token of SoftHSM.
func inSoftHSM(t *testing.T) caKeys {
	t.Helper()
	devtest.Need(t, "softhsm2-util")
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "sega", "--so-pin", "12345678", "--pin", "87654321").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	c := signer.Config{Secret: func(string) (secret.Secret, error) { return secret.FromString("87654321"), nil }}
	var keys caKeys
	for i, to := range []*ssh.Signer{&keys.Access, &keys.Hop, &keys.Front, &keys.Host} {
		place := fmt.Sprintf("pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=sega;object=ca-%d;id=0%d?pin-source=pin", i, i+1)
		if _, err := signer.Create(t.Context(), place, c); err != nil {
			t.Fatal(err)
		}
		key, err := signer.Open(t.Context(), place, c)
		if err != nil {
			t.Fatal(err)
		}
		*to = key
	}
	return keys
}

// TestSoftHSMEndToEnd: with all four CAs in an HSM a stock ssh goes through the bastion to a stock sshd.
func TestSoftHSMEndToEnd(t *testing.T) {
	devtest.Need(t, "ssh")
	s := newSSHWorldOf(t, inSoftHSM(t), nil)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	alice := s.login("alice")
	c := into[api.Certificate](t, s.send(alice.post(api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(plain.PublicKey())})))
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"id": string(pem.EncodeToMemory(block)), "id-cert.pub": c.Certificate + "\n", "known_hosts": "@cert-authority * " + strings.Join(c.FrontCAs, "\n@cert-authority * ") + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("ssh", "-F", "none", "-i", filepath.Join(dir, "id"), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "UserKnownHostsFile="+filepath.Join(dir, "known_hosts"),
		"-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias="+bastionName, "-p", port, "-l", s.account+"+host-a", host, "echo from the host").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "from the host") {
		t.Errorf("ssh: %v\n%s", err, out)
	}
	if n := s.count(`SELECT count(*) FROM certs WHERE profile IN ('access', 'hop', 'front')`); n < 3 {
		t.Errorf("%d certificates are recorded", n)
	}
}
