//go:build linux

package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker"
	"sega/broker/api"
	"sega/sshca"
)

// loginRate is how many logins begin in a second, for the whole of a rotation.
const loginRate = 5

// laptop logs in again and again, with a certificate that it keeps for as long as sega does.
type laptop struct {
	s    *sshWorld
	p    *person
	keep time.Duration // of a certificate's life that must be left

	mu     sync.Mutex
	a      access
	front  []string
	target string
	under  map[string]int // logins under way, by target
	logins int
	slow   int // of them, that failed after longer than what keep leaves of a certificate
	failed []string
}

// certified is the laptop's certificate, and the front CAs that came with it.
func (l *laptop) certified() (access, sshca.Bundle, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.a.cert == nil || time.Until(time.Unix(int64(l.a.cert.ValidBefore), 0)) < l.keep {
		a := access{plain: newSigner(l.s.t)}
		got := l.s.send(l.p.post(api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(a.plain.PublicKey())}))
		var c api.Certificate
		if err := json.Unmarshal([]byte(got.body), &c); err != nil || got.code != 200 {
			return a, nil, fmt.Errorf("certificate: HTTP %d: %s", got.code, got.body)
		}
		var err error
		if a.cert, err = sshca.ParseCertificate(c.Certificate); err != nil {
			return a, nil, err
		}
		l.a, l.front = a, c.FrontCAs
	}
	front, err := sshca.ParseBundle(l.front)
	return l.a, front, err
}

func (l *laptop) login() error {
	target := l.begin()
	defer l.end(target)
	a, front, err := l.certified()
	if err != nil {
		return err
	}
	c, err := ssh.Dial("tcp", l.s.addr, &ssh.ClientConfig{User: l.s.account + "+" + target, Auth: []ssh.AuthMethod{ssh.PublicKeys(a.signer())}, Timeout: patience,
		HostKeyCallback: frontOnly(front, bastionName)})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	out, errs, err := run(c, "echo in")
	if err != nil || strings.TrimSpace(out) != "in" {
		return fmt.Errorf("%s: %w: %q %q", target, err, out, errs)
	}
	return nil
}

// keepLoggingIn begins logins until ctx ends, and waits for those that were begun.
func (l *laptop) keepLoggingIn(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(time.Second / loginRate)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wg.Go(func() {
			began := time.Now()
			err := l.login()
			l.mu.Lock()
			defer l.mu.Unlock()
			switch l.logins++; {
			case err == nil:
			case time.Since(began) > l.keep:
				l.slow++ // a machine this busy: what it was let in by may have expired meanwhile
			default:
				l.failed = append(l.failed, time.Now().Format("05.000 ")+err.Error())
			}
		})
	}
}

func (l *laptop) begin() (target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.under == nil {
		l.under = map[string]int{}
	}
	l.under[l.target]++
	return l.target
}

func (l *laptop) end(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.under[target]--
}

// goTo has logins go to another target, and waits for those that go to the old one.
func (l *laptop) goTo(target string) {
	l.mu.Lock()
	old := l.target
	l.target = target
	l.mu.Unlock()
	eventually(l.s.t, "logins to "+old, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.under[old] == 0
	})
}

// fine is how many logins have come in.
func (l *laptop) fine() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.logins - l.slow - len(l.failed)
}

// step asks the broker as root of its machine.
func (s *sshWorld) step(ca, name string, asked api.CAStep) (code int, detail string) {
	body, err := json.Marshal(asked)
	if err != nil {
		s.t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/ca/"+ca+"/"+name, bytes.NewReader(body))
	rec := httptest.NewRecorder()
	s.server.Operators().ServeHTTP(rec, r.WithContext(broker.WithOperator(r.Context(), broker.Operator{Subject: "uid:0", Name: "root"})))
	return rec.Code, rec.Body.String()
}

// insist repeats a step until it is allowed, as an operator does who waits.
func (s *sshWorld) insist(within time.Duration, ca, name string, asked api.CAStep) {
	s.t.Helper()
	for start := time.Now(); ; {
		code, detail := s.step(ca, name, asked)
		if code == 200 {
			return
		}
		if code != 409 || time.Since(start) > within {
			s.t.Fatalf("%s %s: %d %s", name, ca, code, detail)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestRotationUnderLoad rotates each CA while somebody logs in five times a second through a real bastion to a real sshd: no login
// fails. Certificates live for seconds in it; with SEGA_SOAK=1 for minutes.
func TestRotationUnderLoad(t *testing.T) {
	unit := time.Second
	if os.Getenv("SEGA_SOAK") == "1" {
		unit = 20 * time.Second
	}
	keys := caKeys{Access: newSigner(t), Hop: newSigner(t), Front: newSigner(t), Host: newSigner(t)}
	next := caKeys{Access: newSigner(t), Hop: newSigner(t), Front: newSigner(t), Host: newSigner(t)}
	s := newSSHWorldOf(t, keys, nil, func(_ *world, c *broker.Config) {
		c.Times.AccessCert, c.Times.HopCert, c.Times.FrontCert, c.Times.CALate = 4*unit, 4*unit, 64*time.Second, unit
		if unit > time.Second {
			c.Times.FrontCert = 5 * unit
		}
		c.ReloadCAs = func(context.Context) (broker.CAs, error) {
			both := func(a, b ssh.Signer) []ssh.Signer { return []ssh.Signer{a, b} }
			return broker.CAs{Access: both(keys.Access, next.Access), Hop: both(keys.Hop, next.Hop), Front: both(keys.Front, next.Front), Host: both(keys.Host, next.Host)}, nil
		}
	})
	configured := len(s.sshds)
	host := s.enrolledHost("host-new", s.login("sam"))
	l := &laptop{s: s, p: s.login("alice"), keep: 2 * unit, target: "host-a"}
	if err := l.login(); err != nil {
		t.Fatal(err)
	}
	old := l.snapshot()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	loads := make(chan struct{})
	go func() { defer close(loads); l.keepLoggingIn(ctx) }()

	within := 30 * unit
	all := []string{"access", "hop", "front", "host"}
	for _, ca := range all {
		s.insist(within, ca, "publish", api.CAStep{Reason: "test"})
	}
	for _, d := range s.sshds[:configured] { // by hand: these hosts are not enrolled
		d.replace(t, "hop_ca.pub", sshca.MarshalLine(keys.Hop.PublicKey())+"\n"+sshca.MarshalLine(next.Hop.PublicKey())+"\n")
	}
	eventually(t, "the host that has enrolled to be the last that has not seen the hop CA's key", func() bool {
		code, detail := s.step("hop", "rotate", api.CAStep{ByHand: true})
		if code != 409 {
			t.Fatalf("the hop CA's key signs before a host that has enrolled trusts it: %d %s", code, detail)
		}
		return strings.Contains(detail, `"host host-new has not seen the key"`)
	})
	host.follow()
	for _, ca := range all {
		s.insist(within, ca, "rotate", api.CAStep{ByHand: ca == "hop"})
	}
	if cert := host.renew(); !bytes.Equal(cert.SignatureKey.Marshal(), next.Host.PublicKey().Marshal()) {
		t.Error("a host that renews its certificate gets one of the old host CA")
	}
	l.goTo(host.name) // the others have certificates that the retired CA signed
	for _, ca := range []string{"access", "hop", "host"} {
		s.insist(within, ca, "retire", api.CAStep{ByHand: ca == "host"})
	}
	// A front certificate is valid from a minute ago, which the rotation takes for its whole life: where nobody waits for that it is
	// forced, after what is left of it has passed with the steps before.
	if unit > time.Second {
		s.insist(within, "front", "retire", api.CAStep{})
	} else {
		s.insist(within, "front", "retire", api.CAStep{Force: true})
	}
	s.rest(unit)
	eventually(t, "logins", func() bool { return l.fine() >= loginRate*5 })
	cancel()
	<-loads
	t.Logf("%d logins, %d failed, %d were too slow", l.logins, len(l.failed), l.slow)
	if len(l.failed) > 0 {
		t.Errorf("%d logins, %d failed:\n%s", l.logins, len(l.failed), strings.Join(l.failed, "\n"))
	}
	for ca, key := range map[string]ssh.Signer{"access": next.Access, "hop": next.Hop, "front": next.Front, "host": next.Host} {
		if got := s.trusted(ca); !slices.Equal(got, []string{sshca.MarshalLine(key.PublicKey())}) {
			t.Errorf("the %s CA after its rotation: %v", ca, got)
		}
	}
	// What a retired CA signs opens nothing, however well it is made.
	forged := old.forged(keys.Access, func(c *ssh.Certificate) {
		c.ValidBefore = uint64(time.Now().Add(time.Minute).Unix())
	})
	front := sshca.Bundle{next.Front.PublicKey()}
	c, err := ssh.Dial("tcp", s.addr, &ssh.ClientConfig{User: s.account + "+host-new", Auth: []ssh.AuthMethod{ssh.PublicKeys(forged)}, Timeout: patience, HostKeyCallback: frontOnly(front, bastionName)})
	if err == nil {
		_ = c.Close()
		t.Error("a certificate of the retired access CA was let in")
	}
	if c, err := s.dialFront(keys.Front, old); err == nil {
		_ = c.Close()
		t.Error("the bastion shows a certificate of the retired front CA")
	}
}

func (l *laptop) snapshot() access {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.a
}

// rest lets logins go on for a while: what is waited for is that time passes.
func (s *sshWorld) rest(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.t.Context().Done():
	}
}

// dialFront connects as a laptop does that trusts one front CA alone.
func (s *sshWorld) dialFront(ca ssh.Signer, a access) (*ssh.Client, error) {
	return ssh.Dial("tcp", s.addr, &ssh.ClientConfig{User: s.account + "+host-a", Auth: []ssh.AuthMethod{ssh.PublicKeys(a.signer())}, Timeout: patience,
		HostKeyCallback: frontOnly(sshca.Bundle{ca.PublicKey()}, bastionName)})
}

// trusted are the keys that a CA has in the bundles, as an operator sees them.
func (s *sshWorld) trusted(ca string) (lines []string) {
	s.t.Helper()
	r := httptest.NewRequest("GET", api.RouteCAs, nil)
	rec := httptest.NewRecorder()
	s.server.Operators().ServeHTTP(rec, r.WithContext(broker.WithOperator(r.Context(), broker.Operator{Subject: "uid:0", Name: "root"})))
	var all api.CAs
	if err := json.Unmarshal(rec.Body.Bytes(), &all); err != nil || rec.Code != 200 {
		s.t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	for _, v := range all.CAs {
		for _, k := range v.Keys {
			if v.Name == ca && k.Phase != "retired" {
				lines = append(lines, k.Line)
			}
		}
	}
	return lines
}
