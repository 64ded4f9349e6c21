package bastion

import (
	"bufio"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

func TestCiphersFor(t *testing.T) {
	gcm := []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM}
	ctr := []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherAES128CTR, ssh.CipherAES256CTR}
	for version, want := range map[string][]string{
		"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10": gcm, "SSH-2.0-PuTTY_Release_0.78": gcm, "SSH-2.0-AsyncSSH_2.10.1": gcm, "SSH-2.0-Go": gcm,
		"": gcm, "SSH-2.0-": gcm, "paramiko": gcm, "SSH-2.0-OpenSSH paramiko_2.12.0": gcm, "SSH-1.99-paramiko_1.0": gcm,
		"SSH-2.0-paramiko_2.12.0": ctr, "SSH-2.0-dropbear_2022.83": gcm, // it knows no certificates at all
	} {
		if diff := cmp.Diff(want, ciphersFor(version)); diff != "" {
			t.Errorf("%q: %s", version, diff)
		}
	}
}

// TestOldCiphers holds that only who names old software gets AES-CTR, and nothing weaker.
func TestOldCiphers(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	for name, tt := range map[string]struct {
		version, cipher string
		ok              bool
	}{
		"paramiko by CTR":      {"SSH-2.0-paramiko_2.12.0", ssh.CipherAES128CTR, true},
		"paramiko by GCM":      {"SSH-2.0-paramiko_3.5.0", ssh.CipherAES128GCM, true},
		"paramiko by CTR, 256": {"SSH-2.0-paramiko_2.12.0", ssh.CipherAES256CTR, true},
		"OpenSSH by CTR":       {"SSH-2.0-OpenSSH_9.2p1", ssh.CipherAES128CTR, false},
		"OpenSSH by GCM":       {"SSH-2.0-OpenSSH_9.2p1", ssh.CipherAES256GCM, true},
		"paramiko by CBC":      {"SSH-2.0-paramiko_2.12.0", ssh.InsecureCipherAES128CBC, false},
		"paramiko by ChaCha20": {"SSH-2.0-paramiko_2.12.0", ssh.CipherChaCha20Poly1305, false},
	} {
		t.Run(name, func(t *testing.T) {
			config := w.dialConfig(currentLogin(t)+"%web-1", w.control.credential(t).signer)
			config.ClientVersion, config.Ciphers = tt.version, []string{tt.cipher}
			c, err := ssh.Dial("tcp", w.addr, config)
			if (err == nil) != tt.ok {
				t.Fatalf("the handshake ends with %v", err)
			}
			if err == nil {
				_ = c.Close()
				_ = c.Wait()
			}
		})
	}
	// Encrypt-then-MAC alone.
	config := w.dialConfig(currentLogin(t)+"%web-1", w.control.credential(t).signer)
	config.ClientVersion, config.Ciphers, config.MACs = "SSH-2.0-paramiko_2.12.0", []string{ssh.CipherAES128CTR}, []string{ssh.HMACSHA256}
	if c, err := ssh.Dial("tcp", w.addr, config); err == nil {
		_ = c.Close()
		t.Error("CTR with MAC-then-encrypt was agreed")
	}
}

// TestGreeting: how a client writes its line changes nothing.
func TestGreeting(t *testing.T) {
	for name, tt := range map[string]struct {
		pieces []string
		want   string
	}{
		"one piece":      {[]string{"SSH-2.0-x\r\n"}, "SSH-2.0-x"},
		"no return":      {[]string{"SSH-2.0-x\n"}, "SSH-2.0-x"},
		"single bytes":   {strings.Split("SSH-2.0-x\r\n", ""), "SSH-2.0-x"},
		"with more":      {[]string{"SSH-2.0-x\r\n\x00\x00\x00more"}, "SSH-2.0-x"},
		"too long":       {[]string{"SSH-" + strings.Repeat("x", 2*maxVersion)}, ""},
		"as long as may": {[]string{"SSH-" + strings.Repeat("x", maxVersion-5) + "\n"}, "SSH-" + strings.Repeat("x", maxVersion-5)},
		"gone":           {nil, ""},
		"gone within":    {[]string{"SSH-2"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe()
			c := newBufferedConn(there, new(buffers))
			t.Cleanup(func() { _ = here.Close(); c.Abort() })
			sent := make(chan error, 1)
			go func() {
				// The client speaks when it has heard the bastion, and its bytes stay for x/crypto.
				line, err := bufio.NewReader(here).ReadString('\n')
				if err == nil && line != serverVersion+"\r\n" {
					err = io.ErrUnexpectedEOF
				}
				for _, p := range tt.pieces {
					if err == nil {
						_, err = io.WriteString(here, p)
					}
				}
				sent <- err
				_ = here.Close()
			}()
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			g, version, err := greet(c)
			if err != nil || version != tt.want {
				t.Fatalf("%q, %v", version, err)
			}
			rest, _ := io.ReadAll(g)
			if got := string(rest); got != strings.Join(tt.pieces, "") {
				t.Errorf("x/crypto would read %q", got)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestGreetedOnce: of what x/crypto writes, the version line alone is held back.
func TestGreetedOnce(t *testing.T) {
	here, there := net.Pipe()
	got := make(chan string, 1)
	go func() { all, _ := io.ReadAll(here); got <- string(all) }()
	g := &greeted{Conn: there, said: 5}
	for _, p := range []string{"12", "345six", "seven"} {
		if n, err := g.Write([]byte(p)); n != len(p) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	_ = there.Close()
	if all := <-got; all != "sixseven" {
		t.Errorf("%q went out", all)
	}
}

// TestAlgorithmsAreDocumented holds docs/clients.md against what is offered.
func TestAlgorithmsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	c := algorithms()
	for _, name := range slices.Concat(c.KeyExchanges, ciphersFor("SSH-2.0-paramiko_2.12.0"), c.MACs, signatureAlgorithms(), []string{ssh.CertAlgoED25519v01}) {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/clients.md does not name %s", name)
		}
	}
}
