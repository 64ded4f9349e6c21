package bastion

import (
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
	"sega/broker/api"
)

const (
	recordedLine = "sega: this session is recorded"
	eofGrace     = 50 * time.Millisecond
)

// channel is one session channel: a shell, a command or a subsystem, with the host's counterpart.
//
// Nothing flows before the host has accepted a program: stock sshd drops bytes that come earlier.
// What the host says about the end waits until its output is with the person.
type channel struct {
	s      *session
	number uint32

	client, host         ssh.Channel
	clientReqs, hostReqs <-chan *ssh.Request

	answering sync.Mutex // held from a client's request to its answer

	mu    sync.Mutex // held while the bastion itself speaks to the person
	began bool       // the pumps run
	pty   bool

	begin     func()        // starts the pumps, once
	sendEOF   func()        // to the client, once
	drained   chan struct{} // closed when all output is with the person, or will never be
	inputEnd  chan struct{} // closed when all input is with the host, or will never be
	inputDone func()        // closes inputEnd, once
	wg        sync.WaitGroup
	held      *ssh.Request // exit-status or exit-signal, until the output is through
	exited    bool         // it has been forwarded
	screen    fullScreen
	errors    sync.Mutex // to write to the person's standard error

	grant api.ChannelGrant // of the program, once it may start
	files *files           // of the sftp subsystem, under mu; else nil

	copies *copies // of scp's old protocol, under mu; else nil
}

func newChannel(s *session, number uint32) *channel {
	c := &channel{s: s, number: number, drained: make(chan struct{}), inputEnd: make(chan struct{})}
	c.inputDone = sync.OnceFunc(func() { close(c.inputEnd); s.inputs.Done() })
	c.begin = sync.OnceFunc(c.startPumps)
	c.sendEOF = sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = c.client.CloseWrite()
	})
	return c
}

// run proxies the channel until both sides have closed it.
func (c *channel) run(nc ssh.NewChannel) {
	told := sync.OnceFunc(c.s.channels.Done)
	defer told()
	defer c.inputDone()
	if !c.open(nc) {
		return
	}
	c.wg.Go(c.fromClient)
	c.fromHost()
	c.awaitAnswer()
	c.begin() // where no program was started, the pumps only see the end
	c.awaitOutput()
	c.releaseExit()
	c.lastWords()
	_ = c.client.Close()
	told()
	c.s.awaitOthers()
	c.s.noMoreNotices(c)
	c.wg.Wait()
	if f := c.program(); f != nil {
		f.end()
	}
	c.copying().end()
	c.s.record(c.number, recording.Event{Type: recording.EventClose})
}

// lastWords tells the person why the channel has ended, where it has not done so by itself.
func (c *channel) lastWords() {
	switch why := c.program().why(); {
	case c.brokeOff():
		c.say("sega: " + c.s.reason().Error())
	case why != nil:
		c.sayBroken(why)
	default:
		c.sendEOF()
	}
}

// open records the channel, opens its counterpart and then accepts it.
func (c *channel) open(nc ssh.NewChannel) bool {
	if !c.s.record(c.number, recording.Event{Type: recording.EventOpen, Name: nc.ChannelType()}) {
		_ = nc.Reject(ssh.ConnectionFailed, "sega: "+c.s.reason().Error())
		return false
	}
	var err error
	if c.host, c.hostReqs, err = c.s.target.conn.OpenChannel(nc.ChannelType(), nil); err != nil {
		c.notOpened(nc, err)
		return false
	}
	if c.client, c.clientReqs, err = nc.Accept(); err != nil {
		_ = c.host.Close()
		c.s.wg.Go(func() { ssh.DiscardRequests(c.hostReqs) })
		return false
	}
	return true
}

// notOpened passes the host's refusal on, as the recording says it.
func (c *channel) notOpened(nc ssh.NewChannel, err error) {
	reason, text := refusalOf(err)
	if !c.s.record(c.number, recording.Event{Type: recording.EventRefuse, Name: nc.ChannelType(), Value: reason.String(), Reason: text}) {
		text = "sega: " + c.s.reason().Error()
	}
	_ = nc.Reject(reason, text)
}

// fromClient forwards requests in their order until the client closes the channel, and then closes
// the host's side once all input has been written there.
func (c *channel) fromClient() {
	for r := range c.clientReqs {
		c.answer(r)
	}
	c.awaitInput()
	_ = c.host.Close()
}

func (c *channel) answer(r *ssh.Request) {
	c.answering.Lock()
	defer c.answering.Unlock()
	ok, start := c.clientRequest(r)
	_ = r.Reply(ok, nil)
	if ok && start {
		c.begin()
	}
}

// awaitAnswer waits until the client has the answer to what it has asked: a program may be over, and the host's side of
// the channel closed, before the news that it has begun has gone on.
func (c *channel) awaitAnswer() {
	c.answering.Lock()
	defer c.answering.Unlock()
}

// awaitInput waits until what the client sent before it closed the channel is with the host, or
// until the host has not taken it for long.
func (c *channel) awaitInput() {
	if !c.hasBegun() {
		c.inputDone()
		return
	}
	select {
	case <-c.inputEnd:
	case <-time.After(drainTimeout):
	}
}

// clientRequest records a request and forwards it. start says that a program was asked for.
func (c *channel) clientRequest(r *ssh.Request) (ok, start bool) {
	if r.Type == api.ChannelAgentRequest || r.Type == api.ChannelX11Request {
		return c.lend(r), false
	}
	req, known := parseClientRequest(r.Type, r.Payload)
	if !known {
		c.s.record(c.number, recording.Event{Type: recording.EventRefuse, Name: r.Type})
		return false, false
	}
	if req.start {
		c.s.halts.wait(c.s.ctx)
		if err := c.mayStart(req.event); err != nil {
			return c.notStarted(err), false
		}
	}
	if !c.s.record(c.number, req.event) {
		return false, req.start
	}
	ok, err := c.host.SendRequest(r.Type, r.WantReply || req.start, req.payload)
	ok = err == nil && (ok || !r.WantReply && !req.start)
	if ok && req.pty {
		c.setPTY()
	}
	if ok && req.event.Type == recording.EventSubsystem && req.event.Name == api.SubsystemSFTP {
		c.follow()
	}
	if ok && req.event.Type == recording.EventExec {
		c.followCopy(req.event.Command)
	}
	if ok && req.event.Type == recording.EventShell && c.isPTY() {
		c.say(terminalLines(c.s.b.cfg.MOTD) + c.s.tellDeclined() + recordedLine)
	}
	if ok && req.start && c.isPTY() {
		c.s.showsNotices(c)
	}
	return ok, req.start
}

// fromHost forwards what the host says about the session until it closes the channel. The end of
// the output goes on at once where the program lives on, and just before the close where it ends:
// after an end of output the bastion could no longer tell the person that the host has gone.
//
// To a client that may share its connection, and has not said no-more-sessions@openssh.com, it goes on
// with the program's end alone: OpenSSH's master closes a channel whose both ends have ended, x/crypto
// answers that at once with its own close, and the exit status would come too late.
func (c *channel) fromHost() {
	drained := c.drained
	var grace <-chan time.Time
	for {
		select {
		case r, ok := <-c.hostReqs:
			if !ok {
				return
			}
			c.hostRequest(r)
		case <-drained:
			drained, grace = nil, time.After(eofGrace)
		case <-grace:
			if c.s.ctx.Err() == nil && c.s.noMore.Load() {
				c.sendEOF()
			}
		}
		if drained == nil {
			c.releaseExit()
		}
	}
}

func (c *channel) hostRequest(r *ssh.Request) {
	req, known := parseTargetRequest(r.Type, r.Payload)
	switch {
	case !known:
		_ = r.Reply(false, nil)
	case req.recorded && c.held == nil:
		c.held = r
	case !req.recorded:
		ok, err := c.client.SendRequest(r.Type, r.WantReply, req.payload)
		_ = r.Reply(ok && err == nil, nil)
	}
}

// releaseExit records and forwards how the program ended; at most one answer goes through.
func (c *channel) releaseExit() {
	if c.held == nil || c.exited {
		return
	}
	c.exited = true
	req, _ := parseTargetRequest(c.held.Type, c.held.Payload)
	c.s.noteExit(c.number, req.event)
	if c.s.record(c.number, req.event) && !c.s.wasCut.Load() {
		_, _ = c.client.SendRequest(c.held.Type, false, req.payload)
	}
}

// awaitOutput waits until all output is with the person; once the session has ended, not longer
// than a person's terminal may take.
func (c *channel) awaitOutput() {
	select {
	case <-c.drained:
		return
	case <-c.s.ctx.Done():
	}
	select {
	case <-c.drained:
	case <-time.After(tellTimeout):
	}
}

// brokeOff reports whether the channel has ended because the session has, against the person's
// will. Where the program's own end is missing, the news of the connection's may be just behind.
func (c *channel) brokeOff() bool {
	if !c.exited {
		select {
		case <-c.s.ctx.Done():
		case <-time.After(eofGrace):
		}
	}
	return c.s.ctx.Err() != nil && !c.s.reason().quiet
}

// say writes a line of the bastion's own onto the person's terminal. While the host's output is
// flowing it says nothing: a channel has room for one writer.
func (c *channel) say(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began {
		select {
		case <-c.drained:
		default:
			return
		}
	}
	start := ""
	if c.began && c.pty {
		start = "\r\n"
	}
	_, _ = personErrors{c}.Write([]byte(start + line + "\r\n"))
}

func (c *channel) isPTY() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pty
}

func (c *channel) setPTY() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pty = true
}

// follow has what goes through the channel taken for SFTP, unless it flows already.
func (c *channel) follow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.began {
		c.files = newFiles(c, c.grant)
	}
}

// program returns what follows the channel's bytes, or nil.
func (c *channel) program() *files {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.files
}

func (c *channel) hasBegun() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.began
}
