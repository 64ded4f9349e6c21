package bastion

import (
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
	"sega/broker/api"
)

// lent is what the host may use of the person's side in a session.
type lent struct {
	agent atomic.Bool

	mu  sync.Mutex
	x11 bool // for as many connections as it likes
	one int  // displays lent for a single connection
}

// takeX11 reports whether the host may connect to the person's display once more.
func (l *lent) takeX11() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.x11 && l.one > 0 {
		l.one--
		return true
	}
	return l.x11
}

func (l *lent) lendX11(single bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if single {
		l.one++
	} else {
		l.x11 = true
	}
}

// lend answers a request that the host may use the person's agent or display. The cookie of a display
// goes on as it is: clients send one made for this connection, and put their own in its place when the
// host shows it (RFC 4254 section 6.3.1).
func (c *channel) lend(r *ssh.Request) bool {
	var x x11Request
	event := recording.Event{Type: recording.EventLend, Name: r.Type}
	what, possible := "agent", c.s.hop.Forwards.Agent
	ok := len(r.Payload) == 0
	if r.Type == api.ChannelX11Request {
		what, possible = "X11", c.s.hop.Forwards.X11
		ok = parsePayload(r.Payload, &x)
		event.Value = string(r.Payload)
	}
	switch {
	case !ok:
		c.s.record(c.number, recording.Event{Type: recording.EventRefuse, Name: r.Type, Reason: "malformed"})
		return false
	case !possible:
		c.s.refuseForward(api.ChannelRequest{Type: r.Type}, "")
		c.s.decline("sega: policy permits no " + what + " forwarding here")
		return false
	}
	if _, err := c.s.ask(api.ChannelRequest{Channel: c.number, Type: r.Type}); err != nil {
		c.s.record(c.number, recording.Event{Type: recording.EventRefuse, Name: r.Type, Reason: printable(err.Error())})
		c.s.decline(explain(err)...)
		return false
	}
	if !c.s.record(c.number, event) {
		return false
	}
	if ok, err := c.host.SendRequest(r.Type, true, r.Payload); !ok || err != nil {
		c.s.decline("sega: the host allows no " + what + " forwarding")
		return false
	}
	if r.Type == api.ChannelX11Request {
		c.s.lent.lendX11(x.Single)
	} else {
		c.s.lent.agent.Store(true)
	}
	return true
}
