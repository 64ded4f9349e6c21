package bastion

import (
	"context"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

// TestAlgorithmsAreListed holds docs/algorithms.md against the code, list by list and in order.
func TestAlgorithmsAreListed(t *testing.T) {
	text, err := os.ReadFile("../../docs/algorithms.md")
	if err != nil {
		t.Fatal(err)
	}
	c := algorithms()
	ciphers := ciphersFor("SSH-2.0-paramiko_2.12.0")
	for heading, want := range map[string][]string{
		"Key exchange":                       c.KeyExchanges,
		"Ciphers":                            c.Ciphers,
		"Ciphers for paramiko":               ciphers[len(c.Ciphers):],
		"MACs":                               c.MACs,
		"Signatures of people's keys":        signatureAlgorithms(),
		"Host keys that the bastion accepts": hostKeyAlgorithms(nil),
	} {
		if diff := cmp.Diff(want, listed(string(text), heading)); diff != "" {
			t.Errorf("%s (-code +docs):\n%s", heading, diff)
		}
	}
	for _, refused := range listed(string(text), "Refused") {
		for _, offered := range slices.Concat(c.KeyExchanges, ciphers, c.MACs, signatureAlgorithms(), hostKeyAlgorithms(nil)) {
			if refused == offered {
				t.Errorf("%s is offered, and docs/algorithms.md says that it is refused", offered)
			}
		}
	}
}

// listed returns the names in backquotes that lead the lines of a section's list or table.
func listed(text, heading string) []string {
	_, section, _ := strings.Cut(text, "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var names []string
	for _, m := range regexp.MustCompile("(?m)^(?:- |\\| )`([^`]+)`").FindAllStringSubmatch(section, -1) {
		names = append(names, m[1])
	}
	return names
}

// TestAudit has ssh-audit look at the bastion: it finds nothing weak. What it does not know, the hybrid key
// exchange among it, it says; that is not the bastion's fault.
func TestAudit(t *testing.T) {
	bin := requireTool(t, "ssh-audit")
	w := start(t, newFakeControl(t))
	host, port, err := net.SplitHostPort(w.addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	out, _ := exec.CommandContext(ctx, bin, "-n", "-p", port, host).CombinedOutput() // its status counts warnings
	if !strings.Contains(string(out), "mlkem768x25519-sha256") || !strings.Contains(string(out), "aes128-gcm@openssh.com") {
		t.Fatalf("ssh-audit says\n%s", out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "[fail]") && !strings.Contains(line, "unknown algorithm") || strings.Contains(line, "[warn]") && !strings.Contains(line, "unknown algorithm") {
			t.Errorf("ssh-audit says %q", strings.TrimSpace(line))
		}
	}
}

// TestStrictKeyExchange: the bastion takes part in strict key exchange (Terrapin, CVE-2023-48795), towards
// people and towards hosts.
func TestStrictKeyExchange(t *testing.T) {
	f := newFakeControl(t)
	w := start(t, f)
	got := w.openssh(t, f.credential(t)).run(nil, "-vvv", "-o", "LogLevel=DEBUG3", "root%web-1@bastion", "true")
	if !strings.Contains(got.stderr, "kex-strict-s-v00@openssh.com") {
		t.Errorf("the bastion does not announce it:\n%s", got.stderr)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			seen <- ""
			return
		}
		defer c.Close()
		_, _ = c.Write([]byte("SSH-2.0-x\r\n"))
		var all []byte
		buf := make([]byte, 4096)
		for !strings.Contains(string(all), "kex-strict") {
			n, err := c.Read(buf)
			all = append(all, buf[:n]...)
			if err != nil {
				break
			}
		}
		seen <- string(all)
	}()
	defer l.Close()
	f.set(func() { f.inventory["web-1"] = testHost{address: l.Addr().String(), hostID: "host-web-1"} })
	_ = w.openssh(t, f.credential(t)).run(nil, "root%web-1@bastion", "true")
	if hello := <-seen; !strings.Contains(hello, "kex-strict-c-v00@openssh.com") {
		t.Errorf("a host sees %q", hello)
	}
}

// TestWeakAlgorithms: whoever speaks nothing better gets no key exchange.
func TestWeakAlgorithms(t *testing.T) {
	f := newFakeControl(t)
	w := start(t, f)
	for name, weak := range map[string]ssh.Config{
		"key exchange": {KeyExchanges: []string{ssh.InsecureKeyExchangeDH14SHA1, ssh.KeyExchangeDH14SHA256, ssh.KeyExchangeECDHP256}},
		"cipher":       {Ciphers: []string{ssh.CipherChaCha20Poly1305, ssh.CipherAES128CTR, ssh.InsecureCipherAES128CBC}},
	} {
		config := w.dialConfig("root%web-1", f.credential(t).signer)
		config.Config = weak
		if _, err := ssh.Dial("tcp", w.addr, config); err == nil || !strings.Contains(err.Error(), "no common algorithm") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
