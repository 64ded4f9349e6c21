//go:build linux

package attack

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"sega/audit"
	"sega/broker/api"
	"sega/cmd/segad/dev/provider"
	"sega/keychain/secret"
)

// releases are the kinds of events with which something is handed out or opened.
var releases = []string{"user.login", "session.renew", "aws.assume", "aws.reuse", "aws.console", "ssh.cert", "ssh.hop", "session.start"}

// TestRevokedInTheLastMoment lets a revocation commit between each decision and its event: what was
// decided on is not handed out, and the log says why (R4).
func TestRevokedInTheLastMoment(t *testing.T) {
	for _, kind := range releases {
		for _, subject := range []string{api.SubjectUser, api.SubjectSession} {
			if kind == "user.login" && subject == api.SubjectSession {
				continue // there is none yet
			}
			t.Run(kind+" and a revoked "+subject, func(t *testing.T) { lastMoment(t, kind, subject) })
		}
	}
}

func lastMoment(t *testing.T, kind, subject string) {
	w := newWorld(t)
	alice, sam, m := w.login("alice"), w.login("sam"), w.machine(bastionName)
	s := alice.release(kind, m)
	id := alice.LoginID
	if subject == api.SubjectUser {
		id = "alice@example.com"
	}
	var receipt api.Receipt
	w.log.on(kind, audit.Success, func() { receipt = w.revoked(sam.revoke(subject, id)) })
	before := w.size()
	w.refused(w.send(s), api.KindRevoked)
	if receipt.Index == 0 {
		t.Fatal("nothing was revoked: the test proves nothing")
	}
	last := w.since(before)
	if e := last[len(last)-1]; e.Kind != kind || e.Outcome != audit.Revoked || e.index <= receipt.Index {
		t.Errorf("events %s", kinds(last))
	}
	w.silentAfter(receipt.Index, "00ualice")
	if n := w.count(`SELECT count(*) FROM intents`); n != 0 {
		t.Errorf("%d intents are open", n)
	}
}

// TestBastionRevokedInTheLastMoment: a hop does not leave for a bastion that is no longer one.
func TestBastionRevokedInTheLastMoment(t *testing.T) {
	w := newWorld(t)
	alice, sam, m := w.login("alice"), w.login("sam"), w.machine(bastionName)
	s := alice.release("ssh.hop", m)
	w.log.on("ssh.hop", audit.Success, func() { w.revoked(sam.revoke(api.SubjectSession, m.SessionID)) })
	before := w.size()
	w.refused(w.send(s), api.KindRevoked)
	if got := kinds(w.since(before)); got != "[session.revoke success, ssh.hop revoked]" {
		t.Errorf("events %s", got)
	}
	if n := w.count(`SELECT count(*) FROM certs WHERE profile='hop'`) + w.count(`SELECT count(*) FROM ssh_sessions`); n != 0 {
		t.Errorf("%d records of what was not handed out", n)
	}
}

// release is the request that ends in a success of that kind.
func (p *person) release(kind string, m *machine) shot {
	p.t.Helper()
	switch kind {
	case "user.login":
		return p.good(p.fresh(p.Person.Email))
	case "session.renew":
		claims := with(p.provider.Claims(p.Person.Email, ""), map[string]any{"nonce": nil, "auth_time": p.AuthTime.Unix(), "jti": "renewed"})
		return p.post(api.RouteRenew, api.RenewRequest{IDToken: secret.FromString(p.provider.Mint(claims, nil, provider.MintOptions{}))})
	case "aws.assume":
		return p.credentials()
	case "aws.reuse":
		had := into[api.Credentials](p.t, p.send(p.credentials()))
		return p.post(api.RouteReuse, api.ReuseRequest{Role: "dev-admin", AccessKeyID: had.AccessKeyID})
	case "aws.console":
		return p.console()
	case "ssh.cert":
		return p.certificate()
	}
	_, serial, fingerprint := p.certified()
	hop := m.post(api.RouteHop, hopFor(p.t, serial, fingerprint))
	if kind == "ssh.hop" {
		return hop
	}
	return m.report("session.start", into[api.Hop](p.t, p.send(hop)).SessionID)
}

// silentAfter checks that the log hands nothing to a person after an index.
func (w *world) silentAfter(index int64, sub string) {
	w.t.Helper()
	for _, e := range w.since(index + 1) {
		for _, kind := range releases {
			if e.Kind == kind && e.Outcome == audit.Success && e.Actor.Sub == sub {
				w.t.Errorf("event %d, after the revocation at %d: %s %s", e.index, index, e.Kind, e.Outcome)
			}
		}
	}
}

// TestHopThenRevocation: the hop certificate is out, and its session no longer starts.
func TestHopThenRevocation(t *testing.T) {
	for _, subject := range []string{"user", "login", "ssh"} {
		t.Run(subject, func(t *testing.T) {
			w := newWorld(t)
			alice, sam, m := w.login("alice"), w.login("sam"), w.machine(bastionName)
			start := alice.release("session.start", m)
			id := start.body.([]api.Report)[0].SessionID
			var receipt api.Receipt
			switch subject {
			case "user":
				receipt = w.revoked(sam.revoke(api.SubjectUser, "alice@example.com"))
			case "login":
				receipt = w.revoked(sam.revoke(api.SubjectSession, alice.LoginID))
			default:
				receipt = w.revoked(sam.revoke(api.SubjectSession, id))
			}
			e := w.attack(start, api.KindRevoked, "session.start", audit.Revoked)
			if e.SessionID != id {
				t.Errorf("event %+v", e)
			}
			w.silentAfter(receipt.Index, "00ualice")
			if subject == "ssh" {
				alice.stillIn() // one SSH session was revoked, and nothing else
			}
		})
	}
}

// TestSlowAWS: STS has made the session, and its answer arrives after the revocation.
func TestSlowAWS(t *testing.T) {
	w := newWorld(t)
	alice, sam := w.login("alice"), w.login("sam")
	var receipt api.Receipt
	w.minter.set(func() { receipt = w.revoked(sam.revoke("user", "alice@example.com")) })
	before := w.size()
	w.refused(w.send(alice.credentials()), api.KindRevoked)
	got := w.since(before)
	if kinds(got) != "[aws.assume intent, user.revoke success, aws.assume revoked]" || got[0].Action != got[2].Action {
		t.Errorf("events %s", kinds(got))
	}
	if calls := w.sts.Calls(); len(calls) != 1 || calls[0].Issued == "" {
		t.Fatalf("AWS made no session: the test proves nothing: %+v", calls)
	}
	if n := w.count(`SELECT count(*) FROM grants`); n != 0 {
		t.Errorf("%d grants", n)
	}
	w.silentAfter(receipt.Index, "00ualice")
}

// TestRevocationRace revokes alice while 32 goroutines ask for all that there is (I3, I8).
func TestRevocationRace(t *testing.T) {
	w := newWorld(t)
	alice, sam, m := w.login("alice"), w.login("sam"), w.machine(bastionName)
	_, serial, fingerprint := alice.certified()
	asks := []func() shot{alice.credentials, alice.certificate,
		func() shot { return m.post(api.RouteHop, hopFor(t, serial, fingerprint)) },
		func() shot { return w.good(w.fresh("alice@example.com")) }}
	stop := make(chan struct{})
	var mu sync.Mutex
	good, revoked := 0, 0
	requestIDs := map[string]bool{} // of what was handed out
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a := w.send(asks[i%len(asks)]())
				mu.Lock()
				if a.code == http.StatusOK {
					good++
					requestIDs[a.header.Get(api.HeaderRequestID)] = true
				} else if a.problem.Kind == api.KindRevoked {
					revoked++
				} else {
					t.Errorf("HTTP %d %s", a.code, a.body)
				}
				mu.Unlock()
			}
		})
	}
	eventually(t, "hand-outs before the revocation", func() bool { mu.Lock(); defer mu.Unlock(); return good > 30 })
	receipt := w.revoked(sam.revoke("user", "alice@example.com"))
	eventually(t, "refusals after the revocation", func() bool { mu.Lock(); defer mu.Unlock(); return revoked > 60 })
	close(stop)
	wg.Wait()
	w.silentAfter(receipt.Index, "00ualice")
	w.backed(requestIDs, receipt.Index)
}

// backed checks that each answer that handed something out has its event, and before the revocation (I1).
func (w *world) backed(requestIDs map[string]bool, revocation int64) {
	w.t.Helper()
	for _, e := range w.since(0) {
		if e.Outcome == audit.Success && e.index < revocation {
			delete(requestIDs, e.RequestID)
		}
	}
	if len(requestIDs) != 0 {
		w.t.Errorf("%d answers handed something out without an event before the revocation", len(requestIDs))
	}
}

// TestRevocationWinsOverUnblock: the second revocation commits while the unblock of the first is on
// its way. What the unblocker had not seen he does not lift (I8).
func TestRevocationWinsOverUnblock(t *testing.T) {
	w := newWorld(t)
	w.login("alice")
	sam, sue := w.login("sam"), w.login("sue")
	w.revoked(sam.revoke("user", "alice@example.com"))
	w.log.on("user.unblock", audit.Success, func() { w.revoked(sam.revoke("user", "alice@example.com")) })
	before := w.size()
	w.refused(w.send(sue.unblock("alice@example.com")), api.KindConflict)
	if got := kinds(w.since(before)); got != "[user.revoke success, user.unblock denied]" {
		t.Errorf("events %s", got)
	}
	w.attack(w.good(w.fresh("alice@example.com")), api.KindRevoked, "user.login", audit.Revoked)
	into[api.Empty](t, w.send(sue.unblock("alice@example.com")))
	w.login("alice")
}

// TestTwoRevocationsAndAnUnblock at once, many times: the log's order explains the state.
func TestTwoRevocationsAndAnUnblock(t *testing.T) {
	w := newWorld(t)
	w.login("alice")
	sam, sue := w.login("sam"), w.login("sue")
	for range 20 {
		w.revoked(sam.revoke("user", "alice@example.com"))
		before := w.size()
		var wg sync.WaitGroup
		for _, s := range []shot{sam.revoke("user", "alice@example.com"), sue.revoke("user", "alice@example.com"), sue.unblock("alice@example.com")} {
			wg.Go(func() { w.send(s) })
		}
		wg.Wait()
		blocked := true
		for _, e := range w.since(before) {
			switch {
			case e.Kind == "user.revoke" && e.Outcome == audit.Success:
				blocked = true
			case e.Kind == "user.unblock" && e.Outcome == audit.Success:
				blocked = false
			}
		}
		if got := w.count(`SELECT blocked FROM subjects WHERE sub='00ualice'`) == 1; got != blocked {
			t.Fatalf("blocked: %v, the log says %v: %s", got, blocked, kinds(w.since(before)))
		}
		if !blocked {
			w.login("alice")
		}
	}
	if n := w.count(`SELECT count(*) FROM sessions WHERE sub='00ualice' AND ended=0 AND epoch <> (SELECT epoch FROM subjects WHERE sub='00ualice')`); n != 0 {
		t.Errorf("%d sessions of an old epoch are live", n)
	}
}

// TestSamRevokedWhileRevoking: who is revoked in the last moment revokes nobody.
func TestSamRevokedWhileRevoking(t *testing.T) {
	w := newWorld(t)
	alice, sam, sue := w.login("alice"), w.login("sam"), w.login("sue")
	w.log.on("user.revoke", audit.Success, func() { w.revoked(sue.revoke("user", "sam@example.com")) })
	w.refused(w.send(sam.revoke("user", "alice@example.com")), api.KindRevoked)
	alice.stillIn()
	w.clock.add(time.Second)
	w.attack(sam.get(api.RouteSessions), api.KindRevoked, "request.refuse", audit.Revoked)
}
