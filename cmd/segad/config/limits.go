package config

import (
	"fmt"
	"strings"
	"time"
)

// SessionLimits bound the SSH sessions that are open at once. A key that is missing takes the broker's
// default; 0 is no limit.
type SessionLimits struct {
	PerPerson *int          `yaml:"per_person,omitempty"` // of one person, on all hosts together
	PerHost   *int          `yaml:"per_host,omitempty"`   // on one host, of everybody
	ByLabel   []LabelLimits `yaml:"by_label,omitempty"`
}

// LabelLimits hold beside the others for the hosts that have all of the labels. One of the two numbers is needed.
type LabelLimits struct {
	Labels    map[string]string `yaml:"labels"`
	PerPerson int               `yaml:"per_person,omitempty"` // on all of these hosts together
	PerHost   int               `yaml:"per_host,omitempty"`   // on each of them
}

// LadderRule says what happens to sessions when something fails that they rest on.
type LadderRule struct {
	Labels map[string]string `yaml:"labels,omitempty"` // of their hosts; all hosts where there are none
	On     string            `yaml:"on"`               // recording, broker, disk or storage
	Do     string            `yaml:"do"`               // "refuse", "end", or "pause 30s": for so long, then end
}

// Step splits Do into its verb and, of a pause, the time.
func (r LadderRule) Step() (do string, pause time.Duration, err error) {
	do, rest, ok := strings.Cut(r.Do, " ")
	if !ok {
		return do, 0, nil
	}
	if pause, err = time.ParseDuration(rest); err != nil || do != "pause" {
		return "", 0, fmt.Errorf("ladder: do is refuse, end, or pause with a time like pause 30s")
	}
	return do, pause, nil
}

// Spool bounds what a bastion's recordings take of its disk before they are stored.
type Spool struct {
	Reserve    Size `yaml:"reserve,omitempty"`     // with less left nothing new opens
	PerSession Size `yaml:"per_session,omitempty"` // of one recording; 0: no limit
	PerPerson  Size `yaml:"per_person,omitempty"`  // of what a person's recordings take until they are stored
}
