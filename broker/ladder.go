package broker

import (
	"fmt"
	"time"

	"sega/broker/api"
)

// maxPause bounds a pause: a session that stands still for longer has lost its person.
const maxPause = 10 * time.Minute

// LadderRule says what happens to the sessions on hosts that have all of the labels when something
// fails that they rest on. Without labels it is for all hosts.
type LadderRule struct {
	Labels map[string]string
	On     string        // api.OnRecording, …
	Do     string        // api.DoPause, …
	Pause  time.Duration // of api.DoPause
}

// rungOf points to what a ladder says for a failure; nil where there is no such failure.
func rungOf(l *api.Ladder, on string) *api.Rung {
	return map[string]*api.Rung{api.OnRecording: &l.Recording, api.OnBroker: &l.Broker, api.OnDisk: &l.Disk, api.OnStorage: &l.Storage}[on]
}

// check refuses what would loosen I2 or I4, and what means nothing.
func (r LadderRule) check(lease time.Duration) error {
	if rungOf(&api.Ladder{}, r.On) == nil {
		return fmt.Errorf("broker: ladder: %q is none of recording, broker, disk, storage", r.On)
	}
	switch r.Do {
	case api.DoRefuse:
		if r.On == api.OnRecording {
			return fmt.Errorf("broker: ladder: a session cannot go on without its recording: say pause or end")
		}
	case api.DoPause:
		most := maxPause
		if r.On == api.OnBroker {
			most = lease // when it ends, so do the sessions, whatever a ladder says
		}
		if r.Pause < time.Second || r.Pause > most || r.Pause%time.Second != 0 {
			return fmt.Errorf("broker: ladder: a pause on %s takes whole seconds, up to %s", r.On, most)
		}
	case api.DoEnd:
	default:
		return fmt.Errorf("broker: ladder: %q is none of refuse, pause, end", r.Do)
	}
	return nil
}

// strictness orders rungs: the end is stricter than a pause, a shorter pause than a longer one, and
// each stricter than to go on.
func strictness(r api.Rung) int {
	switch r.Do {
	case api.DoEnd:
		return 1 << 30
	case api.DoPause:
		return 1<<29 - r.Seconds
	case api.DoRefuse:
		return 1
	}
	return 0
}

// ladder is what holds for a host: of several rules for one failure the strictest, so that no rule
// takes back what another one demands.
func ladder(rules []LadderRule, labels map[string]string) (out api.Ladder) {
	for _, r := range rules {
		to, rung := rungOf(&out, r.On), api.Rung{Do: r.Do, Seconds: int(r.Pause.Seconds())}
		if hasLabels(labels, r.Labels) && strictness(rung) > strictness(*to) {
			*to = rung
		}
	}
	return out
}
