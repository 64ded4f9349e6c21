package bastion

import (
	"cmp"
	"fmt"
	"time"

	"sega/audit"
	"sega/broker/api"
)

// maxPause bounds what a ladder may ask for, whoever wrote it.
const maxPause = 10 * time.Minute

// failures are what may fail that a session rests on: the default where its ladder says nothing, and
// the words for its person.
var failures = map[string]struct{ byDefault, text string }{
	api.OnRecording: {api.DoEnd, "the disk of recordings is full"},
	api.OnBroker:    {api.DoRefuse, "the bastion has lost the broker"},
	api.OnDisk:      {api.DoRefuse, "the disk of recordings is nearly full"},
	api.OnStorage:   {api.DoRefuse, "the storage of recordings does not answer"},
}

// rung returns what the session's ladder says for a failure. What this bastion does not know ends.
func (s *session) rung(on string) api.Rung {
	l := s.hop.Ladder
	r, known := map[string]api.Rung{api.OnRecording: l.Recording, api.OnBroker: l.Broker, api.OnDisk: l.Disk, api.OnStorage: l.Storage}[on]
	r.Do = cmp.Or(r.Do, failures[on].byDefault)
	switch {
	case !known, r.Do == api.DoRefuse && on == api.OnRecording:
		r.Do = api.DoEnd
	case r.Do == api.DoPause && (r.Seconds < 1 || r.Seconds > int(maxPause.Seconds())):
		r.Do = api.DoEnd
	case r.Do != api.DoPause && r.Do != api.DoRefuse:
		r.Do = api.DoEnd
	}
	return r
}

// failed does what the ladder says when something fails, and mended undoes it. Both may come again, and
// return what is to be reported: the disk must not hold up what they do.
func (s *session) failed(on string) []api.Report {
	switch r := s.rung(on); r.Do {
	case api.DoPause:
		return s.pause(on, time.Duration(r.Seconds)*time.Second)
	case api.DoEnd:
		if s.cut(ladderEnded(on)) {
			s.b.cfg.Log.Error("session ended by its ladder", "session", s.hop.SessionID, "on", on)
		}
	}
	return nil
}

func (s *session) mended(on string) []api.Report { return s.resume(on) }

func ladderEnded(on string) endReason {
	return endReason{outcome: audit.Failure, reason: failures[on].text + "; try again in a minute"}
}

func pausedTooLong(on string, limit time.Duration) endReason {
	return endReason{outcome: audit.Failure, reason: fmt.Sprintf("%s for %s; try again in a minute", failures[on].text, limit)}
}

// step tells every session that something has failed or is mended. All of them have heard before the
// first word of it goes to report, which must not wait for a disk: the next step waits for it, and so do ends.
func (r *registry) step(on string, failed bool, report func([]api.Report)) {
	r.steps.Lock()
	defer r.steps.Unlock()
	var said []api.Report
	for _, l := range r.matching(everybody) {
		switch {
		case l.failed == nil:
		case failed:
			said = append(said, l.failed(on)...)
		default:
			said = append(said, l.mended(on)...)
		}
	}
	report(said)
}
