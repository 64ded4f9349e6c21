//go:build linux

package attack

import (
	"strings"
	"testing"
	"time"

	"sega/audit"
	"sega/broker/api"
	"sega/sshca"
)

// TestLogRefuses fails each append of each hand-out in turn: what is not in the log does not leave
// (I1), the answer says why, and the next attempt works by itself.
func TestLogRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		shot    func(w *world) func() shot // makes the world's people first, then a shot for each attempt
		denied  api.Kind                   // of an attempt that the log takes; "" where it succeeds
		appends int                        // at the least
	}{
		"login":       {shot: func(w *world) func() shot { return func() shot { return w.good(w.fresh("alice@example.com")) } }, appends: 1},
		"credentials": {shot: func(w *world) func() shot { return w.login("alice").credentials }, appends: 2},
		"certificate": {shot: func(w *world) func() shot { return w.login("alice").certificate }, appends: 2},
		"renewal": {shot: func(w *world) func() shot {
			alice := w.login("alice")
			return func() shot { return alice.release("session.renew", nil) }
		}, appends: 1},
		"hop": {shot: func(w *world) func() shot {
			m := w.machine(bastionName)
			_, serial, fingerprint := w.login("alice").certified()
			return func() shot { return m.post(api.RouteHop, hopFor(w.t, serial, fingerprint)) }
		}, appends: 2},
		"session start": {shot: func(w *world) func() shot {
			alice, m := w.login("alice"), w.machine(bastionName)
			s := alice.release("session.start", m)
			return func() shot { return m.post(s.path, s.body) }
		}, appends: 1},
		"mask": {shot: func(w *world) func() shot {
			m := w.machine(bastionName)
			return func() shot {
				return m.post(api.RouteFront, api.FrontRequest{PublicKey: sshca.MarshalLine(newSigner(w.t).PublicKey()), Host: "web-1"})
			}
		}, appends: 2},
		"enrolment": {shot: func(w *world) func() shot {
			token := w.joinToken(bastionName, time.Hour)
			return func() shot { return enroll(newHolder(w.t), token, bastionName) }
		}, appends: 1},
		"machine session": {shot: func(w *world) func() shot {
			m := w.machine(bastionName)
			return func() shot { return post(api.RouteMachine, m.key, "", api.Empty{}) }
		}, appends: 1},
		"reading events": {shot: func(w *world) func() shot {
			alice := w.login("alice")
			return func() shot { return alice.get(api.RouteEvents) }
		}, appends: 1},
		"revocation": {shot: func(w *world) func() shot {
			w.login("alice")
			sam := w.login("sam")
			return func() shot { return sam.revoke("user", "alice@example.com") }
		}, appends: 1},
		"denial": {shot: func(w *world) func() shot { return w.login("carol").credentials }, denied: api.KindDenied, appends: 1},
		"refusal": {shot: func(w *world) func() shot {
			key := newHolder(w.t)
			return func() shot { return get(api.RouteSession, key, "sega_ses_x") }
		}, denied: api.KindUnauthenticated, appends: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			next := tc.shot(w)
			for n := 1; ; n++ {
				s := next()
				before := w.size()
				w.log.arm(n)
				a := w.send(s)
				fired := w.log.fired()
				w.log.arm(0)
				if !fired {
					w.passed(a, tc.denied, n-1, tc.appends)
					return
				}
				w.refused(a, api.KindUnavailable)
				if !strings.Contains(a.problem.Detail, "audit log") || !strings.Contains(a.problem.Detail, "disk is full") {
					t.Errorf("append %d: the answer does not say why: %s", n, a.body)
				}
				for _, e := range w.since(before) {
					if e.Outcome != audit.Intent && e.Outcome != audit.Failure {
						t.Errorf("append %d failed, and there is %s %s", n, e.Kind, e.Outcome)
					}
				}
			}
		})
	}
}

func (w *world) passed(a answer, denied api.Kind, failed, least int) {
	w.t.Helper()
	if failed < least {
		w.t.Errorf("only %d appends were made to fail, want %d", failed, least)
	}
	if denied != "" {
		w.refused(a, denied)
		return
	}
	if a.code != 200 {
		w.t.Errorf("with the disk free again: HTTP %d %s", a.code, a.body)
	}
}

// TestLostOutcome: AWS has made a session, its outcome cannot be written, and the broker dies. The
// next one closes what was left open, and hands out nothing of it (R3).
func TestLostOutcome(t *testing.T) {
	w := newWorld(t)
	alice := w.login("alice")
	before := w.size()
	w.log.arm(2)
	w.refused(w.send(alice.credentials()), api.KindUnavailable)
	w.log.arm(0)
	if got := kinds(w.since(before)); got != "[aws.assume intent]" {
		t.Fatalf("events %s", got)
	}
	issued := w.sts.Calls()[0].Issued
	w.newBroker()
	got := w.since(before)
	if kinds(got) != "[aws.assume intent, aws.assume unknown]" || got[0].Action != got[1].Action || got[1].Actor.Sub != "00ualice" {
		t.Errorf("events %s", kinds(got))
	}
	w.attack(alice.post(api.RouteReuse, api.ReuseRequest{Role: "dev-admin", AccessKeyID: issued}), api.KindNotFound, "aws.reuse", audit.Denied)
	before = w.size()
	w.newBroker()
	if got := w.since(before); len(got) != 0 {
		t.Errorf("a second start settled again: %s", kinds(got))
	}
}

// TestReusedByOthers asks for the reuse of credentials of others, and of nobody's.
func TestReusedByOthers(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.login("alice"), w.login("bob")
	had := into[api.Credentials](t, w.send(alice.credentials()))
	for name, s := range map[string]shot{
		"bob with alice's":     bob.post(api.RouteReuse, api.ReuseRequest{Role: "dev-admin", AccessKeyID: had.AccessKeyID}),
		"alice with nobody's":  alice.post(api.RouteReuse, api.ReuseRequest{Role: "dev-admin", AccessKeyID: "ASIANOBODY"}),
		"alice with no key ID": alice.post(api.RouteReuse, api.ReuseRequest{Role: "dev-admin"}),
	} {
		t.Run(name, func(t *testing.T) { w.at(t).attack(s, api.KindNotFound, "aws.reuse", audit.Denied) })
	}
	w.attack(alice.post(api.RouteReuse, api.ReuseRequest{Role: "prod-readonly", AccessKeyID: had.AccessKeyID}), api.KindDenied, "aws.reuse", audit.Denied)
	again := alice.post(api.RouteReuse, api.ReuseRequest{Role: "dev-admin", AccessKeyID: had.AccessKeyID})
	into[api.Empty](t, w.send(again))
	w.clock.add(59*time.Minute + 59*time.Second)
	renewed := w.admitted(alice.key, w.send(alice.release("session.renew", nil)))
	w.clock.add(2 * time.Second) // AWS's credentials have expired, the login has not
	w.attack(renewed.post(api.RouteReuse, api.ReuseRequest{Role: "dev-admin", AccessKeyID: had.AccessKeyID}), api.KindNotFound, "aws.reuse", audit.Denied)
}
