package bastion

import (
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
)

// silences is how many intervals without a byte end a connection.
const silences = 4

// keepAlive asks a client that has sent nothing for an interval for a sign of life, as sshd does by
// ClientAliveInterval (sshd_config(5)), and closes the connection when none has come for four of them:
// a laptop that is gone says nothing, and TCP alone would wait for minutes. Any byte is a sign, so that
// a slow link with much on its way is none that is lost. It ends with stop.
//
// What it asks is as OpenSSH asks it: a global request that clients answer, with a refusal if they do
// not know it.
func (c *client) keepAlive(every time.Duration) (stop func()) {
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if wentSilent(done, every, c.raw, c.conn) {
			c.lost.Store(true)
			c.raw.Abort()
		}
	}()
	return func() { close(done); <-ended }
}

// wentSilent asks a side for signs of life until done is closed, and returns true once none came for
// too long.
func wentSilent(done <-chan struct{}, every time.Duration, raw *bufferedConn, conn ssh.Conn) bool {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var asked atomic.Bool
	heard := lull{last: time.Now()}
	for {
		select {
		case <-done:
			return false
		case <-tick.C:
		}
		silent := raw.silent()
		if heard.nothing(time.Now(), silent) {
			return true
		}
		if silent >= every && !asked.Swap(true) {
			go func() { // ends with the answer, or with the connection
				_, _, _ = conn.SendRequest("keepalive@openssh.com", true, nil)
				asked.Store(false)
			}()
		}
	}
}

// lull counts intervals without a byte. An interval counts once however long it took: a bastion that was itself
// held up, as a machine that was moved, does not take that for the others' silence.
type lull struct {
	last time.Time // that it was looked at
	in   int       // intervals in a row without a byte
}

// nothing notes at a time for how long nothing has come, and reports whether that is too long.
func (l *lull) nothing(now time.Time, silent time.Duration) bool {
	if silent < now.Sub(l.last) {
		l.in = 0
	} else {
		l.in++
	}
	l.last = now
	return l.in >= silences
}

// watchHost gives up a host that says nothing any more, as keepAlive does a client: else a session to a
// machine that is gone would last until TCP notices.
func (s *session) watchHost() {
	if wentSilent(s.ctx.Done(), s.b.cfg.KeepAlive, s.target.raw, s.target.conn) {
		s.cut(hostLost())
	}
}

func hostLost() endReason {
	return endReason{outcome: audit.Failure, reason: "the host does not answer any more"}
}

// gone is why the client's connection has ended, where nobody else ended it.
func (c *client) gone() endReason {
	if c.lost.Load() {
		return clientLost()
	}
	return clientClosed()
}

func clientLost() endReason {
	return endReason{outcome: audit.Failure, reason: "the connection to the person was lost", quiet: true}
}
