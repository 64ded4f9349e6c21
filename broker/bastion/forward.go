package bastion

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/recording"
	"sega/broker/api"
)

const (
	kindForwardClose = "forward.close"
	maxForwards      = 128 // connections of forwards that a session carries at a time
)

var (
	errForbidden = errors.New("policy permits no forwarding of this kind here")
	errManyOpen  = errors.New("this session carries as many forwarded connections as one may")
	errInnerSSH  = errors.New("an SSH connection inside a forward cannot be recorded, so it is closed")
)

// forward is one connection that a session carries besides its programs: of -L, -D and -R, of the
// person's display or agent. Whoever opened it, bytes of the person's side are its input.
type forward struct {
	s       *session
	number  uint32
	ask     api.ChannelRequest
	origin  string // who connected, in the opener's words
	payload []byte // for the other side
	started time.Time
	opaque  bool // an SSH connection inside may go on

	person, host ssh.Channel
	in, out      atomic.Int64
	watch        *watch
	closing      sync.Once
	refused      atomic.Bool
}

// parseForward reads the opening of a forwarded connection. Nothing goes on that the recording does not
// say: reserved fields are left out.
func parseForward(kind string, payload []byte) (f *forward, ok bool) {
	f = &forward{ask: api.ChannelRequest{Type: kind}}
	switch kind {
	case api.ChannelDirectTCP, api.ChannelForwardedTCP:
		var d directTCPIP
		ok = parsePayload(payload, &d) && d.Port <= maxPort && d.OriginPort <= maxPort
		f.ask.Host, f.ask.Port, f.origin, f.payload = d.Host, d.Port, place(d.OriginHost, d.OriginPort), payload
	case api.ChannelDirectSocket:
		var d directSocket
		ok = parsePayload(payload, &d)
		f.ask.Socket, f.payload = d.Path, ssh.Marshal(directSocket{Path: d.Path})
	case api.ChannelForwardedSocket:
		var d forwardedSocket
		ok = parsePayload(payload, &d)
		f.ask.Socket, f.payload = d.Path, ssh.Marshal(forwardedSocket{Path: d.Path})
	case api.ChannelX11:
		var d x11Open
		ok = parsePayload(payload, &d) && d.OriginPort <= maxPort
		f.origin, f.payload = place(d.OriginHost, d.OriginPort), payload
	case api.ChannelAgent:
		ok = len(payload) == 0
	}
	return f, ok && meansItself(f.ask.Host) && meansItself(f.ask.Socket)
}

func place(host string, port uint32) string {
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}

// where is what a forward goes to, as the recording says it.
func where(r api.ChannelRequest) string {
	switch {
	case r.Socket != "":
		return r.Socket
	case r.Host != "" || r.Port != 0:
		return place(r.Host, r.Port)
	}
	return ""
}

// carry takes up a forwarded connection that one side has opened, unless there are too many, and where
// it is wanted; other is the connection of the other side.
func (s *session) carry(f *forward, nc ssh.NewChannel, other ssh.Conn, fromHost bool) {
	f.s, f.started, f.watch = s, time.Now(), &watch{}
	select {
	case s.slots <- struct{}{}:
	default:
		s.record(0, recording.Event{Type: recording.EventRefuse, Name: nc.ChannelType(), Value: where(f.ask), Reason: errManyOpen.Error()})
		reject(nc, errManyOpen)
		return
	}
	s.wg.Go(func() {
		defer func() { <-s.slots }()
		if fromHost && !s.awaited(f.ask) {
			s.unawaited(nc)
			return
		}
		f.run(nc, other, fromHost)
	})
}

// run asks, opens the other side, and carries until both sides have closed.
func (f *forward) run(nc ssh.NewChannel, other ssh.Conn, fromHost bool) {
	f.number = f.s.lastChannel.Add(1)
	f.ask.Channel = f.number
	if !f.s.record(f.number, recording.Event{Type: recording.EventOpen, Name: nc.ChannelType(), Value: where(f.ask), Origin: f.origin}) {
		reject(nc, f.s.reason())
		return
	}
	grant, err := f.s.askMetered(f.ask)
	if err != nil {
		f.refuse(nc, err)
		return
	}
	f.opaque = grant.Opaque
	far, farReqs, err := other.OpenChannel(nc.ChannelType(), f.payload)
	if err != nil {
		f.notOpened(nc, err)
		return
	}
	near, nearReqs, err := nc.Accept()
	if err != nil {
		f.ended(audit.Failure, "whoever opened it has gone")
		discardChannel(far, farReqs)
		return
	}
	f.person, f.host = near, far
	personReqs, hostReqs := nearReqs, farReqs
	if fromHost {
		f.person, f.host, personReqs, hostReqs = far, near, farReqs, nearReqs
	}
	f.exchange(personReqs, hostReqs)
}

// refuse tells whoever opened it why it is not.
func (f *forward) refuse(nc ssh.NewChannel, why error) {
	lines := explain(why)
	if errors.Is(why, errNotAsked) {
		lines = []string{"sega: the broker did not log it, so it was not opened; try again"}
	}
	f.s.record(f.number, recording.Event{Type: recording.EventRefuse, Name: nc.ChannelType(), Reason: printable(why.Error())})
	_ = nc.Reject(ssh.Prohibited, strings.Join(lines, "; "))
}

// notOpened passes on that the other side does not want it.
func (f *forward) notOpened(nc ssh.NewChannel, err error) {
	reason, text := refusalOf(err)
	f.s.record(f.number, recording.Event{Type: recording.EventRefuse, Name: nc.ChannelType(), Value: reason.String(), Reason: text})
	_ = nc.Reject(reason, text)
	f.ended(audit.Failure, "not opened: "+text)
}

// refusalOf is the other side's refusal of a channel, in words that harm no terminal.
func refusalOf(err error) (ssh.RejectionReason, string) {
	reason, text := ssh.ConnectionFailed, "sega: the other side closed the connection"
	var refused *ssh.OpenChannelError
	if errors.As(err, &refused) {
		text = printable(refused.Message)
		if refused.Reason >= ssh.Prohibited && refused.Reason <= ssh.ResourceShortage {
			reason = refused.Reason
		}
	}
	return reason, text
}

// exchange moves bytes in both directions until neither side has more. A side that closes takes the
// other with it once what it sent has arrived. It returns when both sides have closed: until then the
// forward has its place among those of the session.
func (f *forward) exchange(personReqs, hostReqs <-chan *ssh.Request) {
	var sides sync.WaitGroup
	inDone, outDone := make(chan struct{}), make(chan struct{})
	sides.Go(func() { ssh.DiscardRequests(personReqs); settled(inDone); _ = f.host.Close() })
	sides.Go(func() { ssh.DiscardRequests(hostReqs); settled(outDone); _ = f.person.Close() })
	sides.Go(func() {
		defer close(inDone)
		f.pump(recording.StreamIn, f.person, f.host, &f.in)
		_ = f.host.CloseWrite()
	})
	f.pump(recording.StreamOut, f.host, f.person, &f.out)
	_ = f.person.CloseWrite()
	close(outDone)
	<-inDone
	f.close()
	f.finish()
	sides.Wait()
}

// settled waits for a direction that has lost its reader, but not for ever.
func settled(done <-chan struct{}) {
	select {
	case <-done:
	case <-time.After(drainTimeout):
	}
}

func (f *forward) close() {
	f.closing.Do(func() {
		_ = f.host.Close() // the host's side first
		_ = f.person.Close()
	})
}

// pump goes read, record, look, forward (design I2).
func (f *forward) pump(stream recording.Stream, from ssh.Channel, to ssh.Channel, count *atomic.Int64) {
	buf := make([]byte, smallBuffer)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !f.s.recordData(f.number, stream, buf[:n]) || !f.look(stream, buf[:n]) {
				return
			}
			sent, err := to.Write(buf[:n])
			count.Add(int64(sent))
			if err != nil {
				return
			}
		}
		if err != nil {
			return
		}
		buf = resize(buf, n, largeBuffer)
	}
}

// look reports whether bytes may go on: not where they show that what is inside cannot be read.
func (f *forward) look(stream recording.Stream, data []byte) bool {
	found, first := f.watch.saw(stream, data)
	if first {
		f.s.record(f.number, recording.Event{Type: recording.EventOpaque, Name: found})
	}
	if found != opaqueSSH || f.opaque {
		return true
	}
	f.refused.Store(true)
	f.close()
	return false
}

// finish records and reports how it ended.
func (f *forward) finish() {
	f.s.awaitOthers()
	switch {
	case f.refused.Load():
		f.s.record(f.number, recording.Event{Type: recording.EventRefuse, Name: f.ask.Type, Reason: errInnerSSH.Error()})
		f.ended(audit.Denied, errInnerSSH.Error())
	case f.s.ctx.Err() != nil && f.s.reason().outcome == audit.Revoked:
		f.ended(audit.Revoked, f.s.reason().reason)
	default:
		f.ended(audit.Success, "")
	}
	f.s.record(f.number, recording.Event{Type: recording.EventClose})
}

// forwardDetail is that of forward.close.
type forwardDetail struct {
	Channel     uint32  `json:"channel"`
	Type        string  `json:"type"`
	Host        string  `json:"host,omitempty"`
	Port        uint32  `json:"port,omitempty"`
	Socket      string  `json:"socket,omitempty"`
	In          int64   `json:"bytes_in"`
	Out         int64   `json:"bytes_out"`
	Seconds     float64 `json:"seconds"`
	Opaque      string  `json:"opaque,omitempty"`      // what the recording holds the bytes of, and cannot show: "ssh", "tls"
	Connections int     `json:"connections,omitempty"` // of a listener
}

func (f *forward) ended(outcome audit.Outcome, reason string) {
	d := forwardDetail{Channel: f.number, Type: f.ask.Type, Host: f.ask.Host, Port: f.ask.Port, Socket: f.ask.Socket,
		In: f.in.Load(), Out: f.out.Load(), Seconds: time.Since(f.started).Seconds(), Opaque: f.watch.found()}
	if d.Opaque != "" {
		f.s.opaque.Add(1)
	}
	f.s.b.reports.put(f.s.report(kindForwardClose, outcome, reason, d))
}

// askMetered is ask for what programs open by themselves, and may open as fast as they can.
func (s *session) askMetered(r api.ChannelRequest) (grant api.ChannelGrant, err error) {
	err = s.b.calls.ask(s.ctx, s.client.holder.login, func() error {
		grant, err = s.ask(r)
		return err
	})
	return grant, err
}

// fromPerson takes up a connection of -L or -D.
func (s *session) fromPerson(nc ssh.NewChannel) {
	f, ok := parseForward(nc.ChannelType(), nc.ExtraData())
	switch {
	case !ok:
		s.record(0, recording.Event{Type: recording.EventRefuse, Name: nc.ChannelType(), Reason: "malformed"})
		_ = nc.Reject(ssh.ConnectionFailed, "sega: malformed request")
	case !s.hop.Forwards.Ports:
		s.refuseForward(f.ask, f.origin)
		reject(nc, errForbidden)
	default:
		s.carry(f, nc, s.target.conn, false)
	}
}

// fromHost takes up a connection that the host opens towards the person.
func (s *session) fromHost(nc ssh.NewChannel) {
	f, ok := parseForward(nc.ChannelType(), nc.ExtraData())
	if !ok {
		s.unawaited(nc)
		return
	}
	s.carry(f, nc, s.client.conn, true)
}

// awaited reports whether the person has asked in this session for what the host opens.
func (s *session) awaited(r api.ChannelRequest) bool {
	switch r.Type {
	case api.ChannelForwardedTCP, api.ChannelForwardedSocket:
		return s.listeners.took(r)
	case api.ChannelAgent:
		return s.lent.agent.Load()
	case api.ChannelX11:
		return s.lent.takeX11()
	}
	return false
}

func (s *session) unawaited(nc ssh.NewChannel) {
	s.record(0, recording.Event{Type: recording.EventRefuse, Name: nc.ChannelType(), Reason: "opened by the host"})
	_ = nc.Reject(ssh.Prohibited, "not allowed by the bastion")
}
