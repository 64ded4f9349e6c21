package bastion

import (
	"encoding/binary"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	exitRefused   = 255 // what ssh itself returns when it fails
	refuseTimeout = 10 * time.Second
)

// tellAndClose answers a connection that gets no host: each session channel reads why and ends with
// exit status 255, every other channel is refused with the reason. It returns when the client has
// gone, or has been given the time to.
func (c *client) tellAndClose(err error) {
	lines := explain(err)
	most := time.AfterFunc(refuseTimeout, func() { _ = c.raw.Close() }) // however many channels it opens
	defer most.Stop()
	deadline := time.AfterFunc(refuseTimeout, func() { _ = c.raw.Close() })
	defer deadline.Stop()
	var wg sync.WaitGroup
	for nc := range c.chans {
		if nc.ChannelType() != "session" {
			_ = nc.Reject(ssh.ConnectionFailed, strings.Join(lines, "; "))
		} else {
			wg.Go(func() { tellChannel(nc, lines) })
		}
		deadline.Reset(leaveTimeout)
	}
	_ = c.raw.Close()
	wg.Wait()
}

// tellChannel waits for the program that the client wants, so that terminal modes are set, and then
// says why there is none.
func tellChannel(nc ssh.NewChannel, lines []string) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer discardChannel(ch, reqs)
	for r := range reqs {
		req, ok := parseClientRequest(r.Type, r.Payload)
		_ = r.Reply(ok, nil)
		if ok && req.start {
			break
		}
	}
	_, _ = ch.Stderr().Write([]byte(strings.Join(lines, "\r\n") + "\r\n"))
	_, _ = ch.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, exitRefused))
	_ = ch.CloseWrite()
}
