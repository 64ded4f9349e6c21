package krl

import (
	"bufio"
	"crypto/ed25519"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// sshd is a stock OpenSSH server on loopback that obeys a KRL.
type sshd struct {
	addr, revoked, account string
}

// startSSHD starts a server that trusts user CAs, and lets this test's account in for one principal.
func startSSHD(t *testing.T, cas ...ssh.PublicKey) sshd {
	t.Helper()
	program := program(t, "sshd")
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd's privilege separation directory
			t.Fatal(err)
		}
	}
	var trusted string
	for _, ca := range cas {
		trusted += line(ca) + "\n"
	}
	s := sshd{revoked: filepath.Join(t.TempDir(), "revoked"), account: u.Username}
	config := fmt.Sprintf("ListenAddress 127.0.0.1\nHostKey %s\nPidFile none\nUsePAM no\nStrictModes no\nSetEnv SHLVL=1\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"+
		"KbdInteractiveAuthentication no\nAuthorizedKeysFile none\nTrustedUserCAKeys %s\nAuthorizedPrincipalsFile %s\nRevokedKeys %s\n",
		privateFile(t, private("host key")), writeFile(t, "cas", []byte(trusted)), writeFile(t, "principals", []byte("someone\n")), s.revoked)
	for range 5 {
		if s.addr = tryStart(t, program, config); s.addr != "" {
			return s
		}
	}
	t.Fatal("sshd does not start")
	return s
}

// tryStart starts sshd on a port that was free a moment ago, and returns "" where it no longer is.
func tryStart(t *testing.T, program, config string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-D", "-e", "-f", writeFile(t, "sshd_config", fmt.Appendf(nil, "Port %d\n%s", port, config)))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if strings.Contains(lines.Text(), "Server listening on") {
				close(ready)
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
	})
	select {
	case <-ready:
		return fmt.Sprintf("127.0.0.1:%d", port)
	case <-done:
		return ""
	case <-time.After(20 * time.Second):
		t.Fatal("sshd is not ready")
		return ""
	}
}

// login tries to log in with a key, or with a certificate of it.
func (s sshd) login(t *testing.T, key ed25519.PrivateKey, cert *ssh.Certificate) error {
	t.Helper()
	by, err := ssh.NewCertSigner(cert, signerOf(t, key))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ssh.Dial("tcp", s.addr, &ssh.ClientConfig{User: s.account, Auth: []ssh.AuthMethod{ssh.PublicKeys(by)},
		HostKeyCallback: ssh.FixedHostKey(public(t, "host key")), Timeout: 20 * time.Second})
	if err == nil {
		return c.Close()
	}
	if !strings.Contains(err.Error(), "unable to authenticate") {
		t.Fatalf("the login broke: %v", err)
	}
	return err
}

// TestSSHDObeys: a stock sshd takes a list with every kind of entry, refuses what it revokes and lets in what it
// does not. Between two lists there is no moment at which it lets in, or refuses, somebody else.
func TestSSHDObeys(t *testing.T) {
	hop, retired := signer(t, "hop CA"), signer(t, "retired CA")
	s := startSSHD(t, hop.PublicKey(), retired.PublicKey())
	l := everyKind(t)
	l.CAs = append(l.CAs, Certificates{CA: hop.PublicKey(), Serials: []Range{Serial(3), {10, 20}}, KeyIDs: []string{"ssh_x someone"}})
	if err := Replace(s.revoked, marshal(t, List{Version: 1, Generated: made})); err != nil {
		t.Fatal(err)
	}
	logins := map[string]struct {
		ca      ssh.Signer
		key     string
		serial  uint64
		id      string
		revoked bool
	}{
		"a serial of the list":   {hop, "x", 3, "x", true},
		"the next serial":        {hop, "x", 4, "x", false},
		"a serial of the range":  {hop, "x", 15, "x", true},
		"behind the range":       {hop, "x", 21, "x", false},
		"a key ID":               {hop, "x", 30, "ssh_x someone", true},
		"a stolen key":           {hop, "stolen key", 31, "x", true},
		"a hashed key":           {hop, "hashed key", 32, "x", true},
		"of a retired CA":        {retired, "x", 33, "x", true},
		"a serial of another CA": {hop, "x", 8, "x", false},
	}
	try := func(when string, revoked func(bool) bool) {
		t.Helper()
		for name, tt := range logins {
			err := s.login(t, private(tt.key), certificate(t, tt.ca, tt.key, tt.serial, tt.id))
			if want := revoked(tt.revoked); (err != nil) != want {
				t.Errorf("%s: %s: refused %v, want %v (%v)", when, name, err != nil, want, err)
			}
		}
	}
	try("nothing revoked", func(bool) bool { return false })
	if err := Replace(s.revoked, marshal(t, l)); err != nil {
		t.Fatal(err)
	}
	try("revoked", func(r bool) bool { return r })
	// What Replace prevents: sshd refuses everybody where the list is cut off.
	data := marshal(t, l)
	if err := os.WriteFile(s.revoked, data[:len(data)-1], 0o644); err != nil {
		t.Fatal(err)
	}
	try("cut off", func(bool) bool { return true })
}
