//go:build linux

package attack

import (
	"strings"
	"testing"
	"time"

	"sega/audit"
	"sega/broker/api"
)

// everything is each way of getting something with a session.
func (p *person) everything() map[string]shot {
	return map[string]shot{"credentials": p.credentials(), "certificate": p.certificate(), "status": p.get(api.RouteSession),
		"roles": p.get(api.RouteRoles), "hosts": p.get(api.RouteHosts), "events": p.get(api.RouteEvents), "sessions": p.get(api.RouteSessions),
		"feed":  p.get(api.RouteSessionFeed),
		"reuse": p.post(api.RouteReuse, api.ReuseRequest{Role: "dev-admin", AccessKeyID: "x"})}
}

// TestDeadSessions uses sessions that have ended, in each way in which one ends.
func TestDeadSessions(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(w *world, p *person)
		kind api.Kind
		out  audit.Outcome
	}{
		"expired":     {func(w *world, _ *person) { w.clock.add(time.Hour + time.Second) }, api.KindUnauthenticated, audit.Denied},
		"over":        {func(w *world, _ *person) { w.clock.add(12*time.Hour + time.Second) }, api.KindUnauthenticated, audit.Denied},
		"logged out":  {func(w *world, p *person) { into[api.Empty](w.t, w.send(p.post(api.RouteLogout, api.Empty{}))) }, api.KindUnauthenticated, audit.Denied},
		"revoked":     {func(w *world, p *person) { w.revoked(w.login("sam").revoke("session", p.LoginID)) }, api.KindRevoked, audit.Revoked},
		"one revoked": {func(w *world, _ *person) { w.revoked(w.login("sam").revoke("user", "alice@example.com")) }, api.KindRevoked, audit.Revoked},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			alice := w.login("alice")
			tc.end(w, alice)
			for what, s := range alice.everything() {
				t.Run(what, func(t *testing.T) {
					e := w.at(t).attack(s, tc.kind, "request.refuse", tc.out)
					if e.Actor.Sub != "00ualice" || e.LoginID != alice.LoginID {
						t.Errorf("event %+v", e)
					}
				})
			}
			if name != "expired" {
				w.attack(alice.post(api.RouteRenew, api.RenewRequest{}), tc.kind, "request.refuse", tc.out)
			}
			if n := w.sts.AssumeRoleCalls(); n != 0 {
				t.Errorf("AWS was asked %d times", n)
			}
		})
	}
}

// revoked fires a revocation that must succeed.
func (w *world) revoked(s shot) api.Receipt {
	w.t.Helper()
	r := into[api.Receipt](w.t, w.send(s))
	if r.EventID == "" || r.Index <= 0 {
		w.t.Fatalf("receipt %+v", r)
	}
	return r
}

// TestRevokedPersonStaysOut: nothing old comes back after the unblock, and none but a stranger unblocks.
func TestRevokedPersonStaysOut(t *testing.T) {
	w := newWorld(t)
	alice, sam, sue := w.login("alice"), w.login("sam"), w.login("sue")
	creds := into[api.Credentials](t, w.send(alice.credentials()))
	_, serial, fingerprint := alice.certified()
	m := w.machine(bastionName)
	w.revoked(sam.revoke("user", "alice@example.com"))
	e := w.attack(w.good(w.fresh("alice@example.com")), api.KindRevoked, "user.login", audit.Revoked)
	if e.Actor.Sub != "00ualice" {
		t.Errorf("actor %+v", e.Actor)
	}
	w.attack(m.post(api.RouteHop, hopFor(t, serial, fingerprint)), api.KindRevoked, "ssh.hop", audit.Revoked)
	again := w.at(t)
	again.server = w.newBroker() // a restart forgets nothing
	w.refused(again.sendFrom("127.0.0.1:1", shot{method: "GET", path: api.RouteSession, key: alice.key, token: alice.token, nonce: again.ownNonce()}), api.KindRevoked)
	into[api.Empty](t, w.send(sue.unblock("alice@example.com")))
	w.attack(alice.credentials(), api.KindRevoked, "request.refuse", audit.Revoked)
	w.attack(m.post(api.RouteHop, hopFor(t, serial, fingerprint)), api.KindRevoked, "ssh.hop", audit.Revoked)
	back := w.login("alice")
	w.attack(back.post(api.RouteReuse, api.ReuseRequest{Role: "dev-admin", AccessKeyID: creds.AccessKeyID}), api.KindNotFound, "aws.reuse", audit.Denied)

	w.revoked(sam.revoke("user", "sue@example.com"))
	w.attack(sue.unblock("sue@example.com"), api.KindRevoked, "request.refuse", audit.Revoked)
	into[api.Empty](t, w.send(sam.unblock("sue@example.com")))
}

// ownNonce is a nonce of this world's server, which need not be the one behind TLS.
func (w *world) ownNonce() string {
	return w.sendFrom("127.0.0.1:1", get(api.RouteConfiguration, nil, "")).header.Get(api.HeaderNonce)
}

// TestWhoMayStopAndRead asks for what belongs to other people's jobs. What exists is told to nobody
// who may not know.
func TestWhoMayStopAndRead(t *testing.T) {
	w := newWorld(t)
	alice, bob, sam, carol := w.login("alice"), w.login("bob"), w.login("sam"), w.login("carol")
	for name, tc := range map[string]struct {
		shot shot
		kind string
	}{
		"alice revokes bob":             {alice.revoke("user", "bob@example.com"), "user.revoke"},
		"alice revokes nobody":          {alice.revoke("user", "nobody@example.com"), "user.revoke"},
		"alice revokes a session":       {alice.revoke("session", bob.LoginID), "session.revoke"},
		"alice revokes no session":      {alice.revoke("session", "ses_abcdefghijkmnpqr2345"), "session.revoke"},
		"carol revokes":                 {carol.revoke("user", "bob@example.com"), "user.revoke"},
		"alice unblocks":                {alice.unblock("bob@example.com"), "user.unblock"},
		"alice unblocks nobody":         {alice.unblock("nobody@example.com"), "user.unblock"},
		"alice reads bob's events":      {alice.get(api.RouteEvents + "?q=user:bob@example.com"), "audit.read"},
		"alice counts bob's events":     {alice.get(api.RouteCount + "?q=user:bob@example.com&by=kind"), "audit.read"},
		"alice follows bob's events":    {alice.get(api.RouteEvents + "?q=user:bob@example.com&follow=1"), "audit.read"},
		"sam searches screens":          {sam.get(api.RouteEvents + "?q=screen:secret"), "audit.read"},
		"alice verifies":                {alice.get(api.RouteLog + "?from=0&to=1"), "audit.read"},
		"sam replays":                   {sam.get("/v1/recordings/ssh_abcdefghijkmnpqr2345?purpose=play&reason=x"), "recording.read"},
		"alice replays":                 {alice.get("/v1/recordings/ssh_abcdefghijkmnpqr2345?purpose=play&reason=x"), "recording.read"},
		"alice takes the ciphertext":    {alice.get("/v1/recordings/ssh_abcdefghijkmnpqr2345?purpose=verify"), "recording.read"},
		"carol wants a role":            {carol.credentials(), "aws.assume"},
		"sam wants a certificate":       {sam.certificate(), "ssh.cert"},
		"alice wants what is not there": {alice.post(api.RouteCredentials, api.CredentialsRequest{Role: "prod-readonly"}), "aws.assume"},
	} {
		t.Run(name, func(t *testing.T) {
			e := w.at(t).attack(tc.shot, api.KindDenied, tc.kind, audit.Denied)
			if !strings.HasSuffix(e.Actor.Email, "@example.com") {
				t.Errorf("actor %+v", e.Actor)
			}
		})
	}
	for _, p := range []*person{alice, bob, sam, carol} {
		p.stillIn()
	}
	w.attack(sam.unblock("bob@example.com"), api.KindConflict, "user.unblock", audit.Denied)
	w.refused(w.send(sam.revoke("user", "nobody@example.com")), api.KindNotFound)
	w.refused(w.send(sam.post(api.RouteRevoke, api.RevokeRequest{Subject: "user", ID: "bob@example.com", Reason: " \t"})), api.KindInvalid)
	bob.stillIn()
}

// TestOwnEventsAlone: what a person reads of the log is about nobody else.
func TestOwnEventsAlone(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.login("alice"), w.login("bob")
	w.send(bob.credentials())
	for _, query := range []string{"", "?q=user:alice@example.com", "?q=session:" + bob.LoginID, "?q=kind:aws.*", "?q=role:dev-admin&intents=1", "?q=user:00ualice", "?after=-1",
		"?q=user:alice@example.com+or+kind:*", "?q=-user:alice@example.com", "?q=not+(kind:nothing)", "?q=session:" + bob.LoginID + "+or+kind:*", "?q=outcome:*&newest=1&limit=50"} {
		t.Run(query, func(t *testing.T) {
			a := w.at(t).send(alice.get(api.RouteEvents + query))
			if a.code != 200 || strings.Contains(a.body, "bob@example.com") || strings.Contains(a.body, "00ubob") {
				t.Errorf("HTTP %d %s", a.code, a.body)
			}
		})
	}
}
