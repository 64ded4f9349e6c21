package bastion

import (
	"sync/atomic"
	"time"

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
		tick := time.NewTicker(every)
		defer tick.Stop()
		var asked atomic.Bool
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			switch silent := c.raw.silent(); {
			case silent >= silences*every:
				c.lost.Store(true)
				c.raw.Abort()
				return
			case silent >= every && !asked.Swap(true):
				go func() { // ends with the answer, or with the connection
					_, _, _ = c.conn.SendRequest("keepalive@openssh.com", true, nil)
					asked.Store(false)
				}()
			}
		}
	}()
	return func() { close(done); <-ended }
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
