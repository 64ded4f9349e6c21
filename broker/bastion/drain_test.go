package bastion

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/broker/api"
)

// draining starts a bastion with one session and tells it to stop. ended carries what Run returned.
func draining(t *testing.T, f *fakeControl, change ...func(*Config)) (w *world, p *typist, ended chan error) {
	t.Helper()
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w = start(t, f, append([]func(*Config){func(c *Config) { c.Drain = time.Hour }}, change...)...)
	p = w.typist(t)
	ended = make(chan error, 1)
	go func() { ended <- w.stop() }()
	eventually(t, "a drain", func() bool { return len(f.find(kindDrain)) == 1 })
	return w, p, ended
}

func awaitStop(t *testing.T, ended chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it does not stop")
	}
}

// TestDrain: a bastion that is told to stop takes nobody new and lets go on what lives, until the person
// ends it.
func TestDrain(t *testing.T) {
	f := newFakeControl(t)
	w, p, ended := draining(t, f)
	if c, err := net.Dial("tcp", w.addr); err == nil {
		_ = c.Close()
		t.Error("it takes connections")
	}
	p.echoes('b')
	var d drainDetail
	decode(t, f.only(t, kindDrain).Details, &d)
	if d.Sessions != 1 || time.Until(d.Until) < 59*time.Minute {
		t.Errorf("reported %+v", d)
	}
	select {
	case <-ended:
		t.Fatal("it has stopped under a session")
	default:
	}
	_ = p.client.Close()
	awaitStop(t, ended)
	if end := f.only(t, kindEnd); end.Outcome != "success" {
		t.Errorf("ended by %q, %s", end.Reason, end.Outcome)
	}
}

// TestDrainEnds: what is not over by then is ended with the reason, and a second signal does not wait.
func TestDrainEnds(t *testing.T) {
	hurry := make(chan struct{})
	for name, c := range map[string]struct {
		change func(*Config)
		act    func()
	}{
		"after its time":   {func(c *Config) { c.Drain = 300 * time.Millisecond }, func() {}},
		"by a second stop": {func(c *Config) { c.Hurry = hurry }, func() { close(hurry) }},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeControl(t)
			_, p, ended := draining(t, f, c.change)
			c.act()
			awaitStop(t, ended)
			if end := f.only(t, kindEnd); !strings.Contains(end.Reason, "shutting down") {
				t.Errorf("ended by %q, %s", end.Reason, end.Outcome)
			}
			_ = p.client.Wait()
			if !strings.Contains(p.errs.String(), "shutting down; connect again") {
				t.Errorf("the person read %q", p.errs.String())
			}
		})
	}
}

// TestRevocationWhileDraining: nothing about a restart holds a revocation up.
func TestRevocationWhileDraining(t *testing.T) {
	f := newFakeControl(t)
	_, _, ended := draining(t, f)
	f.set(func() { f.revoked = append(f.revoked, api.Revocation{Index: 5, LoginID: loginID}) })
	awaitStop(t, ended)
	if end := f.only(t, kindEnd); end.Outcome != "revoked" {
		t.Errorf("ended by %q, %s", end.Reason, end.Outcome)
	}
}

// TestDrainTakesNobodyThroughOldConnections: who holds an outer connection of ssh -J opens no more hosts
// through it, once those that were on their way in are.
func TestDrainTakesNobodyThroughOldConnections(t *testing.T) {
	f := newFakeControl(t)
	f.newGoHost(t, "web-1", "host-web-1", echo)
	w := start(t, f, func(c *Config) { c.Drain = time.Hour })
	p, c := w.typist(t), f.credential(t)
	outer := w.mustDial(t, "ada", c.signer)
	open := func() error {
		ch, reqs, err := outer.OpenChannel("direct-tcpip", ssh.Marshal(directTCPIP{"web-1", 22, "127.0.0.1", 1}))
		if err != nil {
			return err
		}
		go ssh.DiscardRequests(reqs)
		return ch.Close()
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.stop() }()
	eventually(t, "a drain", func() bool { return w.b.drains.Load() != 0 })
	if err := open(); err != nil {
		t.Errorf("who was on the way in is refused: %v", err)
	}
	w.b.drains.Store(time.Now().Add(-drainSlack).UnixNano())
	if err := open(); err == nil || !strings.Contains(err.Error(), errDraining.Error()) {
		t.Errorf("got %v", err)
	}
	p.echoes('b')
	_ = p.client.Close()
	awaitStop(t, ended)
}
