package sshca

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	proofSpace = "proof@sega"
	proofText  = "a text that nobody else has"
)

// dummyToken returns the path of OpenSSH's stand-in for a FIDO2 authenticator, which is always touched
// and believes every PIN (Debian: openssh-tests).
func dummyToken(t testing.TB) string {
	t.Helper()
	const path = "/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so"
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing", path)
		}
		t.Skipf("%s is not installed", path)
	}
	return path
}

// signProof makes a key by ssh-keygen and signs a text with it, as a person would.
func signProof(t *testing.T, namespace, text string, keygen ...string) string {
	t.Helper()
	dir := t.TempDir()
	key, message := filepath.Join(dir, "key"), filepath.Join(dir, "message")
	if err := os.WriteFile(message, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{append([]string{"-q", "-N", "", "-f", key}, keygen...), {"-Y", "sign", "-f", key, "-n", namespace, message}} {
		cmd := exec.Command(program(t, "ssh-keygen"), args...)
		cmd.Env = append(os.Environ(), "SSH_ASKPASS_REQUIRE=never")
		if strings.Contains(strings.Join(keygen, " "), "-sk") {
			cmd.Env = append(cmd.Env, "SSH_SK_PROVIDER="+dummyToken(t))
		}
		cmd.Stdin = strings.NewReader("1234\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen %v: %v\n%s", args, err, out)
		}
	}
	armored, err := os.ReadFile(message + ".sig")
	if err != nil {
		t.Fatal(err)
	}
	return string(armored)
}

// TestCheckProofReadsKeygen holds the parser against OpenSSH, plain keys and FIDO2 keys of every kind.
func TestCheckProofReadsKeygen(t *testing.T) {
	type shown struct {
		Type               string
		Hardware, Verified bool
	}
	tests := map[string]struct {
		keygen []string
		want   shown
		err    error
	}{
		"ed25519":                   {[]string{"-t", "ed25519"}, shown{"ssh-ed25519", false, false}, nil},
		"ecdsa":                     {[]string{"-t", "ecdsa", "-b", "384"}, shown{"ecdsa-sha2-nistp384", false, false}, nil},
		"rsa 3072":                  {[]string{"-t", "rsa", "-b", "3072"}, shown{"ssh-rsa", false, false}, nil},
		"rsa 2048":                  {[]string{"-t", "rsa", "-b", "2048"}, shown{}, ErrKey},
		"FIDO2 ed25519":             {[]string{"-t", "ed25519-sk"}, shown{"sk-ssh-ed25519@openssh.com", true, false}, nil},
		"FIDO2 ecdsa":               {[]string{"-t", "ecdsa-sk"}, shown{"sk-ecdsa-sha2-nistp256@openssh.com", true, false}, nil},
		"FIDO2 ed25519, verified":   {[]string{"-t", "ed25519-sk", "-O", "verify-required"}, shown{"sk-ssh-ed25519@openssh.com", true, true}, nil},
		"FIDO2 ecdsa, verified":     {[]string{"-t", "ecdsa-sk", "-O", "verify-required"}, shown{"sk-ecdsa-sha2-nistp256@openssh.com", true, true}, nil},
		"FIDO2 that nobody touched": {[]string{"-t", "ed25519-sk", "-O", "no-touch-required"}, shown{}, ErrProof},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := CheckProof(signProof(t, proofSpace, proofText, tt.keygen...), proofSpace, []byte(proofText))
			if !errors.Is(err, tt.err) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			var got shown
			if err == nil {
				got = shown{p.Key.Type(), p.Hardware, p.Verified}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestCheckProofRefuses: whatever somebody changes about a signature, it proves nothing.
func TestCheckProofRefuses(t *testing.T) {
	verified := signProof(t, proofSpace, proofText, "-t", "ed25519-sk")
	plain := signProof(t, proofSpace, proofText, "-t", "ed25519")
	rearm := func(change func([]byte) []byte) string {
		block, _ := pem.Decode([]byte(verified))
		block.Bytes = change(bytes.Clone(block.Bytes))
		return string(pem.EncodeToMemory(block))
	}
	flag := func(b []byte) []byte { b[len(b)-5] |= flagVerified; return b } // the flags stand before a counter of 4 bytes, at the end
	tests := map[string]struct{ armored, namespace, text string }{
		"another text":            {plain, proofSpace, proofText + "."},
		"another namespace":       {plain, "file", proofText},
		"empty":                   {"", proofSpace, proofText},
		"something behind it":     {plain + "x", proofSpace, proofText},
		"two signatures":          {plain + plain, proofSpace, proofText},
		"an armored key":          {strings.ReplaceAll(plain, "SSH SIGNATURE", "OPENSSH PRIVATE KEY"), proofSpace, proofText},
		"user verification added": {rearm(flag), proofSpace, proofText},
		"touch taken away":        {rearm(func(b []byte) []byte { b[len(b)-5] = 0; return b }), proofSpace, proofText},
		"a byte behind":           {rearm(func(b []byte) []byte { return append(b, 0) }), proofSpace, proofText},
		"a byte short":            {rearm(func(b []byte) []byte { return b[:len(b)-1] }), proofSpace, proofText},
		"another version":         {rearm(func(b []byte) []byte { b[len(sigMagic)+3] = 2; return b }), proofSpace, proofText},
		"too large":               {plain + strings.Repeat("\n", maxArmor), proofSpace, proofText},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if p, err := CheckProof(tt.armored, tt.namespace, []byte(tt.text)); !errors.Is(err, ErrProof) || p != (Proof{}) {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
}

// TestVerifiedCertificates: OpenSSH reads verify-required as we write it, and a bastion takes it.
func TestVerifiedCertificates(t *testing.T) {
	ca, p := newEd25519(t), accessParams(t)
	p.Key, p.Verified, p.SourceAddresses = skKey(t), true, []string{"192.0.2.0/24"}
	c := issue(t, NewAccess, p, Access, ca)
	if err := CheckAccess(c, Bundle{ca.PublicKey()}, noon, anyone); err != nil {
		t.Error(err)
	}
	text, err := describe(t, MarshalLine(c))
	if err != nil || !strings.Contains(text, "Critical Options:\nsource-address 192.0.2.0/24\nverify-required\nExtensions:") {
		t.Errorf("ssh-keygen says (%v):\n%s", err, text)
	}
}

func FuzzCheckProof(f *testing.F) {
	key := newEd25519(f)
	sig, err := key.Sign(nil, []byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	for _, blob := range [][]byte{nil, []byte(sigMagic), append([]byte(sigMagic), 0, 0, 0, 1), sig.Blob} {
		f.Add(string(pem.EncodeToMemory(&pem.Block{Type: sigArmor, Bytes: blob})))
	}
	f.Add("-----BEGIN SSH SIGNATURE-----\n")
	f.Fuzz(func(t *testing.T, armored string) {
		p, err := CheckProof(armored, proofSpace, []byte("nobody has signed this"))
		if err == nil {
			t.Errorf("%q was accepted", armored)
		} else if p != (Proof{}) || !errors.Is(err, ErrProof) && !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v, %v", armored, p, err)
		}
	})
}
