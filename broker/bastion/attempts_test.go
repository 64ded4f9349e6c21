package bastion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestAttemptsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAttempts(time.Now)
		one, two, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("192.0.2.1")
		for i := range wrongFree {
			if a.failed(one) || a.held(two) {
				t.Fatalf("held after %d attempts", i+1)
			}
		}
		if !a.failed(two) || a.failed(one) || !a.held(one) || a.held(other) {
			t.Error("one more from the same /64 does not hold it, and it alone, once")
		}
		a.signed(two)
		if a.held(one) {
			t.Error("held although somebody has signed")
		}
		for range wrongFree + 1 {
			a.failed(one)
		}
		time.Sleep(wrongWindow)
		if a.held(one) {
			t.Error("held after its window")
		}
	})
}

// TestAttemptsAreBounded: however many sources try, so many are kept, and those of late.
func TestAttemptsAreBounded(t *testing.T) {
	now := time.Unix(0, 0)
	a := newAttempts(func() time.Time { now = now.Add(time.Microsecond); return now })
	var last netip.Addr
	for i := range 3 * wrongKept {
		last = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		a.failed(last)
	}
	if len(a.sources) != wrongKept || a.sources[network(last)] == nil {
		t.Errorf("%d sources are kept", len(a.sources))
	}
}

// TestTurns: held sources go a few at a time, and who stalls keeps his turn for a second.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAttempts(time.Now)
		bad, good := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		for range wrongFree + 1 {
			a.failed(bad)
		}
		for range heldTurns {
			if _, err := a.turn(t.Context(), bad); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		if _, err := a.turn(t.Context(), good); err != nil || time.Since(begun) != 0 {
			t.Errorf("others wait: %v, %v", time.Since(begun), err)
		}
		done, err := a.turn(t.Context(), bad)
		if err != nil || time.Since(begun) != heldTurn {
			t.Errorf("a turn came after %v, %v", time.Since(begun), err)
		}
		done()
		done()
		ctx, cancel := context.WithCancelCause(t.Context())
		for range heldTurns {
			_, _ = a.turn(t.Context(), bad)
		}
		cancel(errDraining)
		if _, err := a.turn(ctx, bad); !errors.Is(err, errDraining) {
			t.Errorf("got %v", err)
		}
		time.Sleep(2 * heldTurn)
		if len(a.turns) != 0 {
			t.Errorf("%d turns are still taken", len(a.turns))
		}
	})
}

// TestWrongAttempts: a flood of wrong certificates and keys of one address holds that address, is counted
// exactly in few events, and neither somebody with a good certificate from there is kept out, nor anybody
// else. That one lifts the hold.
func TestWrongAttempts(t *testing.T) {
	const each, crowd = 40, 8
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f, func(c *Config) { c.Log = discardLog(); c.RefuseWindow = 200 * time.Millisecond })
	bad, begun := forged(t, f.credential(t), newSigner(t), func(*ssh.Certificate) {}), time.Now()
	var wg sync.WaitGroup
	for range crowd {
		wg.Go(func() {
			for range each {
				if c, err := w.dial("ada", bad); err == nil {
					_ = c.Close()
					t.Error("a wrong certificate got in")
				}
			}
		})
	}
	wg.Wait()
	if !w.b.attempts.held(netip.MustParseAddr("127.0.0.1")) {
		t.Error("the source is not held")
	}
	l := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	nc, err := l.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := ssh.NewClientConn(nc, w.addr, w.dialConfig("ada", f.credential(t).signer)); err != nil {
		t.Errorf("another address is kept out: %v", err)
	}
	_ = nc.Close()
	if err := newSession(t, w.direct(t)).Start("x"); err != nil {
		t.Errorf("an honest person of that address is kept out: %v", err)
	}
	if w.b.attempts.held(netip.MustParseAddr("127.0.0.1")) {
		t.Error("the source is held although somebody has signed")
	}
	counted := func() (n, held int) {
		for _, r := range f.find(kindRefuse) {
			var d refusal
			_ = json.Unmarshal(r.Details, &d)
			if r.Reason == reasonHeld {
				held += d.Count
			} else {
				n += d.Count
			}
		}
		return n, held
	}
	eventually(t, "exact counts", func() bool { n, held := counted(); return n == each*crowd && held == 1 })
	windows := int(time.Since(begun)/(200*time.Millisecond)) + 2
	if n := len(f.find(kindRefuse)); n > 3*windows { // the first of a window, its repeats, and the hold
		t.Errorf("%d events for %d attempts in %d windows", n, each*crowd, windows)
	}
}

// TestNothingIsRevealed: to whoever holds no certificate every user and host name gets the same answers, and
// nobody is asked about any of them, so that time tells nothing either.
func TestNothingIsRevealed(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f)
	user := currentLogin(t)
	names := []string{user + "%web-1", user + "+web-1", "nobody%web-1", user + "%no-such-host", "ada", "", "root%", "%web-1", "a b%c d", strings.Repeat("x", 300), "key_1%web-1"}
	fronts := 0
	eventually(t, "the bastion's own certificate", func() bool { // for which it asks once the feed is there
		f.mu.Lock()
		defer f.mu.Unlock()
		fronts = len(f.fronts)
		return fronts > 0
	})
	for what, signer := range map[string]ssh.Signer{
		"a plain key":                            newSigner(t),
		"a foreign CA":                           forged(t, f.credential(t), newSigner(t), func(*ssh.Certificate) {}),
		"an expired one":                         forged(t, f.credential(t), f.access, func(x *ssh.Certificate) { x.ValidBefore = x.ValidAfter + 1 }),
		"a certificate of ada's without her key": certSigner{newSigner(t), f.credential(t).cert},
	} {
		var first []string
		for i, name := range names {
			got := w.transcript(t, name, signer)
			if i == 0 {
				first = got
				continue
			}
			if !slices.Equal(got, first) {
				t.Errorf("%s, %q: %q, and for %q %q", what, name, got, names[0], first)
			}
		}
		t.Logf("%s: %q", what, first)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.hops) != 0 || len(f.fronts) != fronts {
		t.Errorf("the broker was asked for %d hops and the masks %q", len(f.hops), f.fronts[fronts:])
	}
}

// transcript is what a stranger learns: the host's certificate, a banner, the methods that he is offered,
// and how it ends.
func (w *world) transcript(t *testing.T, name string, signer ssh.Signer) (out []string) {
	t.Helper()
	nc, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	config := w.dialConfig(name, signer)
	check := config.HostKeyCallback
	config.HostKeyCallback = func(host string, remote net.Addr, key ssh.PublicKey) error {
		cert := key.(*ssh.Certificate)
		out = append(out, fmt.Sprint(cert.ValidPrincipals, cert.Serial))
		return check(host, remote, key)
	}
	config.BannerCallback = func(text string) error { out = append(out, text); return nil }
	config.Auth = append([]ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return []ssh.Signer{signer}, nil }),
		ssh.Password("x")}, config.Auth...)
	if _, _, _, err = ssh.NewClientConn(nc, w.addr, config); err == nil {
		t.Fatalf("%q got in", name)
	}
	return append(out, err.Error())
}
