package bastion

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit/recording"
	"sega/audit/recording/bucket"
	"sega/broker/api"
)

const (
	tellTimeout  = time.Second     // for a person whose terminal does not take the last words
	leaveTimeout = time.Second     // for a client that does not hang up by itself
	drainTimeout = 2 * time.Second // for what a client sent before it left
	maxPrograms  = 128             // session channels at a time; a stock sshd takes ten of a connection
)

var errManyPrograms = errors.New("this session has as many channels open as one may")

// client is an authenticated connection of a person.
type client struct {
	conn   *ssh.ServerConn
	raw    *bufferedConn
	holder *holder // who has signed
	outer  *live   // the connection of ssh -J that it came through; nil for a direct one
	source netip.Addr
	chans  <-chan ssh.NewChannel
	reqs   <-chan *ssh.Request
	lost   *atomic.Bool // the connection was given up: nothing came any more
}

// session is one recorded connection of a person to a host.
type session struct {
	b       *Bastion
	client  *client
	route   route
	hop     api.Hop
	meta    spoolMeta
	started time.Time // with its monotonic reading
	entry   *live

	ctx    context.Context // its cause is an endReason
	cancel context.CancelCauseFunc
	wasCut atomic.Bool // nothing may be forwarded any more

	parted    chan struct{}   // closed when the person has been told the end, or will not be
	others    <-chan struct{} // under mu: closed when all that was cut together is; nil: it was cut alone
	rec       *recording.Writer
	file      SpoolFile
	announced bool // its start may be in the log

	halts   halts // what keeps I/O from going on
	storage storage

	mu        sync.Mutex
	target    *target
	exits     []exitDetail
	terminals map[*channel]struct{} // on which notices are said

	operations *operations // on files; made by the first channel that moves some

	channels sync.WaitGroup // each until its person has been told
	inputs   sync.WaitGroup // each until all that the person sent is with the host
	wg       sync.WaitGroup // everything else of the session

	up *bucket.Uploader // of the live upload; read once wg is done

	lastChannel      atomic.Uint32
	lastActive       atomic.Int64        // nanoseconds since started
	noMore           atomic.Bool         // no-more-sessions@openssh.com
	refused          map[string][]string // forwards that were refused: places by kind, under mu
	declined         []string            // lines about them for the next terminal, under mu
	serving          bool                // the session has begun, under mu
	early            []api.Report        // that wait for that, under mu
	in, out, errored atomic.Int64        // bytes of programs

	begun     chan struct{} // closed when it is known whether there is a session
	listeners remoteListeners
	lent      lent
	slots     chan struct{} // of forwarded connections
	programs  chan struct{} // of session channels
	opaque    atomic.Int32  // forwarded connections that nobody can read
}

// proxy carries a person's connection to one host from the question to the last report.
func (b *Bastion) proxy(ctx context.Context, c *client, r route) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &session{b: b, client: c, route: r, ctx: ctx, cancel: cancel, started: time.Now(),
		begun: make(chan struct{}), parted: make(chan struct{}), slots: make(chan struct{}, maxForwards), programs: make(chan struct{}, maxPrograms), listeners: remoteListeners{all: map[listenPlace]*remoteListener{}}}
	s.wg.Go(s.answerGlobals)
	s.wg.Go(func() { _ = c.conn.Wait(); cancel(c.gone()) })
	err := s.open()
	close(s.begun)
	if err != nil {
		close(s.parted)
		s.refuse(err)
		s.wg.Wait()
		return
	}
	s.serve()
	s.settle()
	s.finish()
}

// cut ends the session: the host's side is closed when it returns. It reports whether it was the first to do so.
func (s *session) cut(why endReason) bool {
	first := s.sever(why, nil)
	s.hangUp()
	return first
}

// sever ends the session as one of many: when it returns, which is at once, nothing more reaches the host. Its connection
// is hangUp's, and what the end costs beyond telling the person waits for the others. It reports whether it was the
// first to end it.
func (s *session) sever(why endReason, others <-chan struct{}) bool {
	first := !s.wasCut.Swap(true)
	if first {
		s.mu.Lock()
		s.others = others
		s.mu.Unlock()
	}
	s.cancel(why)
	if t := s.connected(); t != nil {
		t.sever()
	}
	return first
}

// hangUp closes the host's side.
func (s *session) hangUp() {
	if t := s.connected(); t != nil {
		t.abort()
	}
}

func (s *session) connected() *target {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.target
}

// awaitOthers waits until what was cut together with the session is cut: seals, files and reports cost more than that,
// and nobody waits for them.
func (s *session) awaitOthers() {
	s.mu.Lock()
	others := s.others
	s.mu.Unlock()
	if others != nil {
		<-others
	}
}

// setTarget hands the host's connection to the session, unless it has been cut meanwhile.
func (s *session) setTarget(t *target) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	s.target = t
	return nil
}

// serve opens channels until the connection ends from either side, or is cut.
func (s *session) serve() {
	s.reportEarly()
	s.target.serve(s.fromHost)
	s.wg.Go(func() { s.cancel(hostGone(s.target.conn.Wait())) })
	s.wg.Go(s.watchRecording)
	s.wg.Go(s.upload)
	s.wg.Go(s.watchClock)
	s.wg.Go(s.watchHost)
	for {
		select {
		case <-s.ctx.Done():
			return
		case nc, ok := <-s.client.chans:
			if !ok {
				s.cancel(s.client.gone())
				return
			}
			s.accept(nc)
		}
	}
}

// accept proxies session channels and forwards, and refuses every other kind, which goes into the
// recording.
func (s *session) accept(nc ssh.NewChannel) {
	switch kind := nc.ChannelType(); {
	case kind == api.ChannelDirectTCP || kind == api.ChannelDirectSocket:
		s.fromPerson(nc)
		return
	case kind != "session" || s.noMore.Load():
		s.refuseForward(api.ChannelRequest{Type: kind}, "")
		reject(nc, errForbidden)
		return
	}
	select {
	case s.programs <- struct{}{}:
	default: // each holds a window of either side, and a host may never close what it has opened
		s.record(0, recording.Event{Type: recording.EventRefuse, Name: nc.ChannelType(), Reason: errManyPrograms.Error()})
		reject(nc, errManyPrograms)
		return
	}
	number := s.lastChannel.Add(1)
	s.channels.Add(1)
	s.inputs.Add(1)
	s.wg.Go(func() {
		defer func() { <-s.programs }()
		newChannel(s, number).run(nc)
	})
}

// decline keeps lines for the next shell on a terminal: SSH carries no reason for a refusal of the display, the agent or
// -R, and says nothing at all of the agent's.
func (s *session) decline(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range lines {
		if !slices.Contains(s.declined, line) && len(s.declined) < 2*maxRefused {
			s.declined = append(s.declined, line)
		}
	}
}

// tellDeclined returns the lines kept, once.
func (s *session) tellDeclined() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.declined
	s.declined = nil
	return terminalLines(strings.Join(lines, "\n"))
}

// reportEarly catches up, in its order, with what happened before the session's start was in the log.
func (s *session) reportEarly() {
	for {
		s.mu.Lock()
		early := s.early
		s.early, s.serving = nil, len(early) == 0
		s.mu.Unlock()
		if len(early) == 0 {
			return
		}
		s.b.reports.putAll(early)
	}
}

// answerGlobals answers keepalives and serves -R.
func (s *session) answerGlobals() {
	for r := range s.client.reqs {
		var ok bool // OpenSSH's keepalive counts any answer
		var answer []byte
		switch r.Type {
		case "no-more-sessions@openssh.com":
			s.noMore.Store(true)
		case api.ChannelListenTCP, api.ChannelListenSocket:
			ok, answer = s.listen(r)
		case "cancel-tcpip-forward", "cancel-streamlocal-forward@openssh.com":
			ok = s.unlisten(r)
		}
		_ = r.Reply(ok, answer)
	}
}

// began waits until it is known whether there is a session, and reports whether there is. Clients ask
// for forwards before anything else.
func (s *session) began() bool {
	select {
	case <-s.begun:
	case <-s.ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.target != nil && s.ctx.Err() == nil
}

// record writes an event, and ends the session if it cannot.
func (s *session) record(channel uint32, e recording.Event) bool {
	s.mu.Lock()
	rec := s.rec
	s.mu.Unlock()
	if rec == nil {
		return false // not open yet: nothing is forwarded either
	}
	if err := rec.WriteEvent(channel, e); err != nil {
		s.lostRecording(err)
		return false
	}
	return true
}

// recordData writes bytes, and ends the session if it cannot: what it returns false for must not be forwarded.
func (s *session) recordData(channel uint32, stream recording.Stream, data []byte) bool {
	if !s.halts.wait(s.ctx) || s.wasCut.Load() {
		return false
	}
	if unrecorded {
		return true
	}
	if err := s.rec.Write(channel, stream, data); err != nil {
		s.lostRecording(err)
		return false
	}
	s.lastActive.Store(int64(time.Since(s.started)))
	return !s.wasCut.Load()
}

// recordOmitted says that n bytes go by which policy leaves out of the recording, under recordData's contract.
func (s *session) recordOmitted(channel uint32, stream recording.Stream, n int) bool {
	if !s.halts.wait(s.ctx) || s.wasCut.Load() {
		return false
	}
	if err := s.rec.Omit(channel, stream, n); err != nil {
		s.lostRecording(err)
		return false
	}
	s.lastActive.Store(int64(time.Since(s.started)))
	return !s.wasCut.Load()
}

func (s *session) lostRecording(err error) {
	if s.cut(recordingFailed()) {
		s.b.cfg.Log.Error("recording failed: session ended", "session", s.hop.SessionID, "error", err)
	}
}

// watchRecording seals and uploads until the session ends.
func (s *session) watchRecording() {
	if err := s.rec.Run(s.ctx); err != nil {
		s.lostRecording(err)
	}
}

// settle brings everything to rest: the host's side first, then the person is told, then the
// connection is closed. Nothing of the session runs when it returns.
func (s *session) settle() {
	s.wg.Go(func() {
		for nc := range s.client.chans {
			_ = nc.Reject(ssh.Prohibited, "sega: "+s.reason().Error())
		}
	})
	if s.reason().quiet {
		waitAtMost(&s.inputs, drainTimeout)
	}
	s.target.close()
	waitAtMost(&s.channels, tellTimeout)
	close(s.parted)
	s.awaitOthers()
	left := make(chan struct{})
	s.wg.Go(func() { _ = s.client.conn.Wait(); close(left) })
	select {
	case <-left:
	case <-time.After(leaveTimeout):
	}
	_ = s.client.raw.Close()
	s.wg.Wait()
	s.stopListening()
	s.halts.stop()
	s.b.reg.remove(s.entry)
}

// reason returns why the session has ended.
func (s *session) reason() endReason {
	switch why := context.Cause(s.ctx).(type) {
	case endReason:
		return why
	default:
		return shuttingDown()
	}
}

// waitAtMost waits for wg, which the caller's other means must bring to an end later.
func waitAtMost(wg *sync.WaitGroup, d time.Duration) {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
