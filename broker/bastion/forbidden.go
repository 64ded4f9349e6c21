package bastion

import (
	"slices"

	"sega/audit"
	"sega/audit/recording"
	"sega/broker/api"
)

// Forwards that policy never permits in a session are refused without asking the broker. Whoever asks may repeat it as
// fast as he can, so not every one is an event; the recording has them all.
const (
	maxRefused       = 8 // kinds of a session that are events
	maxRefusedPlaces = 8 // of a kind
)

// forbiddenDetail is that of forward.open where nobody asked the broker. All of it are the words of whoever asked.
type forbiddenDetail struct {
	Type   string `json:"type"`
	Host   string `json:"host,omitempty"`
	Port   uint32 `json:"port,omitempty"`
	Socket string `json:"socket,omitempty"`
	Origin string `json:"origin,omitempty"`
}

// refuseForward says in the recording, and the first time of each place in the log, that a forward
// was asked for and refused.
func (s *session) refuseForward(ask api.ChannelRequest, origin string) {
	s.record(0, recording.Event{Type: recording.EventRefuse, Name: ask.Type, Value: where(ask), Origin: origin})
	if ask.Type == "session" || !s.firstRefused(ask.Type, printable(where(ask))) {
		return
	}
	d := forbiddenDetail{Type: printable(clip(ask.Type)), Host: printable(ask.Host), Port: ask.Port, Socket: printable(ask.Socket), Origin: printable(origin)}
	// Outside of any lock: a report goes to the disk, and a cut does not wait for it.
	s.b.reports.putAll(s.behindStart(s.report("forward.open", audit.Denied, errForbidden.Error(), d)))
}

// firstRefused notes what was refused, and reports whether that is new and to be an event.
func (s *session) firstRefused(kind, place string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	places, known := s.refused[kind]
	if !known && len(s.refused) >= maxRefused || len(places) >= maxRefusedPlaces || slices.Contains(places, place) {
		return false
	}
	if s.refused == nil {
		s.refused = map[string][]string{}
	}
	s.refused[kind] = append(places, place)
	return true
}
