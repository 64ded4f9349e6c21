package sshca

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sega/cmd/segad/dev/freeport"

	"golang.org/x/crypto/ssh"
)

// sshd is a stock OpenSSH server on loopback.
type sshd struct {
	addr string
	mu   sync.Mutex
	log  bytes.Buffer
}

func (s *sshd) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// startSSHD starts a server that trusts the given user CAs, shows a host certificate, and lists
// the given principals for every account; with none it falls back on the account's name.
func startSSHD(t *testing.T, hostKey ed25519.PrivateKey, hostCert *ssh.Certificate, cas []ssh.PublicKey, principals ...string) *sshd {
	t.Helper()
	program := program(t, "sshd")
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd's privilege separation directory
			t.Fatal(err)
		}
	}
	var lines string
	for _, ca := range cas {
		lines += MarshalLine(ca) + "\n"
	}
	config := fmt.Sprintf("ListenAddress 127.0.0.1\nHostKey %s\nHostCertificate %s\nPidFile none\nUsePAM no\nStrictModes no\nSetEnv SHLVL=1\nPermitRootLogin prohibit-password\n"+
		"PasswordAuthentication no\nKbdInteractiveAuthentication no\nAuthorizedKeysFile none\nLogLevel VERBOSE\nTrustedUserCAKeys %s\n",
		privateFile(t, hostKey), writeFile(t, "host-cert.pub", MarshalLine(hostCert)+"\n"), writeFile(t, "cas", lines))
	if len(principals) > 0 {
		config += "AuthorizedPrincipalsFile " + writeFile(t, "principals", strings.Join(principals, "\n")+"\n") + "\n"
	}
	for range 5 {
		if s := tryStart(t, program, config, freeport.For(t)); s != nil {
			return s
		}
	}
	t.Fatal("sshd does not start")
	return nil
}

func tryStart(t *testing.T, program, config string, port int) *sshd {
	t.Helper()
	cmd := exec.Command(program, "-D", "-e", "-f", writeFile(t, "sshd_config", fmt.Sprintf("Port %d\n%s", port, config)))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &sshd{addr: fmt.Sprintf("127.0.0.1:%d", port)}
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		s.read(bufio.NewScanner(stderr), ready)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
	})
	select {
	case <-ready:
		return s
	case <-done:
		t.Log(s.text())
		return nil
	case <-time.After(20 * time.Second):
		t.Fatalf("sshd is not ready: %s", s.text())
		return nil
	}
}

func (s *sshd) read(scanner *bufio.Scanner, ready chan struct{}) {
	for scanner.Scan() {
		s.mu.Lock()
		s.log.WriteString(scanner.Text() + "\n")
		s.mu.Unlock()
		if ready != nil && strings.Contains(scanner.Text(), "Server listening on") {
			close(ready)
			ready = nil
		}
	}
}

// dial logs in as the bastion does: with a certificate, and with CheckHost for the host's.
func (s *sshd) dial(account string, cert *ssh.Certificate, key ssh.Signer, hostCAs Bundle, name string) (*ssh.Client, error) {
	signer, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		return nil, err
	}
	return ssh.Dial("tcp", s.addr, &ssh.ClientConfig{
		User: account, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01}, Timeout: 20 * time.Second,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			c, ok := key.(*ssh.Certificate)
			if !ok {
				return ErrMalformed
			}
			return CheckHost(c, hostCAs, name, time.Now())
		},
	})
}

// world is the part of production that the oracle needs: CAs, an account, hosts.
type world struct {
	access, hop, host ssh.Signer
	account           string
	key               ssh.Signer // the bastion's key of one connection
}

func newWorld(t *testing.T) *world {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckLogin(u.Username); err != nil {
		t.Skipf("the account of this run is none that sega certifies: %v", err)
	}
	return &world{access: newEd25519(t), hop: newEd25519(t), host: newEd25519(t), account: u.Username, key: newEd25519(t)}
}

func (w *world) start(t *testing.T, name string, cas []ssh.PublicKey, principals ...string) *sshd {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := HostParams{Key: signerOf(t, key, nil).PublicKey(), Serial: 1, KeyID: "mch_1 " + name, Names: []string{name}}
	p.ValidAfter, p.ValidBefore = Host.Window(time.Now(), HostLifetime)
	return startSSHD(t, key, issue(t, NewHost, p, Host, w.host), cas, principals...)
}

func (w *world) hopParams(t *testing.T) HopParams {
	p := hopParams(t)
	p.Key, p.Login, p.HostID, p.SourceAddresses = w.key.PublicKey(), w.account, "host-a", []string{"127.0.0.1"}
	p.ValidAfter, p.ValidBefore = Hop.Window(time.Now(), HopLifetime)
	return p
}

func TestSSHDObeysHopCertificates(t *testing.T) {
	w := newWorld(t)
	trust := []ssh.PublicKey{w.hop.PublicKey()}
	hosts := map[string]*sshd{
		"host-a": w.start(t, "host-a", trust, w.account+"@host-a"),
		"host-b": w.start(t, "host-b", trust, w.account+"@host-b"),
		// host-c has forgotten its list, so sshd compares principals with the account's name.
		"host-c": w.start(t, "host-c", trust),
	}
	tests := map[string]struct {
		host   string
		change func(*HopParams)
		ca     ssh.Signer
		opens  bool
	}{
		"its own host":          {"host-a", func(*HopParams) {}, w.hop, true},
		"another host":          {"host-b", func(*HopParams) {}, w.hop, false},
		"a host without a list": {"host-c", func(p *HopParams) { p.HostID = "host-c" }, w.hop, false},
		"another account":       {"host-a", func(p *HopParams) { p.Login = "nobody" }, w.hop, false},
		"another address":       {"host-a", func(p *HopParams) { p.SourceAddresses = []string{"192.0.2.0/24", "2001:db8::1"} }, w.hop, false},
		"one of its addresses":  {"host-a", func(p *HopParams) { p.SourceAddresses = []string{"192.0.2.0/24", "127.0.0.0/8"} }, w.hop, true},
		"expired":               {"host-a", func(p *HopParams) { p.ValidAfter, p.ValidBefore = Hop.Window(time.Now().Add(-time.Hour), HopLifetime) }, w.hop, false},
		"not yet valid":         {"host-a", func(p *HopParams) { p.ValidAfter, p.ValidBefore = Hop.Window(time.Now().Add(time.Hour), HopLifetime) }, w.hop, false},
		"a foreign CA":          {"host-a", func(*HopParams) {}, w.access, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := w.hopParams(t)
			tt.change(&p)
			client, err := hosts[tt.host].dial(w.account, issue(t, NewHop, p, Hop, tt.ca), w.key, Bundle{w.host.PublicKey()}, tt.host)
			if (err == nil) != tt.opens {
				t.Errorf("opens: %v (%v), want %v\n%s", err == nil, err, tt.opens, hosts[tt.host].text())
			}
			if err == nil {
				client.Close()
			} else if !tt.opens && !strings.Contains(err.Error(), "unable to authenticate") {
				t.Errorf("refused for another reason: %v", err)
			}
		})
	}
	// The host's own log names session, person and serial.
	if log := hosts["host-a"].text(); !strings.Contains(log, sessionID+" "+person+" (serial 4294967304)") {
		t.Errorf("sshd does not log the key ID and the serial:\n%s", log)
	}
	if _, err := hosts["host-a"].dial(w.account, issue(t, NewHop, w.hopParams(t), Hop, w.hop), w.key, Bundle{w.host.PublicKey()}, "host-b"); err == nil || !strings.Contains(err.Error(), "does not name") {
		t.Errorf("host-a poses as host-b: %v", err)
	}
}

// Even a host that trusts the access CA by mistake opens to no access certificate.
func TestSSHDRefusesAccessCertificates(t *testing.T) {
	w := newWorld(t)
	both := []ssh.PublicKey{w.hop.PublicKey(), w.access.PublicKey()}
	p := accessParams(t)
	p.Key = w.key.PublicKey()
	p.ValidAfter, p.ValidBefore = Access.Window(time.Now(), AccessLifetime)
	access := issue(t, NewAccess, p, Access, w.access)
	for name, s := range map[string]*sshd{
		"with a list":    w.start(t, "host-a", both, w.account+"@host-a"),
		"without a list": w.start(t, "host-a", both),
	} {
		t.Run(name, func(t *testing.T) {
			for _, account := range []string{w.account, loginID, "nobody"} {
				if client, err := s.dial(account, access, w.key, Bundle{w.host.PublicKey()}, "host-a"); err == nil {
					client.Close()
					t.Errorf("account %s opens", account)
				}
			}
			if !strings.Contains(s.text(), "Certificate does not contain an authorized principal") && !strings.Contains(s.text(), "name is not a listed principal") {
				t.Errorf("refused, but not for its principal:\n%s", s.text())
			}
		})
	}
}

// What the certificate does not permit, sshd does not do.
func TestSSHDObeysExtensions(t *testing.T) {
	w := newWorld(t)
	s := w.start(t, "host-a", []ssh.PublicKey{w.hop.PublicKey()}, w.account+"@host-a")
	for _, allowed := range []bool{false, true} {
		t.Run(fmt.Sprint(allowed), func(t *testing.T) {
			p := w.hopParams(t)
			p.PTY, p.PortForwarding = allowed, allowed
			client, err := s.dial(w.account, issue(t, NewHop, p, Hop, w.hop), w.key, Bundle{w.host.PublicKey()}, "host-a")
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			session, err := client.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			if err := session.RequestPty("xterm", 24, 80, nil); (err == nil) != allowed {
				t.Errorf("terminal: %v", err)
			}
			session.Close()
			through, err := client.Dial("tcp", s.addr)
			if (err == nil) != allowed {
				t.Errorf("forward: %v", err)
			}
			if err == nil {
				through.Close()
			}
			plain, err := client.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			if out, err := plain.Output("echo through"); err != nil || string(out) != "through\n" {
				t.Errorf("command: %q, %v", out, err)
			}
		})
	}
}

// OpenSSH's client logs in with an access certificate that carries no extension at all, and the
// check of a bastion built on x/crypto/ssh takes it.
func TestClientOfOpenSSHMeetsCheckAccess(t *testing.T) {
	ca := newEd25519(t)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	p := accessParams(t)
	p.Key = signerOf(t, key, err).PublicKey()
	p.SourceAddresses = []string{"127.0.0.0/8"}
	p.ValidAfter, p.ValidBefore = Access.Window(time.Now(), AccessLifetime)
	good := issue(t, NewAccess, p, Access, ca)
	foreign := issue(t, NewAccess, p, Access, newEd25519(t))
	for name, tt := range map[string]struct {
		cert  *ssh.Certificate
		opens bool
	}{"ours": {good, true}, "of a foreign CA": {foreign, false}} {
		t.Run(name, func(t *testing.T) {
			addr, wait := serveOnce(t, Bundle{ca.PublicKey()})
			host, port, _ := net.SplitHostPort(addr)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			file := privateFile(t, key)
			known := filepath.Join(t.TempDir(), "known_hosts")
			cmd := exec.CommandContext(ctx, program(t, "ssh"), "-F", "none", "-i", file, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
				"-o", "CertificateFile="+writeFile(t, "key-cert.pub", MarshalLine(tt.cert)+"\n"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile="+known,
				"-p", port, "root@"+host, "true")
			out, err := cmd.CombinedOutput()
			if (err == nil) != tt.opens {
				t.Errorf("ssh: %v\n%s", err, out)
			}
			if err := wait(); (err == nil) != tt.opens {
				t.Errorf("server: %v", err)
			}
		})
	}
}

// serveOnce serves one connection as a bastion would: every command succeeds and does nothing. The
// returned function waits for its end and returns why the login failed, if it did.
func serveOnce(t *testing.T, cas Bundle) (addr string, wait func() error) {
	t.Helper()
	config := &ssh.ServerConfig{PublicKeyCallback: func(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		cert, ok := key.(*ssh.Certificate)
		if !ok {
			return nil, ErrMalformed
		}
		source := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
		return &ssh.Permissions{}, CheckAccess(cert, cas, time.Now(), source)
	}}
	config.AddHostKey(newEd25519(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		defer l.Close()
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		done <- serve(conn, config)
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().String(), func() error { return <-done }
}

func serve(conn net.Conn, config *ssh.ServerConfig) error {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return err
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return err
		}
		for r := range requests {
			_ = r.Reply(r.Type == "exec", nil)
			if r.Type == "exec" {
				_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
				channel.Close()
			}
		}
	}
	return nil
}
