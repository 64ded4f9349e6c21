//go:build linux

package flood

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/cmd/segad/dev/devtest"
	"sega/sshca/sshtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	devtest.CleanUp()
	os.Exit(code)
}

// most is what the bastion's memory may grow by, whatever comes.
const most = 192 << 20

// full is how many come where SEGA_SOAK asks for all of them.
func crowd(all, few int) int {
	if os.Getenv("SEGA_SOAK") == "1" {
		return all
	}
	return few
}

// scene is a running environment with somebody honest in it.
type scene struct {
	*devtest.Env
	t     testing.TB
	alice *devtest.Person
	began int // resident bytes of the bastion before anybody came
}

func newScene(t *testing.T) *scene {
	t.Helper()
	devtest.Need(t, "/usr/sbin/sshd")
	e := devtest.Up(t)
	s := &scene{Env: e, t: t, alice: e.LoggedIn("alice@example.com")}
	s.honest()
	s.began = s.resident()
	return s
}

// resident returns the bastion's resident memory, and the highest that it ever was with peak.
func (s *scene) resident() int { return s.memory("VmRSS:") }
func (s *scene) peak() int     { return s.memory("VmHWM:") }

func (s *scene) memory(field string) int {
	s.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID("bastion")))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				s.t.Fatal(err)
			}
			return kib << 10
		}
	}
	s.t.Fatalf("no %s", field)
	return 0
}

// honest runs a command on the host as somebody who may, and returns how long that took, tries included:
// in a crowd a connection may lose its place, and OpenSSH does not try again by itself.
func (s *scene) honest() time.Duration {
	s.t.Helper()
	begun := time.Now()
	devtest.Eventually(s.t, time.Minute, "an honest person is kept out", func() error {
		if got := s.alice.Sega("ssh", s.Host.Login+"@"+s.Host.Name, "--", "echo", "here"); got.Code != 0 || got.Out != "here\n" {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	return time.Since(begun)
}

// judge says what a crowd cost.
func (s *scene) judge(what string, n int, waits []time.Duration) {
	s.t.Helper()
	grew := s.peak() - s.began
	s.t.Logf("%s: %d came; the bastion's memory was %d MiB and grew by %d MiB at most; honest logins took %v", what, n, s.began>>20, grew>>20, waits)
	if grew > most {
		s.t.Errorf("the bastion's memory grew by %d MiB", grew>>20)
	}
}

// from dials the bastion from one of many loopback addresses; 0 is the honest people's own.
func (s *scene) from(i int) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if i > 0 {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 1, byte(i>>8), byte(i))}
	}
	return d.Dial("tcp", s.Bastion)
}

// TestHalfOpen: connections that say nothing, half a version, or stop in the key exchange.
func TestHalfOpen(t *testing.T) {
	s := newScene(t)
	n := crowd(10_000, 1_000)
	firsts := []string{"", "SSH-2.0-half", "SSH-2.0-stalls\r\n", "SSH-2.0-stalls\r\n\x00\x00\x7f\xff\x04"}
	var held []net.Conn
	t.Cleanup(func() {
		for _, c := range held {
			_ = c.Close()
		}
	})
	var waits []time.Duration
	for i := range n {
		c, err := s.from(i % 16)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		held = append(held, c)
		_, _ = io.WriteString(c, firsts[i%len(firsts)])
		if (i+1)%(n/3) == 0 {
			waits = append(waits, s.honest())
		}
	}
	s.judge("half-open connections", n, waits)
}

// TestWrongAttempts: certificates of a CA of one's own, plain keys, and garbage, from four addresses, of
// which one is that of honest people. What the log says of certificates is exact to the last one.
func TestWrongAttempts(t *testing.T) {
	s := newScene(t)
	n := crowd(100_000, 1_200)
	bad, plain := strangersCertificate(t), newSigner(t)
	var next, shown atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				c, err := s.from(int(i % 4))
				if err != nil {
					t.Errorf("attempt %d: %v", i, err)
					return
				}
				switch i % 3 {
				case 0:
					_, _ = io.WriteString(c, "SSH-2.0-x\r\n"+strings.Repeat("\xff", 64))
					_, _ = io.Copy(io.Discard, c)
				case 1:
					s.tries(c, plain)
				default:
					if s.tries(c, bad) {
						shown.Add(1)
					}
				}
				_ = c.Close()
			}
		})
	}
	var waits []time.Duration
	for range 3 {
		waits = append(waits, s.honest())
	}
	wg.Wait()
	waits = append(waits, s.honest())
	s.judge("wrong attempts", n, waits)
	s.exact(shown.Load())
}

// tries authenticates with a key that is not good, and reports whether the bastion has refused it: not so
// where the connection had lost its place.
func (s *scene) tries(c net.Conn, key ssh.Signer) (refused bool) {
	_, _, _, err := ssh.NewClientConn(c, s.Bastion, &ssh.ClientConfig{User: "root%" + s.Host.Name, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second}) //nolint:gosec // a stranger does not care
	if err == nil {
		s.t.Error("a stranger got in")
	}
	return err != nil && strings.Contains(err.Error(), "unable to authenticate")
}

// exact compares the counts in the log with what was refused. Of a connection that lost its place after
// its certificate was refused the stranger knows nothing, so the log may have more.
func (s *scene) exact(shown int64) {
	s.t.Helper()
	carol := s.LoggedIn("carol@example.com")
	devtest.Eventually(s.t, 30*time.Second, "the log does not count every refusal", func() error {
		counted, events := int64(0), 0
		for _, e := range carol.Events("--kind", "ssh.refuse") {
			raw, _ := json.Marshal(e["details"])
			var d struct {
				Count int64 `json:"count"`
			}
			_ = json.Unmarshal(raw, &d)
			if e["reason"] != "too many wrong attempts: this source waits its turn" {
				counted += d.Count
			}
			events++
		}
		if counted < shown {
			return fmt.Errorf("%d of %d", counted, shown)
		}
		if events > 200+int(shown)/20 {
			s.t.Fatalf("%d events for %d refusals", events, shown)
		}
		s.t.Logf("%d certificates refused, %d counted, in %d events", shown, counted, events)
		return nil
	})
}

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	return sshtest.Signer(t)
}

func strangersCertificate(t testing.TB) ssh.Signer {
	t.Helper()
	key := newSigner(t)
	cert := &ssh.Certificate{Key: key.PublicKey(), Serial: 1, CertType: ssh.UserCert, KeyId: "mine", ValidPrincipals: []string{"root"}, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, newSigner(t)); err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
