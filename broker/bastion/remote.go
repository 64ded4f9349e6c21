package bastion

import (
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/recording"
	"sega/broker/api"
)

const maxListeners = 32 // of a session

// remoteListener is a port or socket at which the host listens for the person (-R).
type remoteListener struct {
	ask         api.ChannelRequest
	started     time.Time
	connections int
}

// remoteListeners are those of a session, by what the host names when it has taken a connection.
type remoteListeners struct {
	mu  sync.Mutex // held while the host is asked: what it takes meanwhile waits
	all map[listenPlace]*remoteListener
}

// listenPlace identifies a listener in the words of both sides.
type listenPlace struct {
	host   string
	port   uint32
	socket string
}

func placeOf(r api.ChannelRequest) listenPlace { return listenPlace{r.Host, r.Port, r.Socket} }

// took reports whether a connection came to a listener that the person has asked for, and counts it.
func (l *remoteListeners) took(r api.ChannelRequest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.all[placeOf(r)]
	if one == nil {
		return false
	}
	one.connections++
	return true
}

// parseListen reads a global request that begins or ends listening.
func parseListen(kind string, payload []byte) (r api.ChannelRequest, ok bool) {
	r.Type = kind
	switch kind {
	case api.ChannelListenTCP, "cancel-tcpip-forward":
		var p listenTCP
		ok = parsePayload(payload, &p) && p.Port <= maxPort
		r.Host, r.Port = p.Host, p.Port
	case api.ChannelListenSocket, "cancel-streamlocal-forward@openssh.com":
		var p nameRequest
		ok = parsePayload(payload, &p) && p.Value != ""
		r.Socket = p.Value
	}
	return r, ok && meansItself(r.Host) && meansItself(r.Socket)
}

// listen answers a request that the host listen. The answer to one for any port names it.
func (s *session) listen(r *ssh.Request) (ok bool, answer []byte) {
	ask, ok := parseListen(r.Type, r.Payload)
	if !ok || !s.began() {
		return false, nil
	}
	if !s.hop.Forwards.Ports {
		s.refuseForward(ask, "")
		s.decline("sega: policy permits no remote forwarding here")
		return false, nil
	}
	l := &s.listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) >= maxListeners || l.all[placeOf(ask)] != nil {
		s.record(0, recording.Event{Type: recording.EventRefuse, Name: r.Type, Value: where(ask), Reason: errManyOpen.Error()})
		s.decline("sega: " + printable(where(ask)) + " is forwarded already, or too much else is")
		return false, nil
	}
	if _, err := s.askMetered(ask); err != nil {
		s.record(0, recording.Event{Type: recording.EventRefuse, Name: r.Type, Value: where(ask), Reason: printable(err.Error())})
		s.decline(explain(err)...)
		return false, nil
	}
	one := &remoteListener{ask: ask, started: time.Now()}
	if ok, answer = s.askHost(r, &one.ask); !ok {
		s.record(0, recording.Event{Type: recording.EventRefuse, Name: r.Type, Value: where(ask), Reason: "refused by the host"})
		s.stopped(one, audit.Failure, "refused by the host")
		s.decline("sega: the host does not listen at " + printable(where(ask)))
		return false, nil
	}
	l.all[placeOf(one.ask)] = one
	return true, answer
}

// askHost passes the request on, once it is recorded, and reads the port that the host has chosen.
func (s *session) askHost(r *ssh.Request, ask *api.ChannelRequest) (ok bool, answer []byte) {
	if !s.record(0, recording.Event{Type: recording.EventListen, Name: r.Type, Value: where(*ask)}) {
		return false, nil
	}
	ok, reply, err := s.target.conn.SendRequest(r.Type, true, r.Payload)
	if err != nil || !ok {
		return false, nil
	}
	if r.Type == api.ChannelListenTCP && ask.Port == 0 {
		if len(reply) != 4 {
			return false, nil
		}
		ask.Port = binary.BigEndian.Uint32(reply)
		return ask.Port <= maxPort, reply
	}
	return true, nil
}

// unlisten passes the end of listening on.
func (s *session) unlisten(r *ssh.Request) bool {
	ask, ok := parseListen(r.Type, r.Payload)
	if !ok || !s.began() {
		return false
	}
	l := &s.listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.all[placeOf(ask)]
	if one == nil || !s.record(0, recording.Event{Type: recording.EventListen, Name: r.Type, Value: where(ask)}) {
		return false
	}
	ok, _, err := s.target.conn.SendRequest(r.Type, true, r.Payload)
	if err != nil || !ok {
		return false
	}
	delete(l.all, placeOf(ask))
	s.stopped(one, audit.Success, "")
	return true
}

// stopped reports that the host listens no more.
func (s *session) stopped(one *remoteListener, outcome audit.Outcome, reason string) {
	s.b.reports.put(s.report(kindForwardClose, outcome, reason, forwardDetail{Type: one.ask.Type, Host: one.ask.Host, Port: one.ask.Port,
		Socket: one.ask.Socket, Seconds: time.Since(one.started).Seconds(), Connections: one.connections}))
}

// stopListening reports the listeners that end with the session.
func (s *session) stopListening() {
	s.listeners.mu.Lock()
	defer s.listeners.mu.Unlock()
	for _, one := range s.listeners.all {
		s.stopped(one, audit.Success, "")
	}
	s.listeners.all = nil
}
