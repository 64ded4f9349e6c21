package bastion

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
	"sega/sshca"
)

// withLogin is a credential of another login.
func (f *fakeControl) withLogin(t testing.TB, login string) credential {
	return f.credentialOf(t, sshca.KeyID{Session: login, Person: person})
}

// TestNamesOfOnePerson has one person ask for hosts that are not: the broker hears each name once,
// and who asked, and only so many of them; nobody else notices.
func TestNamesOfOnePerson(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	var asked atomic.Int64
	serials := make(chan uint64, 1000)
	f.onFront = func(r api.FrontRequest) error {
		if r.Host == "" || r.Host == "web-1" {
			return nil
		}
		asked.Add(1)
		serials <- r.AccessSerial
		return api.Errorf(api.KindDenied, "no host %s is known", r.Host)
	}
	w := start(t, f)
	c := f.credential(t)
	outer := w.mustDial(t, "ada", c.signer)
	open := func(host string) error {
		_, _, err := outer.OpenChannel("direct-tcpip", ssh.Marshal(directTCPIP{Host: host, Port: 22}))
		return err
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := open("nope"); err == nil {
					t.Error("a host that is not was opened")
				}
			}
		})
	}
	wg.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("the broker was asked %d times for one name", n)
	}
	if got := <-serials; got != c.cert.Serial {
		t.Errorf("the broker was told serial %d, want %d", got, c.cert.Serial)
	}
	begun := time.Now()
	for i := range 32 {
		wg.Go(func() {
			for k := range 8 {
				_ = open(fmt.Sprintf("nope-%d-%d", i, k))
			}
		})
	}
	eventually(t, "a login that has used up what it may", func() bool {
		w.b.calls.mu.Lock()
		defer w.b.calls.mu.Unlock()
		return w.b.calls.logins[loginID].tokens < 0
	})
	other := f.withLogin(t, "ses_zzzzzzzzzzzzzzzz2345")
	came := time.Now()
	inner := w.through(t, w.mustDial(t, "bea", other.signer), other)
	if err := newSession(t, inner).Run("true"); err != nil {
		t.Error(err)
	}
	if took := time.Since(came); took > callPatience {
		t.Errorf("somebody else waited for %v", took)
	}
	wg.Wait()
	most := (callBurst+callRate*(callPatience+time.Since(begun)).Seconds())/refusedCost + callsAtOnce
	if n := asked.Load(); float64(n) > most {
		t.Errorf("the broker was asked for %d names, %.0f were allowed", n, most)
	}
}

// TestRefusalIsOfOneLogin has the broker refuse a mask to one login: another gets it, and the first
// gets it too once the refusal is old.
func TestRefusalIsOfOneLogin(t *testing.T) {
	f := newFakeControl(t)
	now := time.Now()
	ada, bea := f.credential(t).cert, f.withLogin(t, "ses_zzzzzzzzzzzzzzzz2345").cert
	allow := false
	f.onFront = func(r api.FrontRequest) error {
		if r.AccessSerial == ada.Serial && !allow {
			return api.Errorf(api.KindRevoked, "revoked")
		}
		return nil
	}
	parsed, err := parseTrust(*f.trust())
	if err != nil {
		t.Fatal(err)
	}
	m := newMasks(f, bastionName, func() *trust { return parsed }, func() time.Time { return now }, newMeter())
	get := func(cert *ssh.Certificate) error { _, err := m.get(t.Context(), "web-1", certified(cert)); return err }
	if err := get(ada); !api.IsKind(err, api.KindRevoked) {
		t.Fatal(err)
	}
	allow = true
	if err := get(ada); !api.IsKind(err, api.KindRevoked) {
		t.Errorf("asked again at once: %v", err)
	}
	if err := get(bea); err != nil {
		t.Errorf("somebody else was refused: %v", err)
	}
	now = now.Add(refusedLife)
	if err := get(ada); err != nil {
		t.Errorf("refused for ever: %v", err)
	}
}

// TestBrokerThatIsAwayIsAskedAgain: only the broker's own no is remembered.
func TestBrokerThatIsAwayIsAskedAgain(t *testing.T) {
	f := newFakeControl(t)
	f.onFront = func(api.FrontRequest) error { return errFakeDown }
	parsed, err := parseTrust(*f.trust())
	if err != nil {
		t.Fatal(err)
	}
	m := newMasks(f, bastionName, func() *trust { return parsed }, time.Now, newMeter())
	cert := f.credential(t).cert
	if _, err := m.get(t.Context(), "web-1", certified(cert)); !errors.Is(err, errFakeDown) {
		t.Fatal(err)
	}
	f.onFront = nil
	if _, err := m.get(t.Context(), "web-1", certified(cert)); err != nil {
		t.Error(err)
	}
}

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeter()
		granted := func() error { return nil }
		denied := func() error { return api.Errorf(api.KindDenied, "no") }
		begun := time.Now()
		for range int(callBurst) {
			if err := m.ask(t.Context(), "a", granted); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("what may go at once took %v", d)
		}
		for range int(callRate) {
			if err := m.ask(t.Context(), "a", granted); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(begun).Round(10 * time.Millisecond); d != time.Second {
			t.Errorf("a second's worth took %v", d)
		}
		for range 2 * int(callPatience.Seconds()*callRate/refusedCost) {
			m.refused("a")
		}
		var hinted hintedError
		if err := m.ask(t.Context(), "a", granted); !errors.Is(err, errTooFast) || !errors.As(err, &hinted) {
			t.Errorf("after many refusals: %v", err)
		}
		for range int(callBurst / refusedCost) {
			_ = m.ask(t.Context(), "c", denied)
		}
		if begun := time.Now(); m.ask(t.Context(), "c", granted) != nil || time.Since(begun) < time.Second/callRate/2 {
			t.Errorf("refusals cost no more than what is granted")
		}
		if err := m.ask(t.Context(), "b", granted); err != nil {
			t.Errorf("somebody else: %v", err)
		}
		time.Sleep(time.Minute)
		if err := m.ask(t.Context(), "a", granted); err != nil {
			t.Errorf("after a minute: %v", err)
		}
		for i := range meterMost {
			_ = m.ask(t.Context(), fmt.Sprint(i), granted)
		}
		time.Sleep(time.Minute)
		if _ = m.ask(t.Context(), "last", granted); len(m.logins) != 1 {
			t.Errorf("%d logins are remembered for ever", len(m.logins))
		}
	})
}

// newFreeMeter bounds nothing for the login of tests.
func newFreeMeter() *meter {
	m := newMeter()
	m.logins[loginID] = &allowance{tokens: 1e9, at: time.Now().Add(time.Hour), slots: make(chan struct{}, 1000)}
	return m
}
