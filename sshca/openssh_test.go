package sshca

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

// program returns the path of a program of OpenSSH. Where it is missing the test is skipped, but
// never in CI: there the oracle is the point.
func program(t *testing.T, name string) string {
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

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// describe returns what `ssh-keygen -L` says about a certificate, without the file's name.
func describe(t *testing.T, line string) (string, error) {
	t.Helper()
	cmd := exec.Command(program(t, "ssh-keygen"), "-L", "-f", writeFile(t, "x-cert.pub", line+"\n"))
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	_, text, _ := strings.Cut(string(out), "\n")
	var lines []string
	for l := range strings.Lines(text) {
		lines = append(lines, strings.TrimSpace(l))
	}
	return strings.Join(lines, "\n"), err
}

func TestKeygenReadsEveryProfile(t *testing.T) {
	ca := newEd25519(t)
	access := accessParams(t)
	access.SourceAddresses = []string{"192.0.2.0/24"}
	hop := hopParams(t)
	hop.PortForwarding, hop.AgentForwarding = true, true
	bare := hopParams(t)
	bare.PTY = false
	front, host := hostParams(t, Front), hostParams(t, Host)
	tests := map[string]struct {
		cert *ssh.Certificate
		kind string
		want string // after the CA's line
	}{
		"access": {issue(t, NewAccess, access, Access, ca), "user",
			`Key ID: "ses_abcdefghijkmnpqrstuv jane@corp.example"|Serial: 4294967303|Valid: from 2026-03-01T11:59:00 to 2026-03-01T12:08:00|Principals:|ses_abcdefghijkmnpqrstuv|Critical Options:|source-address 192.0.2.0/24|Extensions: (none)`},
		"hop": {issue(t, NewHop, hop, Hop, ca), "user",
			`Key ID: "ssh_abcdefghijkmnpqrstuv jane@corp.example"|Serial: 4294967304|Valid: from 2026-03-01T11:59:00 to 2026-03-01T12:02:00|Principals:|deploy@db1.prod.example|Critical Options:|source-address 10.0.0.5,2001:db8::/64|Extensions:|permit-agent-forwarding|permit-port-forwarding|permit-pty`},
		"hop, nothing allowed": {issue(t, NewHop, bare, Hop, ca), "user",
			`Key ID: "ssh_abcdefghijkmnpqrstuv jane@corp.example"|Serial: 4294967304|Valid: from 2026-03-01T11:59:00 to 2026-03-01T12:02:00|Principals:|deploy@db1.prod.example|Critical Options:|source-address 10.0.0.5,2001:db8::/64|Extensions: (none)`},
		"front": {issue(t, NewFront, front, Front, ca), "host",
			`Key ID: "mch_1 db1"|Serial: 4294967305|Valid: from 2026-03-01T11:59:00 to 2026-03-01T12:59:00|Principals:|db1.prod.example|db1|Critical Options: (none)|Extensions: (none)`},
		"host": {issue(t, NewHost, host, Host, ca), "host",
			`Key ID: "mch_1 db1"|Serial: 4294967305|Valid: from 2026-03-01T11:59:00 to 2026-03-01T13:00:00|Principals:|db1.prod.example|db1|Critical Options: (none)|Extensions: (none)`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := describe(t, MarshalLine(tt.cert))
			if err != nil {
				t.Fatal(got, err)
			}
			want := fmt.Sprintf("Type: ssh-ed25519-cert-v01@openssh.com %s certificate\nPublic key: ED25519-CERT %s\nSigning CA: ED25519 %s (using ssh-ed25519)\n",
				tt.kind, ssh.FingerprintSHA256(tt.cert.Key), ssh.FingerprintSHA256(ca.PublicKey())) + strings.ReplaceAll(tt.want, "|", "\n")
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestKeygenReadsEveryAlgorithm(t *testing.T) {
	for name, ca := range map[string]ssh.Signer{"using ecdsa-sha2-nistp384": newECDSA(t), "using rsa-sha2-512": newRSA(t, 3072)} {
		p := accessParams(t)
		p.Key = skKey(t)
		got, err := describe(t, MarshalLine(issue(t, NewAccess, p, Access, ca)))
		if err != nil || !strings.Contains(got, name) || !strings.Contains(got, "sk-ssh-ed25519-cert-v01@openssh.com user certificate") {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

// ssh-keygen verifies the CA's signature as it reads, so both must refuse what was tampered with.
func TestKeygenRefusesTampering(t *testing.T) {
	ca := newEd25519(t)
	blob := issue(t, NewAccess, accessParams(t), Access, ca).Marshal()
	for i := 40; i < len(blob); i += 23 {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		line := ssh.CertAlgoED25519v01 + " " + base64.StdEncoding.EncodeToString(bad)
		if text, err := describe(t, line); err == nil && strings.Contains(text, "Serial") {
			t.Errorf("byte %d: ssh-keygen reads it:\n%s", i, text)
		}
		parsed := 0
		if shown(t, bad, ca.PublicKey(), &parsed) == nil {
			t.Errorf("byte %d: accepted", i)
		}
	}
}

// keygenSign makes a certificate with `ssh-keygen -s`, as somebody with the CA key could.
func keygenSign(t *testing.T, ca string, args ...string) *ssh.Certificate {
	t.Helper()
	pub := writeFile(t, "key.pub", MarshalLine(newEd25519(t).PublicKey())+"\n")
	cmd := exec.Command(program(t, "ssh-keygen"), append([]string{"-q", "-s", ca}, append(args, pub)...)...)
	cmd.Env = append(os.Environ(), "TZ=UTC")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	line, err := os.ReadFile(strings.TrimSuffix(pub, ".pub") + "-cert.pub")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCertificate(string(line))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// privateFile writes an unencrypted key for the programs of OpenSSH; tests alone do that.
func privateFile(t *testing.T, key any) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "key", string(pem.EncodeToMemory(block)))
}

func TestCheckAccessJudgesKeygen(t *testing.T) {
	const valid = "20260301115900Z:20260301120800Z" // Z since OpenSSH 9.1; TZ=UTC makes older ones agree
	key := rsaKeys()[3072]
	ca := newRSA(t, 3072)
	file := privateFile(t, key)
	id := loginID + " " + person
	clear := []string{"-O", "clear"}
	tests := map[string]struct {
		args []string
		want error
	}{
		"as we make it":            {[]string{"-I", id, "-n", loginID, "-z", "7", "-V", valid}, nil},
		"with extensions":          {[]string{"-I", id, "-n", loginID, "-z", "7", "-V", valid, "-O", "permit-pty"}, nil},
		"from the right address":   {[]string{"-I", id, "-n", loginID, "-z", "7", "-V", valid, "-O", "source-address=192.0.2.0/24"}, nil},
		"from another address":     {[]string{"-I", id, "-n", loginID, "-z", "7", "-V", valid, "-O", "source-address=198.51.100.1"}, ErrSource},
		"with a forced command":    {[]string{"-I", id, "-n", loginID, "-z", "7", "-V", valid, "-O", "force-command=id"}, ErrOption},
		"with our own option":      {[]string{"-I", id, "-n", loginID, "-z", "7", "-V", valid, "-O", "critical:x@corp.example=1"}, ErrOption},
		"without principals":       {[]string{"-I", id, "-z", "7", "-V", valid}, ErrPrincipal},
		"with two principals":      {[]string{"-I", id, "-n", loginID + ",root", "-z", "7", "-V", valid}, ErrPrincipal},
		"for root":                 {[]string{"-I", id, "-n", "root", "-z", "7", "-V", valid}, ErrPrincipal},
		"forever":                  {[]string{"-I", id, "-n", loginID, "-z", "7"}, ErrLifetime},
		"without serial":           {[]string{"-I", id, "-n", loginID, "-V", valid}, ErrSerial},
		"with a free key ID":       {[]string{"-I", "jane", "-n", loginID, "-z", "7", "-V", valid}, ErrKeyID},
		"for a host":               {[]string{"-h", "-I", id, "-n", loginID, "-z", "7", "-V", valid}, ErrType},
		"signed with rsa-sha2-256": {[]string{"-t", "rsa-sha2-256", "-I", id, "-n", loginID, "-z", "7", "-V", valid}, ErrAlgorithm},
		"signed with ssh-rsa":      {[]string{"-t", "ssh-rsa", "-I", id, "-n", loginID, "-z", "7", "-V", valid}, ErrAlgorithm},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			args := tt.args
			if args[0] != "-h" {
				args = append(clear, args...)
			}
			c := keygenSign(t, file, args...)
			if err := CheckAccess(c, Bundle{ca.PublicKey()}, noon, netip.MustParseAddr("192.0.2.7")); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestWindowMeetsTheClock(t *testing.T) {
	for _, p := range []Profile{Access, Hop, Front, Host} {
		after, before := p.Window(noon, time.Minute)
		if noon.Before(after) || !noon.Before(before) {
			t.Errorf("%s: not valid when issued", p)
		}
	}
}
