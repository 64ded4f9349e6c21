package broker

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

func (w *world) bastion() caller {
	return w.login(func(s *state.Session) {
		s.Kind, s.Issuer, s.Subject, s.Email = state.KindMachine, machineIssuer, "mch_1", "bastion-1"
	})
}

// hopTo has alice go to a host through the bastion, and returns what the bastion got and the key it made.
func (w *world) hopTo(bastion caller, host, login string) (api.Hop, ssh.PublicKey) {
	w.t.Helper()
	alice, key, hopKey := w.login(), signer(w.t).PublicKey(), signer(w.t).PublicKey()
	cert := read[api.Certificate](w.t, alice.do("POST", api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(key)}))
	hop := read[api.Hop](w.t, bastion.do("POST", api.RouteHop, api.HopRequest{AccessSerial: cert.Serial, AccessKey: ssh.FingerprintSHA256(key), Host: host, Login: login,
		Source: "192.0.2.7", HopKey: sshca.MarshalLine(hopKey), Route: "direct"}))
	return hop, hopKey
}

func (w *world) started(bastion caller, session, details string) {
	w.t.Helper()
	read[api.Empty](w.t, bastion.do("POST", api.RouteReport, []api.Report{{ID: audit.NewID(), Time: w.clock.now(), Kind: "session.start", Outcome: "success",
		SessionID: session, Source: "192.0.2.7", Details: json.RawMessage(details)}}))
}

const recorded = `{"host":"db-1","login":"deploy","recording":{"public_key":"AA=="}}`

// TestHostKeys: a host without certificates is told the key of a session while it is opened, and no other time.
func TestHostKeys(t *testing.T) {
	w := newHostWorld(t)
	h, _ := w.enrolledHost(func(r *api.HostTokenRequest) { r.PlainKeys = true })
	bastion := w.bastion()
	keys := func(p caller, login string) []api.HostKey {
		t.Helper()
		return read[api.HostKeys](t, p.do("GET", strings.Replace(api.RouteHostKeys, "{login}", login, 1), nil)).Keys
	}
	if got := keys(h, "deploy"); len(got) != 0 {
		t.Errorf("keys without a session: %v", got)
	}
	hop, key := w.hopTo(bastion, "db-1", "deploy")
	if hop.Certificate != "" || !hop.PlainKey || len(hop.HostKeys) != 1 {
		t.Errorf("the bastion got %+v", hop)
	}
	want := []api.HostKey{{Key: sshca.MarshalLine(key), From: "192.0.2.9/32", Options: "restrict,pty", SessionID: hop.SessionID, Expires: w.clock.now().Add(2 * time.Minute)}}
	if diff := cmp.Diff(want, keys(h, "deploy")); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	other, _ := w.enrolledHost(func(r *api.HostTokenRequest) { r.Name, r.PlainKeys = "db-2", true })
	for name, got := range map[string][]api.HostKey{"another login": keys(h, "root"), "another host": keys(other, "deploy"), "a pattern": keys(h, "%25"), "several": keys(h, "deploy%2Croot")} {
		if len(got) != 0 {
			t.Errorf("%s is told %v", name, got)
		}
	}
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.BlockSubject(ctx, tx, issuer, "alice", "", "", "test")
	})
	if got := keys(h, "deploy"); len(got) != 0 {
		t.Errorf("keys of a revoked person: %v", got)
	}
	w.write(func(ctx context.Context, tx store.Tx) error { return state.UnblockSubject(ctx, tx, issuer, "alice") })
	if got := keys(h, "deploy"); len(got) != 0 {
		t.Errorf("keys of before a revocation: %v", got)
	}
	refused(t, bastion.do("GET", strings.Replace(api.RouteHostKeys, "{login}", "deploy", 1), nil), api.KindDenied, "host")
}

// TestHostAudit holds logins against the sessions of the log.
func TestHostAudit(t *testing.T) {
	w := newHostWorld(t)
	h, _ := w.enrolledHost()
	bastion := w.bastion()
	hop, _ := w.hopTo(bastion, "db-1", "deploy")
	cert, err := sshca.ParseCertificate(hop.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	good := api.HostLogin{Line: "1", Connection: "c1", Time: w.clock.now(), Login: "deploy", Source: "192.0.2.9", Method: "publickey", Fingerprint: ssh.FingerprintSHA256(cert.Key), KeyID: cert.KeyId, Serial: cert.Serial}
	unstarted, _ := w.hopTo(bastion, "db-1", "deploy")
	elsewhere, _ := w.hopTo(bastion, "web-1", "deploy")
	unrecorded, _ := w.hopTo(bastion, "db-1", "deploy")
	w.started(bastion, hop.SessionID, recorded)
	w.started(bastion, elsewhere.SessionID, recorded)
	w.started(bastion, unrecorded.SessionID, `{"host":"db-1"}`)
	of := func(hop api.Hop) func(*api.HostLogin) {
		c, err := sshca.ParseCertificate(hop.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		return func(l *api.HostLogin) {
			l.KeyID, l.Serial, l.Fingerprint = c.KeyId, c.Serial, ssh.FingerprintSHA256(c.Key)
		}
	}
	for name, tt := range map[string]struct {
		change func(*api.HostLogin)
		why    string
	}{
		"recorded":               {func(*api.HostLogin) {}, ""},
		"by password":            {func(l *api.HostLogin) { l.Method, l.KeyID, l.Serial = "password", "", 0 }, "password"},
		"by a plain key":         {func(l *api.HostLogin) { l.KeyID, l.Serial = "", 0 }, "neither its key"},
		"another CA's":           {func(l *api.HostLogin) { l.KeyID = "vault-root" }, "neither its key"},
		"no session of ours":     {func(l *api.HostLogin) { l.KeyID = "ssh_zzzzzzzzzzzzzzzzzzzz alice@example.com" }, "permitted no such session"},
		"another account":        {func(l *api.HostLogin) { l.Login = "root" }, "another host or account"},
		"of another host":        {of(elsewhere), "another host or account"},
		"another serial":         {func(l *api.HostLogin) { l.Serial++ }, "another certificate"},
		"copied onto a key":      {func(l *api.HostLogin) { l.Fingerprint = ssh.FingerprintSHA256(signer(t).PublicKey()) }, "another certificate or key"},
		"that did not start":     {of(unstarted), "no bastion has begun"},
		"started and unrecorded": {of(unrecorded), "names no recording"},
	} {
		t.Run(name, func(t *testing.T) {
			l := good
			tt.change(&l)
			l.Line = name
			before := len(w.trail())
			ask := func() api.HostVerdict {
				return read[api.HostVerdicts](t, h.do("POST", api.RouteHostAudit, api.HostLogins{Logins: []api.HostLogin{l}})).Verdicts[0]
			}
			v := ask()
			ask() // a repeat is no second event
			var bypasses []audit.Event
			for _, e := range w.events()[before:] {
				if e.Kind == audit.KindHostBypass {
					bypasses = append(bypasses, e)
				}
			}
			if v.Covered != (tt.why == "") || !strings.Contains(v.Why, tt.why) {
				t.Errorf("verdict %+v", v)
			}
			if want := map[bool]int{true: 0, false: 1}[v.Covered]; len(bypasses) != want {
				t.Fatalf("%d events, want %d", len(bypasses), want)
			}
			if !v.Covered && (bypasses[0].Resource != "host/db-1" || bypasses[0].Source != "192.0.2.9" || bypasses[0].Reason != v.Why || bypasses[0].Actor.Kind != audit.ActorMachine) {
				t.Errorf("event %+v", bypasses[0])
			}
		})
	}
	// An older sega on the host names no connection: within one request a second login shows, and when the host is brought up to date
	// the first one is not another.
	older, _ := w.hopTo(bastion, "db-1", "deploy")
	w.started(bastion, older.SessionID, recorded)
	plain := good
	of(older)(&plain)
	plain.Line, plain.Connection = "o1", ""
	second, updated := plain, plain
	second.Line, updated.Connection = "o2", "c9"
	for i, batch := range [][]api.HostLogin{{plain, second}, {updated}, {plain}, {updated}} {
		got := read[api.HostVerdicts](t, h.do("POST", api.RouteHostAudit, api.HostLogins{Logins: batch})).Verdicts
		if !got[0].Covered || len(got) == 2 && got[1].Covered {
			t.Errorf("of an older sega, request %d: %+v", i, got)
		}
	}
	// A log without processes, as sshd -e writes it, and one with them have the same logins.
	for name, order := range map[string][2]string{"bare first": {"p", "p/1"}, "bare second": {"p/1", "p"}} {
		of(func() api.Hop {
			hop, _ := w.hopTo(bastion, "db-1", "deploy")
			w.started(bastion, hop.SessionID, recorded)
			return hop
		}())(&plain)
		for _, connection := range []string{order[0], order[1], "p/2", "q"} {
			plain.Line, plain.Connection = name+connection, connection
			v := read[api.HostVerdicts](t, h.do("POST", api.RouteHostAudit, api.HostLogins{Logins: []api.HostLogin{plain}})).Verdicts[0]
			if want := connection == order[0] || connection == order[1] || connection == "p/2" && order[0] == "p"; v.Covered != want {
				t.Errorf("%s: %s is %+v", name, connection, v)
			}
		}
	}
	// The same login is covered in whatever form of the log it comes, another one of that certificate is not, whenever it comes.
	again, journal := good, good
	again.Line, again.Connection, journal.Line = "another line", "c2", "the same in the journal"
	for name, batch := range map[string][]api.HostLogin{"at once": {good, journal, again}, "alone": {again}, "before": {again, good}} {
		got := read[api.HostVerdicts](t, h.do("POST", api.RouteHostAudit, api.HostLogins{Logins: batch})).Verdicts
		for i, l := range batch {
			if twice := l.Connection == "c2"; got[i].Covered == twice || twice && !strings.Contains(got[i].Why, "used before") {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
	refused(t, h.do("POST", api.RouteHostAudit, api.HostLogins{Logins: make([]api.HostLogin, api.MaxHostLogins+1)}), api.KindInvalid, "at once")
}

// TestBypassesAreRationed: a host that says that anything has come in does not fill the log, and what is left out is told.
func TestBypassesAreRationed(t *testing.T) {
	w := newHostWorld(t)
	h, _ := w.enrolledHost()
	other, _ := w.enrolledHost(func(r *api.HostTokenRequest) { r.Name = "db-2" })
	next := 0
	flood := func(p caller, n int) (leftOut int) {
		t.Helper()
		logins := make([]api.HostLogin, n)
		for i := range logins {
			next++
			logins[i] = api.HostLogin{Line: strconv.Itoa(next), Login: "root", Source: "192.0.2.66", Method: "password"}
		}
		v := read[api.HostVerdicts](t, p.do("POST", api.RouteHostAudit, api.HostLogins{Logins: logins}))
		if len(v.Verdicts) != n || v.Verdicts[n-1].Covered {
			t.Errorf("verdicts %+v", v)
		}
		return v.LeftOut
	}
	logged := func(host string) (events, told int) {
		for _, e := range w.events() {
			var d struct {
				Left int `json:"left_out"`
			}
			if e.Kind != audit.KindHostBypass || e.Resource != "host/"+host {
				continue
			}
			if err := json.Unmarshal(e.Details, &d); err != nil {
				t.Fatal(err)
			}
			events, told = events+1, told+d.Left
		}
		return events, told
	}
	check := func(step, host string, events, told int) {
		t.Helper()
		if gotEvents, gotTold := logged(host); gotEvents != events || gotTold != told {
			t.Errorf("%s: %s has %d events that tell of %d more, want %d and %d", step, host, gotEvents, gotTold, events, told)
		}
	}
	sweep := func() {
		t.Helper()
		if err := w.s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if flood(h, bypassEvents) != 0 {
		t.Error("left out of what fits")
	}
	check("what fits", "db-1", bypassEvents, 0)
	if got := flood(h, 30); got != 30 {
		t.Errorf("%d left out", got)
	}
	check("the first too many", "db-1", bypassEvents+1, 30)
	for range 5 {
		flood(h, api.MaxHostLogins)
	}
	flood(other, 1)
	sweep()
	check("a flood", "db-1", bypassEvents+1, 30)
	check("a flood", "db-2", 1, 0)
	w.clock.add(bypassWhile)
	flood(h, 1)
	check("the next while", "db-1", bypassEvents+3, 30+5*api.MaxHostLogins)
	flood(h, bypassEvents)
	flood(h, 7)
	check("once more", "db-1", 2*bypassEvents+3, 30+5*api.MaxHostLogins+1)
	w.clock.add(bypassWhile + time.Second)
	sweep() // it asks no more
	sweep()
	check("silence", "db-1", 2*bypassEvents+4, 30+5*api.MaxHostLogins+1+7)
}

// TestLeftOutIsCountedOnce: what is asked about again is left out again and counted no second time, in whichever while; and what a
// broker remembers for that is bounded.
func TestLeftOutIsCountedOnce(t *testing.T) {
	w := newHostWorld(t)
	h, _ := w.enrolledHost()
	ask := func(first, n int) (leftOut int) {
		t.Helper()
		logins := make([]api.HostLogin, n)
		for i := range logins {
			logins[i] = api.HostLogin{Line: strconv.Itoa(first + i), Login: "root", Source: "192.0.2.66", Method: "password"}
		}
		return read[api.HostVerdicts](t, h.do("POST", api.RouteHostAudit, api.HostLogins{Logins: logins})).LeftOut
	}
	told := func() (n int) {
		t.Helper()
		w.clock.add(bypassWhile + time.Second)
		if err := w.s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, e := range w.events() {
			var d struct {
				Left int `json:"left_out"`
			}
			if e.Kind != audit.KindHostBypass {
				continue
			}
			if err := json.Unmarshal(e.Details, &d); err != nil {
				t.Fatal(err)
			}
			n += d.Left
		}
		return n
	}
	for range 3 { // the last 300 wait for their turn: 100 become events each time
		ask(0, 400)
		if got := ask(0, 400); got == 0 {
			t.Fatal("none was left out")
		}
		if got := told(); got != 300 {
			t.Errorf("told of %d, want 300", got)
		}
	}
	if got := ask(0, 400); got != 0 {
		t.Errorf("%d of 400 are still left out", got)
	}
	for first := 1000; first < 1000+bypassEvents+maxLeftOut+api.MaxHostLogins; first += api.MaxHostLogins {
		ask(first, api.MaxHostLogins)
	}
	if got := told(); got != maxLeftOut {
		t.Errorf("told of %d, want the %d that are remembered", got, maxLeftOut)
	}
}
