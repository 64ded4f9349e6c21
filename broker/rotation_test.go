package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
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

// rotating is a world whose configuration gets new keys while it runs.
type rotating struct {
	*world
	bastion caller

	mu   sync.Mutex
	keys CAs
}

func newRotating(t *testing.T, open opener) *rotating {
	t.Helper()
	r := &rotating{}
	r.world = newWorldOn(t, open, func(c *Config) {
		r.keys = c.CAs
		c.ReloadCAs = func(context.Context) (CAs, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.keys, nil
		}
	})
	r.bastion = r.login(asBastion)
	return r
}

// asBastion makes the session that of the enrolled bastion-1.
func asBastion(s *state.Session) {
	s.Kind, s.Issuer, s.Subject, s.Email, s.NotAfter = state.KindMachine, machineIssuer, "mch_bastion1", "bastion-1", s.Expires
}

// add configures a further key of a CA.
func (r *rotating) add(ca string, key ssh.Signer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.keys
	to := map[string]*[]ssh.Signer{caAccess: &next.Access, caHop: &next.Hop, caFront: &next.Front, caHost: &next.Host}[ca]
	*to = append(slices.Clone(*to), key)
	r.keys = next
}

// step asks as root of the broker's machine.
func step(s *Server, ca, name string, asked api.CAStep) *httptest.ResponseRecorder {
	body, _ := json.Marshal(asked)
	rec := httptest.NewRecorder()
	req := httptest.NewRequest("POST", "/ca/"+ca+"/"+name, bytes.NewReader(body))
	s.Operators().ServeHTTP(rec, req.WithContext(WithOperator(req.Context(), Operator{Subject: "uid:0", Name: "root"})))
	return rec
}

// must makes a step that is good.
func (r *rotating) must(ca, name string, asked api.CAStep) {
	r.t.Helper()
	if rec := step(r.s, ca, name, asked); rec.Code != 200 {
		r.t.Fatalf("%s %s: %d %s", name, ca, rec.Code, rec.Body)
	}
}

// refused makes a step that is none now, and returns why.
func (r *rotating) refused(ca, name string, asked api.CAStep, want string) {
	r.t.Helper()
	before := len(r.events())
	rec := step(r.s, ca, name, asked)
	if rec.Code != 409 || !strings.Contains(rec.Body.String(), want) {
		r.t.Errorf("%s %s: %d %s, want one that says %q", name, ca, rec.Code, rec.Body, want)
	}
	events := r.events()
	if len(events) != before+1 || events[before].Outcome != audit.Denied || events[before].Resource != "ca/"+ca {
		r.t.Errorf("%s %s: the refusal is no event", name, ca)
	}
}

// acks has the bastion say what it has in force.
func (r *rotating) acks(version int64) {
	r.t.Helper()
	if rec := r.bastion.do("POST", api.RouteAck, api.Ack{Index: -1, Trust: version}); rec.Code != 200 {
		r.t.Fatalf("ack: %d %s", rec.Code, rec.Body)
	}
}

// signedBy issues an access certificate and returns the key that signed.
func (r *rotating) signedBy(person caller) string {
	r.t.Helper()
	rec := person.do("POST", api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(signer(r.t).PublicKey())})
	var c api.Certificate
	if err := json.Unmarshal(rec.Body.Bytes(), &c); err != nil || rec.Code != 200 {
		r.t.Fatalf("certificate: %d %s", rec.Code, rec.Body)
	}
	cert, err := sshca.ParseCertificate(c.Certificate)
	if err != nil {
		r.t.Fatal(err)
	}
	return sshca.MarshalLine(cert.SignatureKey)
}

// TestRotation goes through a rotation of the access CA, and tries each step before its time.
func TestRotation(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) opener{
		"sqlite":   func(*testing.T) opener { return onSQLite },
		"postgres": func(t *testing.T) opener { return onPostgres(newDatabase(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRotating(t, open(t))
			alice := r.login()
			next := signer(t)
			line, first := sshca.MarshalLine(next.PublicKey()), r.s.trust().AccessCAs[0]
			r.refused(caAccess, "rotate", api.CAStep{}, "no key of the access CA is published")
			r.refused(caAccess, "retire", api.CAStep{Force: true}, "has no old key")
			r.refused(caAccess, "publish", api.CAStep{}, "names no new key")
			r.refused(caAccess, "withdraw", api.CAStep{}, "that does not sign")
			r.add(caAccess, next)
			r.refused(caAccess, "publish", api.CAStep{Key: "SHA256:another"}, "names no new key")
			r.must(caAccess, "publish", api.CAStep{Reason: "yearly", Ticket: "SEC-1"})
			if diff := cmp.Diff([]string{first, line}, r.s.trust().AccessCAs); diff != "" {
				t.Errorf("bundle -want +got\n%s", diff)
			}
			if got := r.signedBy(alice); got != first {
				t.Error("a key signs that is only published")
			}
			r.refused(caAccess, "publish", api.CAStep{}, "published already")
			r.acks(r.s.trust().Version - 1)
			r.refused(caAccess, "rotate", api.CAStep{}, "bastion bastion-1 has not seen the key")
			r.acks(r.s.trust().Version)
			r.must(caAccess, "rotate", api.CAStep{})
			if got := r.signedBy(alice); got != line {
				t.Error("the old key signs after the switch")
			}
			if diff := cmp.Diff([]string{line, first}, r.s.trust().AccessCAs); diff != "" {
				t.Errorf("bundle after the switch -want +got\n%s", diff)
			}
			r.refused(caAccess, "retire", api.CAStep{}, "may live until")
			third := signer(t)
			r.add(caAccess, third)
			r.must(caAccess, "publish", api.CAStep{})
			r.acks(r.s.trust().Version)
			r.refused(caAccess, "rotate", api.CAStep{Force: true}, "not retired")
			r.must(caAccess, "withdraw", api.CAStep{})
			r.refused(caAccess, "publish", api.CAStep{}, "names no new key") // the withdrawn one may be stolen
			r.clock.add(r.s.Times.AccessCert + caLate - time.Second)
			r.refused(caAccess, "retire", api.CAStep{}, "may live until")
			r.clock.add(time.Second)
			before := r.s.trust().Version
			r.must(caAccess, "retire", api.CAStep{})
			if got := r.s.trust(); got.Version <= before || !slices.Equal(got.AccessCAs, []string{line}) {
				t.Errorf("trust after the retirement: %+v", got)
			}
			want := map[string]string{fingerprint(first): state.CARetired, fingerprint(line): state.CACurrent, ssh.FingerprintSHA256(third.PublicKey()): state.CARetired}
			if diff := cmp.Diff(want, r.phases()); diff != "" {
				t.Errorf("keys -want +got\n%s", diff)
			}
			var revoked []string
			for _, k := range r.krl().list.Keys {
				revoked = append(revoked, sshca.MarshalLine(k))
			}
			slices.Sort(revoked)
			if diff := cmp.Diff(slices.Sorted(slices.Values([]string{first, sshca.MarshalLine(third.PublicKey())})), revoked); diff != "" {
				t.Errorf("the retired and the withdrawn key on the revocation list -want +got\n%s", diff)
			}
			if got := r.kept(); !slices.Equal(got, []string{first, sshca.MarshalLine(third.PublicKey())}) {
				t.Errorf("retired keys that are configured still: %v", got)
			}
			r.keys.Access = []ssh.Signer{r.config.CAs.Access[0], next}
			r.refused(caAccess, "publish", api.CAStep{}, "names no new key") // the retired one does not come back
		})
	}
}

// kept are the retired keys that the configuration names still, as an operator sees them.
func (r *rotating) kept() (lines []string) {
	r.t.Helper()
	view, err := r.s.viewCAs(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, ca := range view.CAs {
		for _, k := range ca.Keys {
			if k.Kept {
				lines = append(lines, k.Line)
			}
		}
	}
	return lines
}

// TestForcedSwitchIsLogged: who goes on without a bastion is named with it.
func TestForcedSwitchIsLogged(t *testing.T) {
	r := newRotating(t, onSQLite)
	r.add(caHost, signer(t))
	r.must(caHost, "publish", api.CAStep{})
	r.must(caHost, "rotate", api.CAStep{Force: true, Reason: "stolen"})
	events := r.events()
	e := events[len(events)-1]
	var p caPlan
	if err := json.Unmarshal(e.Details, &p); err != nil {
		t.Fatal(err)
	}
	want := audit.Actor{Kind: audit.ActorSystem, Iss: operatorIssuer, Sub: "uid:0", Email: "root"}
	if e.Kind != audit.KindCASwitch || e.Outcome != audit.Success || e.Actor != want || e.Reason != "stolen" || !p.Force || len(p.Unseen) != 1 || p.Unseen[0].Name != "bastion-1" {
		t.Errorf("%+v %s", e, e.Details)
	}
}

// TestSwitchOfHopAndFront: hosts that are not enrolled cannot say what they trust, laptops do not.
func TestSwitchOfHopAndFront(t *testing.T) {
	r := newRotating(t, onSQLite)
	r.add(caHop, signer(t))
	r.must(caHop, "publish", api.CAStep{})
	r.refused(caHop, "rotate", api.CAStep{}, "web-1")
	r.must(caHop, "rotate", api.CAStep{ByHand: true})

	r.add(caFront, signer(t))
	r.must(caFront, "publish", api.CAStep{})
	r.acks(r.s.trust().Version)
	r.refused(caFront, "rotate", api.CAStep{}, "laptops may not have the key before")
	r.clock.add(r.s.Times.AccessCert + caLate)
	r.must(caFront, "rotate", api.CAStep{})
}

// TestLongestLifeCounts: what an old key has signed is waited for by the longest life that was ever configured for it, and laptops by the
// longest of their certificates.
func TestLongestLifeCounts(t *testing.T) {
	r := newRotating(t, onSQLite)
	r.config.Times = DefaultTimes()
	r.config.Times.AccessCert, r.config.Times.HopCert = time.Hour, 30*time.Minute
	r.restart()
	r.config.Times = DefaultTimes()
	r.restart()
	r.bastion.w = r.world
	for _, ca := range []string{caAccess, caHop, caFront} {
		r.add(ca, signer(t))
		r.must(ca, "publish", api.CAStep{})
	}
	r.acks(r.s.trust().Version)
	r.must(caAccess, "rotate", api.CAStep{})
	r.must(caHop, "rotate", api.CAStep{ByHand: true})
	r.clock.add(30*time.Minute + caLate - time.Second)
	r.refused(caHop, "retire", api.CAStep{}, "may live until")
	r.clock.add(time.Second)
	r.must(caHop, "retire", api.CAStep{})
	r.refused(caFront, "rotate", api.CAStep{}, "laptops may not have the key before")
	r.clock.add(30*time.Minute - time.Second)
	r.refused(caAccess, "retire", api.CAStep{}, "may live until")
	r.clock.add(time.Second)
	r.must(caFront, "rotate", api.CAStep{})
	r.must(caAccess, "retire", api.CAStep{})
	r.add(caAccess, signer(t)) // of the next key the life counts that was configured since it is there
	r.must(caAccess, "publish", api.CAStep{})
	r.must(caAccess, "rotate", api.CAStep{Force: true}) // the bastion's session has ended meanwhile
	r.clock.add(DefaultTimes().AccessCert + caLate)
	r.must(caAccess, "retire", api.CAStep{})
}

// TestHandSignedHostsAreAskedFor: of certificates that segad ca sign-host has signed the records know nothing, and when their
// CA's key goes, so do the hosts.
func TestHandSignedHostsAreAskedFor(t *testing.T) {
	pinned := sshca.MarshalLine(signer(t).PublicKey())
	for name, c := range map[string]struct {
		hosts []Host
		step  api.CAStep
		want  string
	}{
		"a certificate nobody knows": {[]Host{{Name: "web-1"}}, api.CAStep{}, "who has signed their certificates: web-1"},
		"somebody has seen to it":    {[]Host{{Name: "web-1"}}, api.CAStep{ByHand: true}, ""},
		"the key was stolen":         {[]Host{{Name: "web-1"}}, api.CAStep{Force: true}, ""},
		"a pinned key":               {[]Host{{Name: "web-1", HostKeys: []string{pinned}}}, api.CAStep{}, ""},
		"enrolled hosts alone":       {nil, api.CAStep{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRotating(t, onSQLite)
			r.s.Hosts = c.hosts
			r.add(caHost, signer(t))
			r.must(caHost, "publish", api.CAStep{})
			r.acks(r.s.trust().Version)
			r.must(caHost, "rotate", api.CAStep{})
			r.clock.add(caLate)
			if c.want == "" {
				r.must(caHost, "retire", c.step)
				return
			}
			r.refused(caHost, "retire", c.step, c.want)
		})
	}
}

// TestRotationOutlivesTheBroker: a broker that was restarted in the middle goes on where the rotation stood.
func TestRotationOutlivesTheBroker(t *testing.T) {
	r := newRotating(t, onSQLite)
	next := signer(t)
	r.add(caAccess, next)
	r.must(caAccess, "publish", api.CAStep{})
	r.config.CAs = r.keys
	r.restart()
	r.bastion.w = r.world
	r.refused(caAccess, "rotate", api.CAStep{}, "has not seen")
	r.acks(r.s.trust().Version)
	r.must(caAccess, "rotate", api.CAStep{})
	r.restart()
	if got := r.signedBy(r.login()); got != sshca.MarshalLine(next.PublicKey()) {
		t.Error("after a restart the old key signs")
	}
	r.config.CAs.Access, r.config.ReloadCAs = r.config.CAs.Access[:1], nil
	r.restart()
	if rec := r.readyz(); rec.Code != 503 || !strings.Contains(rec.Body.String(), "access CA is not among those") {
		t.Errorf("a broker without the key that signs is ready: %d %s", rec.Code, rec.Body)
	}
	r.config.CAs = r.keys
	r.config.CAs.Hop = []ssh.Signer{next}
	if _, err := New(t.Context(), r.config); err == nil || !strings.Contains(err.Error(), "in common") {
		t.Errorf("one key for two CAs: %v", err)
	}
}

// TestTwoRotationsAtOnce: of two operators one publishes, one switches, and the version rises once for each.
func TestTwoRotationsAtOnce(t *testing.T) {
	r := newRotating(t, onSQLite)
	r.add(caAccess, signer(t))
	before := r.s.trust().Version
	both := func(name string) (codes []int) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range 2 {
			wg.Go(func() {
				rec := step(r.s, caAccess, name, api.CAStep{})
				mu.Lock()
				defer mu.Unlock()
				codes = append(codes, rec.Code)
			})
		}
		wg.Wait()
		slices.Sort(codes)
		return codes
	}
	want := []int{200, 409}
	if got := both("publish"); !slices.Equal(got, want) {
		t.Errorf("publish: %v", got)
	}
	if got := r.s.trust().Version; got != before+1 {
		t.Errorf("version %d after %d", got, before)
	}
	r.acks(before + 1)
	if got := both("rotate"); !slices.Equal(got, want) {
		t.Errorf("rotate: %v", got)
	}
	r.clock.add(time.Hour)
	if got := both("retire"); !slices.Equal(got, want) {
		t.Errorf("retire: %v", got)
	}
}

// TestSeveralBrokersRotate: a step at one broker holds at the others within a look, and one that lacks the key holds the switch up.
func TestSeveralBrokersRotate(t *testing.T) {
	r := newRotating(t, onPostgres(newDatabase(t)))
	c := r.config
	c.Node, c.Peers, c.ReloadCAs = "node-2", true, nil
	other, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	next := signer(t)
	r.add(caAccess, next)
	r.must(caAccess, "publish", api.CAStep{})
	if err := other.RefreshCAs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := other.trust(); got.Version != r.s.trust().Version || slices.Contains(got.AccessCAs, sshca.MarshalLine(next.PublicKey())) {
		t.Errorf("a broker tells others to trust a key that it does not know: %+v", got)
	}
	r.acks(r.s.trust().Version)
	r.refused(caAccess, "rotate", api.CAStep{}, "broker node-2 has not seen the key")
	r.readsSeldom(other)
	other.ReloadCAs = r.config.ReloadCAs
	other.cas.rereadAt = time.Time{} // much later
	if err := other.RefreshCAs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.s.trust(), other.trust()); diff != "" {
		t.Errorf("the other broker trusts others: -here +there\n%s", diff)
	}
	r.must(caAccess, "rotate", api.CAStep{})
	if err := other.RefreshCAs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := other.authority(t.Context(), caAccess); err != nil || sshca.MarshalLine(got.PublicKey()) != sshca.MarshalLine(next.PublicKey()) {
		t.Errorf("the other broker signs with another key: %v", err)
	}
}

// readsSeldom: a broker that lacks a key looks into its configuration at once, and then now and then.
func (r *rotating) readsSeldom(s *Server) {
	r.t.Helper()
	lacking, reads := s.CAs, 0
	s.ReloadCAs = func(context.Context) (CAs, error) { reads++; return lacking, nil }
	for range 5 {
		if err := s.RefreshCAs(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
	if reads != 1 {
		r.t.Errorf("it read %d times at once, want 1", reads)
	}
}

// brittle is a CA's key that fails where the test says so.
type brittle struct {
	ssh.Signer
	mu  sync.Mutex
	err error
}

func (b *brittle) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return nil, b.err
	}
	return b.Signer.Sign(rand, data)
}

func (b *brittle) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// TestCAKeyGone: a key that does not sign issues nothing, the answer is unavailable, /readyz says so, and both mend themselves.
func TestCAKeyGone(t *testing.T) {
	key := &brittle{Signer: signer(t)}
	w := newWorld(t, func(c *Config) { c.CAs.Access = []ssh.Signer{key} })
	alice := w.login()
	certificate := func() *httptest.ResponseRecorder {
		return alice.do("POST", api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(signer(t).PublicKey())})
	}
	ready := func() int { return w.serve(httptest.NewRequest("GET", api.RouteReady, nil)).Code }
	if got := certificate().Code; got != 200 || ready() != 200 {
		t.Fatalf("with the key: %d", got)
	}
	key.fail(errors.New("canary: CKR_DEVICE_REMOVED"))
	rec := certificate()
	if p := problemOf(t, rec); p.Kind != api.KindUnavailable || strings.Contains(rec.Body.String(), "canary") {
		t.Errorf("without the key: %s", rec.Body)
	}
	if rec := w.serve(httptest.NewRequest("GET", api.RouteReady, nil)); rec.Code != 503 || !strings.Contains(rec.Body.String(), "access CA does not sign") || strings.Contains(rec.Body.String(), "canary") {
		t.Errorf("readyz: %d %s", rec.Code, rec.Body)
	}
	var certs int
	if err := w.db.Read(t.Context(), func(ctx context.Context, tx store.Querier) error {
		return tx.QueryRowContext(ctx, `SELECT count(*) FROM certs`).Scan(&certs)
	}); err != nil || certs != 1 {
		t.Errorf("%v, %d certificates", err, certs)
	}
	if events := w.events(); events[len(events)-1].Outcome != audit.Failure {
		t.Errorf("the failure is no event: %v", w.trail())
	}
	w.s.tryCAs()
	if ready() == 200 {
		t.Error("ready although the key is gone still")
	}
	key.fail(nil)
	w.s.tryCAs()
	if got := certificate().Code; got != 200 || ready() != 200 {
		t.Errorf("with the key again: %d", got)
	}
}

// TestFirstStartAdoptsTheCAs: the keys that a database knows none of become an event, once.
func TestFirstStartAdoptsTheCAs(t *testing.T) {
	w := newWorld(t)
	w.write(func(ctx context.Context, tx store.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM ca_keys`)
		return err
	})
	offline := signer(t).PublicKey()
	w.config.CAs.MoreHop = []ssh.PublicKey{offline}
	w.restart()
	w.restart()
	if diff := cmp.Diff([]string{"ca.configure success"}, w.trail()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := w.s.trust().HopCAs; len(got) != 2 || got[1] != sshca.MarshalLine(offline) {
		t.Errorf("hop CAs: %v", got)
	}
	w.config.CAs.MoreHop = nil
	w.restart()
	if got := w.s.trust().HopCAs; len(got) != 1 {
		t.Errorf("the offline key is trusted still: %v", got)
	}
}

// TestStaleTrustSignsNothing: a broker that has not been able to look for longer than a switch reckons with issues nothing.
func TestStaleTrustSignsNothing(t *testing.T) {
	w := newWorld(t)
	old := *w.s.cas.now.Load()
	old.read = old.read.Add(-caStale - time.Second)
	w.s.cas.now.Store(&old)
	w.s.Log = blind{w.log}
	if _, err := w.s.authority(t.Context(), caAccess); asProblem(err).Kind != api.KindUnavailable {
		t.Errorf("got %v", err)
	}
	w.s.Log = w.log
	if _, err := w.s.authority(t.Context(), caAccess); err != nil {
		t.Errorf("with the database again: %v", err)
	}
}

// blind is a log whose database answers no reads.
type blind struct{ store.Log }

func (blind) Read(context.Context, func(context.Context, store.Querier) error) error {
	return store.ErrUnreadable
}

// TestOperatorsOnly: without the kernel's word on who asks there is no answer, and nobody's word goes over the network.
func TestOperatorsOnly(t *testing.T) {
	w := newWorld(t)
	rec := httptest.NewRecorder()
	w.s.Operators().ServeHTTP(rec, httptest.NewRequest("GET", api.RouteCAs, nil))
	if rec.Code != 401 {
		t.Errorf("without an operator: %d", rec.Code)
	}
	if got := w.serve(httptest.NewRequest("GET", api.RouteCAs, nil)).Code; got != 404 {
		t.Errorf("over the network: %d", got)
	}
	if got := step(w.s, "nobody", "publish", api.CAStep{}).Code; got != 404 {
		t.Errorf("of no CA: %d", got)
	}
}

// TestFirstFew: an error names some of many, and nobody twice.
func TestFirstFew(t *testing.T) {
	for want, names := range map[string][]string{
		"host a":                    {"host a"},
		"a, b":                      {"a", "b"},
		"1, 2, 3, 4, 5":             {"1", "2", "3", "4", "5"},
		"1, 2, 3, 4, 5, and 2 more": {"1", "2", "3", "4", "5", "6", "7"},
	} {
		if got := firstFew(names); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
