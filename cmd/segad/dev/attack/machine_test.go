//go:build linux

package attack

import (
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/broker"
	"sega/broker/api"
	"sega/keychain/secret"
	"sega/sshca"
)

// certified gets an access certificate and returns its key, its serial and its key's fingerprint.
func (p *person) certified() (key ssh.Signer, serial uint64, fingerprint string) {
	p.t.Helper()
	key = newSigner(p.t)
	c := into[api.Certificate](p.t, p.send(p.post(api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(key.PublicKey())})))
	return key, c.Serial, ssh.FingerprintSHA256(key.PublicKey())
}

// hopFor is the hop request of a bastion for a certificate.
func hopFor(t testing.TB, serial uint64, fingerprint string) api.HopRequest {
	return api.HopRequest{AccessSerial: serial, AccessKey: fingerprint, Host: "web-1", Login: "root", Source: "192.0.2.7",
		HopKey: sshca.MarshalLine(newSigner(t).PublicKey()), Route: "direct"}
}

// report is a bastion's report of one event.
func (m *machine) report(kind, session string) shot {
	return m.post(api.RouteReport, []api.Report{reportOf(kind, session)})
}

func reportOf(kind, session string) api.Report {
	return api.Report{ID: audit.NewID(), Time: time.Now().UTC(), Kind: kind, Outcome: "success", SessionID: session, Source: "192.0.2.7", Details: json.RawMessage(`{"x":1}`)}
}

// TestJoinTokens tries to enrol with what is not a token for this machine (R6).
func TestJoinTokens(t *testing.T) {
	w := newWorld(t)
	used := w.joinToken(bastionName, time.Hour)
	into[api.Machine](t, w.send(enroll(newHolder(t), used, bastionName)))
	expired := w.joinToken(bastionName, -time.Second)
	other := w.joinToken(otherName, time.Hour)
	for name, s := range map[string]shot{
		"used before":   enroll(newHolder(t), used, bastionName),
		"another name":  enroll(newHolder(t), other, bastionName),
		"expired":       enroll(newHolder(t), expired, bastionName),
		"unknown":       enroll(newHolder(t), api.NewToken(api.PrefixJoin), bastionName),
		"empty":         enroll(newHolder(t), secret.Secret{}, bastionName),
		"another kind":  post(api.RouteEnroll, newHolder(t), "", api.EnrollRequest{Token: other, Name: otherName, Kind: "host"}),
		"wildcard name": enroll(newHolder(t), other, "*"),
	} {
		t.Run(name, func(t *testing.T) {
			w := w.at(t)
			e := w.attack(s, api.KindDenied, "node.enroll", audit.Denied)
			if e.Actor.Kind != audit.ActorMachine || !strings.HasPrefix(e.Resource, "machine/") {
				t.Errorf("event %+v", e)
			}
			w.attack(post(api.RouteMachine, s.key, "", api.Empty{}), api.KindUnauthenticated, "request.refuse", audit.Denied)
		})
	}
	into[api.Machine](t, w.send(enroll(newHolder(t), other, otherName))) // what was shown for others is not spent
}

// TestJoinTokenIsSpentOnce enrols 16 machines with one token at once.
func TestJoinTokenIsSpentOnce(t *testing.T) {
	w := newWorld(t)
	token := w.joinToken(bastionName, time.Hour)
	before := w.size()
	var enrolled atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		s := w.request(enroll(newHolder(t), token, bastionName))
		wg.Go(func() {
			resp, err := w.web.Client().Do(s)
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
			if resp.StatusCode == 200 {
				enrolled.Add(1)
			}
		})
	}
	wg.Wait()
	outcomes := map[audit.Outcome]int{}
	for _, e := range w.since(before) {
		outcomes[e.Outcome]++
	}
	if enrolled.Load() != 1 || outcomes[audit.Success] != 1 || outcomes[audit.Denied] != 15 || w.count(`SELECT count(*) FROM machines`) != 1 {
		t.Errorf("%d enrolled, events %v", enrolled.Load(), outcomes)
	}
}

// TestReplacedMachineIsOut enrols a machine anew, as after its key was stolen.
func TestReplacedMachineIsOut(t *testing.T) {
	w := newWorld(t)
	stolen := w.machine(bastionName)
	fresh := w.machine(bastionName)
	w.attack(stolen.report("recording.heads", ""), api.KindUnauthenticated, "request.refuse", audit.Denied)
	w.attack(post(api.RouteMachine, stolen.key, "", api.Empty{}), api.KindUnauthenticated, "request.refuse", audit.Denied)
	into[api.Empty](t, w.send(fresh.report("recording.heads", "")))
}

// TestKeyOfTwoMachines enrols one key under two names.
func TestKeyOfTwoMachines(t *testing.T) {
	w := newWorld(t)
	m := w.machine(bastionName)
	w.attack(enroll(m.key, w.joinToken(otherName, time.Hour), otherName), api.KindConflict, "node.enroll", audit.Denied)
	into[api.Empty](t, w.send(m.report("recording.heads", "")))
}

// TestWrongDoor uses a machine's session at the endpoints of people, and the reverse.
func TestWrongDoor(t *testing.T) {
	w := newWorld(t)
	alice, m := w.login("alice"), w.machine(bastionName)
	asMachine := &person{world: w, key: m.key, token: m.token}
	for name, s := range map[string]shot{
		"credentials": asMachine.credentials(), "certificate": asMachine.certificate(), "revoke": asMachine.revoke("user", "alice@example.com"),
		"unblock": asMachine.unblock("alice@example.com"), "sessions": asMachine.get(api.RouteSessions), "events": asMachine.get(api.RouteEvents),
		"log": asMachine.get(api.RouteLog + "?from=0&to=1"), "renew": asMachine.post(api.RouteRenew, api.RenewRequest{}), "logout": asMachine.post(api.RouteLogout, api.Empty{}),
	} {
		t.Run("machine at "+name, func(t *testing.T) {
			e := w.at(t).attack(s, api.KindDenied, "request.refuse", audit.Denied)
			if e.Actor.Kind != audit.ActorMachine || e.LoginID != m.SessionID {
				t.Errorf("event %+v", e)
			}
		})
	}
	_, serial, fingerprint := alice.certified()
	for name, s := range map[string]shot{
		"feed": alice.get(api.RouteFeed + "?after=-1"), "ack": alice.post(api.RouteAck, api.Ack{}), "hop": alice.post(api.RouteHop, hopFor(t, serial, fingerprint)),
		"front":  alice.post(api.RouteFront, api.FrontRequest{PublicKey: sshca.MarshalLine(newSigner(t).PublicKey())}),
		"report": alice.post(api.RouteReport, []api.Report{reportOf("session.end", "ssh_x")}),
	} {
		t.Run("person at "+name, func(t *testing.T) {
			e := w.at(t).attack(s, api.KindDenied, "request.refuse", audit.Denied)
			if e.Actor.Sub != "00ualice" {
				t.Errorf("event %+v", e)
			}
		})
	}
	alice.stillIn()
}

// TestReports has a bastion that says what it may not.
func TestReports(t *testing.T) {
	w := newWorld(t)
	alice, own, other := w.login("alice"), w.machine(bastionName), w.machine(otherName)
	_, serial, fingerprint := alice.certified()
	hop := into[api.Hop](t, w.send(own.post(api.RouteHop, hopFor(t, serial, fingerprint))))
	shaped := func(change func(*api.Report)) shot {
		r := reportOf("session.start", hop.SessionID)
		change(&r)
		return own.post(api.RouteReport, []api.Report{r})
	}
	for name, tc := range map[string]struct {
		shot shot
		kind api.Kind
	}{
		"another bastion's session":  {other.report("session.start", hop.SessionID), api.KindNotFound},
		"another bastion ends it":    {other.report("session.end", hop.SessionID), api.KindNotFound},
		"unknown session":            {own.report("session.start", "ssh_abcdefghijkmnpqr2345"), api.KindNotFound},
		"a login":                    {own.report("user.login", ""), api.KindInvalid},
		"an unblock":                 {own.report("user.unblock", hop.SessionID), api.KindInvalid},
		"a kind that does not exist": {own.report("session.rename", hop.SessionID), api.KindInvalid},
		"a start of no session":      {own.report("session.start", ""), api.KindInvalid},
		"heads of a session":         {own.report("recording.heads", hop.SessionID), api.KindInvalid},
		"no ID":                      {shaped(func(r *api.Report) { r.ID = "" }), api.KindInvalid},
		"outcome intent":             {shaped(func(r *api.Report) { r.Outcome = "intent" }), api.KindInvalid},
		"unknown outcome":            {shaped(func(r *api.Report) { r.Outcome = "fine" }), api.KindInvalid},
		"details that are no text":   {own.post(api.RouteReport, []byte(`[{"id":"x","kind":"recording.heads","outcome":"success","details":{"a":"`+"\xff"+`"}}]`)), api.KindInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			e := w.at(t).attack(tc.shot, tc.kind, "request.refuse", audit.Denied)
			if e.Actor.Kind != audit.ActorMachine {
				t.Errorf("event %+v", e)
			}
		})
	}
	if n := w.count(`SELECT count(*) FROM ssh_sessions WHERE state='opening'`); n != 1 {
		t.Errorf("a refused report moved the session")
	}
}

// TestReportsAreTakenOnce replays a bastion's report: one event, whoever sends it how often.
func TestReportsAreTakenOnce(t *testing.T) {
	w := newWorld(t)
	alice, m := w.login("alice"), w.machine(bastionName)
	_, serial, fingerprint := alice.certified()
	hop := into[api.Hop](t, w.send(m.post(api.RouteHop, hopFor(t, serial, fingerprint))))
	before := w.size()
	r := reportOf("session.start", hop.SessionID)
	for range 3 {
		into[api.Empty](t, w.send(m.post(api.RouteReport, []api.Report{r, r})))
	}
	e := w.only(before, "session.start", audit.Success)
	if e.Node != bastionName {
		t.Errorf("node %q", e.Node)
	}
	if e.Actor.Sub != "00ualice" || e.LoginID != alice.LoginID || e.Resource != "host/web-1" || e.SessionID != hop.SessionID {
		t.Errorf("event %+v", e)
	}
	w.attack(m.report("session.start", hop.SessionID), api.KindRevoked, "session.start", audit.Revoked) // a session starts once
}

// TestReportFromTheFuture: a bastion does not date its events into times that nobody looks at.
func TestReportFromTheFuture(t *testing.T) {
	w := newWorld(t)
	m := w.machine(bastionName)
	for _, at := range []time.Time{time.Now().Add(time.Hour), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		r := reportOf("recording.heads", "")
		r.Time = at
		before := w.size()
		into[api.Empty](t, w.send(m.post(api.RouteReport, []api.Report{r})))
		if e := w.only(before, "recording.heads", audit.Success); e.Time.After(time.Now().Add(time.Minute)) {
			t.Errorf("dated %s", e.Time)
		}
	}
}

// TestHops asks for hops that nobody may have (R6).
func TestHops(t *testing.T) {
	w := newWorld(t)
	alice, bob, m := w.login("alice"), w.login("bob"), w.machine(bastionName)
	_, serial, fingerprint := alice.certified()
	_, bobs, bobsKey := bob.certified()
	carol := w.login("carol") // may log in, and has no access
	for name, tc := range map[string]struct {
		change func(*api.HopRequest)
		kind   api.Kind
	}{
		"a serial never issued": {func(r *api.HopRequest) { r.AccessSerial += 500 }, api.KindDenied},
		"serial zero":           {func(r *api.HopRequest) { r.AccessSerial = 0 }, api.KindDenied},
		"another key":           {func(r *api.HopRequest) { r.AccessKey = ssh.FingerprintSHA256(newSigner(t).PublicKey()) }, api.KindDenied},
		"no key":                {func(r *api.HopRequest) { r.AccessKey = "" }, api.KindDenied},
		"bob's serial":          {func(r *api.HopRequest) { r.AccessSerial = bobs }, api.KindDenied},
		"bob's key":             {func(r *api.HopRequest) { r.AccessKey = bobsKey }, api.KindDenied},
		"unknown host":          {func(r *api.HopRequest) { r.Host = "web-9" }, api.KindDenied},
		"an address":            {func(r *api.HopRequest) { r.Host = "127.0.0.1:22" }, api.KindDenied},
		"unknown login":         {func(r *api.HopRequest) { r.Login = "postgres" }, api.KindDenied},
		"two logins":            {func(r *api.HopRequest) { r.Login = "root,postgres" }, api.KindDenied},
		"no login":              {func(r *api.HopRequest) { r.Login = "" }, api.KindDenied},
	} {
		t.Run(name, func(t *testing.T) {
			r := hopFor(t, serial, fingerprint)
			tc.change(&r)
			w.at(t).attack(m.post(api.RouteHop, r), tc.kind, "ssh.hop", audit.Denied)
		})
	}
	w.attack(carol.certificate(), api.KindDenied, "ssh.cert", audit.Denied)
	bad := hopFor(t, serial, fingerprint)
	bad.HopKey = "ssh-ed25519 AAAA"
	w.attack(m.post(api.RouteHop, bad), api.KindInvalid, "ssh.hop", audit.Denied)
	if n := w.count(`SELECT count(*) FROM ssh_sessions`); n != 0 {
		t.Errorf("%d SSH sessions", n)
	}
	w.clock.add(9 * time.Minute)
	w.attack(m.post(api.RouteHop, hopFor(t, serial, fingerprint)), api.KindDenied, "ssh.hop", audit.Denied)
}

// TestUnconfiguredBastion has an enrolled bastion that has been taken out of the configuration.
func TestUnconfiguredBastion(t *testing.T) {
	w := newWorld(t, func(_ *world, c *broker.Config) { c.Bastions = c.Bastions[:1] })
	alice, gone := w.login("alice"), w.machine(otherName)
	_, serial, fingerprint := alice.certified()
	w.attack(gone.post(api.RouteHop, hopFor(t, serial, fingerprint)), api.KindDenied, "ssh.hop", audit.Denied)
	line := sshca.MarshalLine(newSigner(t).PublicKey())
	w.attack(gone.post(api.RouteFront, api.FrontRequest{PublicKey: line, Host: "web-1"}), api.KindDenied, "ssh.front", audit.Denied)
	w.attack(gone.post(api.RouteFront, api.FrontRequest{PublicKey: line}), api.KindDenied, "ssh.front", audit.Denied)
}

// TestMasks asks for masks that would deceive (R7).
func TestMasks(t *testing.T) {
	w := newWorld(t)
	m := w.machine(bastionName)
	line := sshca.MarshalLine(newSigner(t).PublicKey())
	for _, name := range []string{bastionName, otherName, "web-9", "*", "web-1,bastion-2", "web-1\x00", "WEB-1", "127.0.0.1"} {
		t.Run(name, func(t *testing.T) {
			w.at(t).attack(m.post(api.RouteFront, api.FrontRequest{PublicKey: line, Host: name}), api.KindDenied, "ssh.front", audit.Denied)
		})
	}
	w.refused(w.send(m.post(api.RouteFront, api.FrontRequest{PublicKey: "no key", Host: "web-1"})), api.KindInvalid)
	made := into[api.Certificate](t, w.send(m.post(api.RouteFront, api.FrontRequest{PublicKey: line, Host: "web-1"})))
	cert, err := sshca.ParseCertificate(made.Certificate)
	if err != nil || len(cert.ValidPrincipals) != 1 || cert.ValidPrincipals[0] != "web-1" || cert.ValidBefore-cert.ValidAfter > 3600 {
		t.Errorf("mask %+v, %v", cert, err)
	}
}
