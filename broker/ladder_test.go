package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/broker/api"
)

// TestLadderLoosensNothing: what would let a session go on without its recording, or outlive its lease,
// is refused at the start.
func TestLadderLoosensNothing(t *testing.T) {
	for name, c := range map[string]struct {
		rule LadderRule
		want string // "": taken
	}{
		"recording ends":          {LadderRule{On: api.OnRecording, Do: api.DoEnd}, ""},
		"recording pauses":        {LadderRule{On: api.OnRecording, Do: api.DoPause, Pause: 30 * time.Second}, ""},
		"recording goes on":       {LadderRule{On: api.OnRecording, Do: api.DoRefuse}, "cannot go on without its recording"},
		"recording continues":     {LadderRule{On: api.OnRecording, Do: "continue"}, `"continue" is none of`},
		"recording, nothing":      {LadderRule{On: api.OnRecording}, `"" is none of`},
		"broker ends":             {LadderRule{On: api.OnBroker, Do: api.DoEnd}, ""},
		"broker refuses":          {LadderRule{On: api.OnBroker, Do: api.DoRefuse}, ""},
		"broker, the whole lease": {LadderRule{On: api.OnBroker, Do: api.DoPause, Pause: 30 * time.Second}, ""},
		"broker, past the lease":  {LadderRule{On: api.OnBroker, Do: api.DoPause, Pause: 31 * time.Second}, "up to 30s"},
		"disk for long":           {LadderRule{On: api.OnDisk, Do: api.DoPause, Pause: maxPause + time.Second}, "up to 10m"},
		"no time at all":          {LadderRule{On: api.OnDisk, Do: api.DoPause}, "whole seconds"},
		"parts of seconds":        {LadderRule{On: api.OnStorage, Do: api.DoPause, Pause: 1500 * time.Millisecond}, "whole seconds"},
		"something else":          {LadderRule{On: "policy", Do: api.DoEnd}, `"policy" is none of`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.config.Ladder = []LadderRule{c.rule}
			_, err := New(t.Context(), w.config)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestLadderOfAHost: of several rules the strictest holds, whatever their order, and a hop carries it.
func TestLadderOfAHost(t *testing.T) {
	prod, db := map[string]string{"env": "prod"}, map[string]string{"env": "prod", "tier": "db"}
	pause := func(labels map[string]string, on string, d time.Duration) LadderRule {
		return LadderRule{Labels: labels, On: on, Do: api.DoPause, Pause: d}
	}
	rules := []LadderRule{
		pause(nil, api.OnRecording, time.Minute), pause(prod, api.OnRecording, 30*time.Second), {Labels: db, On: api.OnRecording, Do: api.DoEnd},
		{Labels: prod, On: api.OnBroker, Do: api.DoEnd}, {Labels: db, On: api.OnBroker, Do: api.DoRefuse},
		pause(prod, api.OnDisk, time.Minute), pause(prod, api.OnDisk, 2*time.Minute),
	}
	for name, c := range map[string]struct {
		labels map[string]string
		want   api.Ladder
	}{
		"no labels":        {nil, api.Ladder{Recording: api.Rung{Do: api.DoPause, Seconds: 60}}},
		"prod":             {prod, api.Ladder{Recording: api.Rung{Do: api.DoPause, Seconds: 30}, Broker: api.Rung{Do: api.DoEnd}, Disk: api.Rung{Do: api.DoPause, Seconds: 60}}},
		"database of prod": {db, api.Ladder{Recording: api.Rung{Do: api.DoEnd}, Broker: api.Rung{Do: api.DoEnd}, Disk: api.Rung{Do: api.DoPause, Seconds: 60}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := openWorld(t, onSQLite)
			w.s.Hosts[0].Labels, w.s.Ladder = c.labels, rules
			if diff := cmp.Diff(c.want, w.machine().hop(w.signIn().certificate(), 200).Ladder); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLadderIsReported: what a bastion does by a ladder is in the log under the person's name, and the
// disk's levels under the machine's.
func TestLadderIsReported(t *testing.T) {
	w := openWorld(t, onSQLite)
	bastion := w.machine()
	id := bastion.hop(w.signIn().certificate(), 200).SessionID
	for _, kind := range []string{"session.start", "session.pause", "session.resume"} {
		bastion.report(id, kind)
	}
	bastion.report("", "spool.low")
	bastion.report("", "spool.free")
	var got []string
	for _, e := range w.events() {
		if strings.HasPrefix(e.Kind, "session.") || strings.HasPrefix(e.Kind, "spool.") {
			got = append(got, e.Kind+" "+e.Actor.Kind+" "+e.Resource)
		}
	}
	want := []string{"session.start user host/web-1", "session.pause user host/web-1", "session.resume user host/web-1",
		"spool.low machine machine/bastion-1", "spool.free machine machine/bastion-1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if open, err := w.open("alice"); err != nil || len(open) != 1 {
		t.Errorf("%d sessions are open, %v", len(open), err)
	}
}
