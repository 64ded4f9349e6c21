package awsidentity

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const text = `{"accountId" : "111122223333", "architecture" : "x86_64", "availabilityZone" : "eu-central-1b", "billingProducts" : null, "imageId" : "ami-1",
 "instanceId" : "i-1234567890abcdef0", "instanceType" : "t3.micro", "kernelId" : null, "pendingTime" : "2030-01-02T11:59:00Z", "privateIp" : "10.158.112.84", "region" : "eu-central-1", "version" : "2017-09-30"}`

// openssl stands in for AWS: it makes keys and signs as the instance metadata service does.
func openssl(t testing.TB, dir, input string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	in := filepath.Join(dir, "input")
	if err := os.WriteFile(in, []byte(input), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return out
}

type signer struct {
	dir   string
	certs []*x509.Certificate
}

func newSigner(t testing.TB, bits string) signer {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is missing: run scripts/deps")
		}
		t.Skip("openssl is missing: run scripts/deps")
	}
	s := signer{dir: t.TempDir()}
	openssl(t, s.dir, "", "req", "-x509", "-newkey", "rsa:"+bits, "-nodes", "-keyout", "key", "-out", "cert", "-days", "10", "-subj", "/CN=AWS double "+bits)
	data, err := os.ReadFile(filepath.Join(s.dir, "cert"))
	if err != nil {
		t.Fatal(err)
	}
	if s.certs, err = ParseCertificates(data); err != nil && bits != "1024" {
		t.Fatal(err)
	}
	return s
}

func (s signer) sign(t testing.TB, document string, more ...string) []byte {
	t.Helper()
	openssl(t, s.dir, document, append([]string{"smime", "-sign", "-nodetach", "-binary", "-md", "sha256", "-signer", "cert", "-inkey", "key", "-outform", "DER", "-in", "input", "-out", "message"}, more...)...)
	out, err := os.ReadFile(filepath.Join(s.dir, "message"))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestVerify opens documents as AWS signs them, and none that was tampered with.
func TestVerify(t *testing.T) {
	aws, other := newSigner(t, "2048"), newSigner(t, "2048")
	want := Document{Account: "111122223333", Region: "eu-central-1", Instance: "i-1234567890abcdef0", Address: netip.MustParseAddr("10.158.112.84"), Pending: time.Date(2030, 1, 2, 11, 59, 0, 0, time.UTC)}
	good := aws.sign(t, text, "-nocerts")
	for name, message := range map[string][]byte{"without certificates": good, "with its certificate": aws.sign(t, text), "streamed, in BER": aws.sign(t, text, "-stream"), "without attributes": aws.sign(t, text, "-noattr")} {
		got, err := Verify(message, append(other.certs, aws.certs...))
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	changed := append([]byte{}, good...)
	for i := range changed[:len(changed)-4] {
		if string(changed[i:i+4]) == "1111" {
			changed[i] = '9'
		}
	}
	for name, tt := range map[string]struct {
		message []byte
		certs   []*x509.Certificate
	}{
		"another signer, its certificate in it": {other.sign(t, text), aws.certs},
		"changed":                               {changed, aws.certs},
		"cut off":                               {good[:len(good)-1], aws.certs},
		"by SHA-1":                              {aws.sign(t, text, "-md", "sha1"), aws.certs},
		"empty":                                 {nil, aws.certs},
		"no certificates":                       {good, nil},
		"its own text":                          {[]byte(text), aws.certs},
	} {
		if _, err := Verify(tt.message, tt.certs); !errors.Is(err, ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{"{}", `{"accountId":"1"}`, "null", text + "x"} {
		if d, err := Verify(aws.sign(t, bad), aws.certs); err == nil {
			t.Errorf("%s is %+v", bad, d)
		}
	}
}

// TestWeakCertificates: AWS has certificates of 1024 bits, too.
func TestWeakCertificates(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(newSigner(t, "1024").dir, "cert"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pem := range [][]byte{data, nil, []byte("x")} {
		if _, err := ParseCertificates(pem); err == nil {
			t.Errorf("taken: %s", pem)
		}
	}
}

// FuzzVerify: nothing that strangers send is believed, or ends the process.
func FuzzVerify(f *testing.F) {
	aws := newSigner(f, "2048")
	good := aws.sign(f, text)
	f.Add(good)
	f.Add(aws.sign(f, text, "-stream"))
	f.Add([]byte{0x30, 0x80})
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, message []byte) {
		d, err := Verify(message, aws.certs)
		if err == nil && d.Instance != "i-1234567890abcdef0" {
			t.Errorf("%x is %+v", message, d)
		}
	})
}
