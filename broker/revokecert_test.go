package broker

import (
	"context"
	"fmt"
	"slices"
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

// revokers opens a broker where everybody may do everything, with alice, a bastion and two of the security staff.
func revokers(t *testing.T) (w *world, alice, bastion, sam, carol caller) {
	t.Helper()
	w = openWorld(t, onSQLite)
	w.s.Times.RevokeWait = 0
	staff := func(name string) caller {
		return w.login(func(s *state.Session) { s.Subject, s.Email = name, name+"@example.com" })
	}
	return w, w.signIn(), w.machine(), staff("sam"), staff("carol")
}

func (p caller) revokeCert(status int, profile string, serial uint64) (r api.Receipt) {
	p.w.t.Helper()
	p.want(status, "POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectCert, ID: sshca.Serial(serial).String(), Profile: profile, Reason: "stolen"}, &r)
	return r
}

// serialOf is the serial of the certificate in an answer.
func serialOf(t testing.TB, line string) uint64 {
	t.Helper()
	c, err := sshca.ParseCertificate(line)
	if err != nil {
		t.Fatal(err)
	}
	return c.Serial
}

// start reports, as the bastion, that a session has begun at a host that has shown a certificate.
func (p caller) start(status int, session, hostSerial string) {
	p.w.t.Helper()
	p.want(status, "POST", api.RouteReport, []api.Report{{ID: audit.NewID(), Time: p.w.clock.now(), Kind: "session.start", Outcome: "success", SessionID: session,
		Details: fmt.Appendf(nil, `{"host_serial":%q}`, hostSerial)}}, nil)
}

// fed is the newest entry of the feed.
func (w *world) fed() (last state.Revocation) {
	w.t.Helper()
	if err := w.db.Read(w.t.Context(), func(ctx context.Context, tx store.Querier) error {
		all, err := state.RevocationsAfter(ctx, tx, -1, 1000)
		if err == nil && len(all) > 0 {
			last = all[len(all)-1]
		}
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return last
}

// lastOf is the newest event of a kind.
func (w *world) lastOf(kind string) (last audit.Event) {
	w.t.Helper()
	for _, e := range w.events() {
		if e.Kind == kind {
			last = e
		}
	}
	return last
}

func idsOf(all []api.SessionInfo) (ids []string) {
	for _, v := range all {
		ids = append(ids, v.ID)
	}
	slices.Sort(ids)
	return ids
}

// TestRevokeAccessCertificate: what was opened with it ends and nothing new is, while the login goes on and gets another.
func TestRevokeAccessCertificate(t *testing.T) {
	w, alice, bastion, sam, _ := revokers(t)
	cert, other := alice.certificate(), alice.certificate()
	live, opening, untouched := bastion.hop(cert, 200), bastion.hop(cert, 200), bastion.hop(other, 200)
	bastion.start(200, live.SessionID, "")
	bastion.start(200, untouched.SessionID, "")

	var plan api.Receipt
	sam.want(200, "POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectCert, ID: sshca.Serial(cert.Serial).String(), Profile: api.ProfileAccess, Reason: "x", Plan: true}, &plan)
	both := []string{live.SessionID, opening.SessionID}
	slices.Sort(both)
	if diff := cmp.Diff(both, idsOf(plan.Plan.Sessions)); diff != "" || plan.Plan.Blocks || len(plan.Plan.Certificates) != 1 || plan.Plan.Person.Email != "alice@example.com" {
		t.Errorf("plan %+v\n%s", plan.Plan, diff)
	}
	bastion.hop(cert, 200) // a plan changes nothing

	receipt := sam.revokeCert(200, api.ProfileAccess, cert.Serial)
	want := state.Revocation{Index: receipt.Index, EventID: receipt.EventID, Profile: api.ProfileAccess, Serial: cert.Serial, Reason: "stolen", At: w.clock.now()}
	if diff := cmp.Diff(want, w.fed()); diff != "" {
		t.Errorf("feed (-want +got)\n%s", diff)
	}
	if e := w.lastOf(audit.KindCertRevoke); e.Outcome != audit.Success || e.Resource != fmt.Sprintf("certificate/access/%d", cert.Serial) || e.Reason != "stolen" || e.Actor.Sub != "sam" {
		t.Errorf("event %+v", e)
	}
	p := problemOf(t, bastion.do("POST", api.RouteHop, api.HopRequest{AccessSerial: cert.Serial, AccessKey: printOf(cert), Host: "web-1", Login: "deploy", HopKey: sshca.MarshalLine(sshKey(t))}))
	if p.Kind != api.KindRevoked || !strings.Contains(p.Detail, "stolen") {
		t.Errorf("a hop: %+v", p)
	}
	if p := problemOf(t, bastion.do("POST", api.RouteFront, api.FrontRequest{PublicKey: sshca.MarshalLine(sshKey(t)), Host: "web-1", AccessSerial: cert.Serial})); p.Kind != api.KindRevoked {
		t.Errorf("a mask: %+v", p)
	}
	bastion.start(403, opening.SessionID, "")
	if got := w.channelOf(bastion, live.SessionID); got == 200 {
		t.Error("a session of the certificate opens a channel")
	}
	if got := w.channelOf(bastion, untouched.SessionID); got != 200 {
		t.Errorf("another session of the login: %d", got)
	}
	bastion.hop(other, 200)
	bastion.hop(alice.certificate(), 200)
	alice.want(200, "GET", api.RouteSession, nil, nil)
	sam.revokeCert(200, api.ProfileAccess, cert.Serial) // again does no harm
}

func printOf(c *ssh.Certificate) string { return ssh.FingerprintSHA256(c.Key) }

// channelOf asks, as the bastion, for a program in a session.
func (w *world) channelOf(bastion caller, session string) int {
	return bastion.do("POST", api.RouteChannel, api.ChannelRequest{ID: audit.NewID(), SessionID: session, Time: w.clock.now(), Type: api.ChannelExec, Command: "true"}).Code
}

// TestRevokeHopCertificate ends the one session that it is for.
func TestRevokeHopCertificate(t *testing.T) {
	w, alice, bastion, sam, _ := revokers(t)
	cert := alice.certificate()
	hop, other := bastion.hop(cert, 200), bastion.hop(cert, 200)
	serial := serialOf(t, hop.Certificate)
	receipt := sam.revokeCert(200, api.ProfileHop, serial)
	if diff := cmp.Diff([]string{hop.SessionID}, idsOf(receipt.Plan.Sessions)); diff != "" {
		t.Error(diff)
	}
	bastion.start(403, hop.SessionID, "")
	bastion.start(200, other.SessionID, "")
	if !w.krl().list.Revokes(shown(t, w.config.CAs.Hop[0], serial)) {
		t.Error("hosts do not hear of it")
	}
}

// TestRevokeHostCertificate: bastions are told what a host must not show any more, and a session that stands on it
// does not begin.
func TestRevokeHostCertificate(t *testing.T) {
	w, alice, bastion, sam, _ := revokers(t)
	named, offline := w.hostCert("host-1"), uint64(1<<32|1_770_000_000)
	foreign := w.hostCert("host-2")
	cert := alice.certificate()
	before := bastion.hop(cert, 200)
	bastion.start(200, before.SessionID, sshca.Serial(named).String())
	opening := bastion.hop(cert, 200)
	if len(before.Revoked) != 0 {
		t.Errorf("revoked at first: %v", before.Revoked)
	}
	receipt := sam.revokeCert(200, api.ProfileHost, named)
	if diff := cmp.Diff([]string{before.SessionID}, idsOf(receipt.Plan.Sessions)); diff != "" || !strings.Contains(receipt.Plan.What, "of host-1") {
		t.Errorf("%q\n%s", receipt.Plan.What, diff)
	}
	sam.revokeCert(200, api.ProfileHost, foreign)
	if p := problemOf(t, sam.do("POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectCert, ID: sshca.Serial(offline).String(), Reason: "x"})); p.Kind != api.KindNotFound || !strings.Contains(p.Hint, "--profile host") {
		t.Errorf("one that was signed offline: %+v", p)
	}
	sam.revokeCert(200, api.ProfileHost, offline) // by a word more
	bastion.start(403, opening.SessionID, sshca.Serial(named).String())
	after := bastion.hop(cert, 200)
	want := []string{sshca.Serial(named).String(), sshca.Serial(offline).String()}
	slices.Sort(want)
	if diff := cmp.Diff(want, after.Revoked); diff != "" {
		t.Errorf("what the host must not show (-want +got)\n%s", diff)
	}
	bastion.start(200, after.SessionID, "77")
	l := w.krl().list
	for _, n := range []uint64{named, foreign, offline} {
		if !l.Revokes(shown(t, w.config.CAs.Host[0], n)) {
			t.Errorf("%d is not on the list", n)
		}
	}
}

// hostCert records a host certificate for a name, as enrolment does.
func (w *world) hostCert(name string) uint64 {
	w.t.Helper()
	serial, err := w.s.serials.next(w.t.Context(), api.ProfileHost)
	if err != nil {
		w.t.Fatal(err)
	}
	after, before := sshca.Host.Window(w.clock.now(), sshca.HostLifetime)
	cert, err := sshca.NewHost(sshca.HostParams{Key: sshKey(w.t), Serial: serial, KeyID: "host " + name, Names: []string{name}, ValidAfter: after, ValidBefore: before})
	if err != nil {
		w.t.Fatal(err)
	}
	made, err := w.s.signed(w.t.Context(), cert, sshca.Host, state.Cert{Profile: api.ProfileHost, Bearer: state.Bearer{Issuer: machineIssuer, Subject: "mch_" + name}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(func(ctx context.Context, tx store.Tx) error { return made.apply(ctx, tx, audit.Event{}) })
	return cert.Serial
}

// TestRevokeFrontCertificate: a bastion's own and a mask's go on the list; so does all that a bastion has when it is
// revoked itself.
func TestRevokeFrontCertificate(t *testing.T) {
	w, alice, bastion, sam, _ := revokers(t)
	front := func(host string, access uint64) uint64 {
		var got api.Certificate
		bastion.want(200, "POST", api.RouteFront, api.FrontRequest{PublicKey: sshca.MarshalLine(sshKey(t)), Host: host, AccessSerial: access}, &got)
		return got.Serial
	}
	own, mask, rest := front("", 0), front("web-1", alice.certificate().Serial), front("", 0)
	for _, n := range []uint64{own, mask} {
		if r := sam.revokeCert(200, api.ProfileFront, n); r.Plan.Person.Email != "bastion-1" || len(r.Plan.Sessions) != 0 {
			t.Errorf("plan %+v", r.Plan)
		}
	}
	on := func(n uint64) bool { return w.krl().list.Revokes(shown(t, w.config.CAs.Front[0], n)) }
	if !on(own) || !on(mask) || on(rest) {
		t.Error("the list holds others than were revoked")
	}
	sam.want(200, "POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectUser, ID: "mch_1", Reason: "stolen"}, nil)
	if !on(rest) {
		t.Error("a bastion was revoked, and its host key is still good")
	}
}

// TestSerialOfSeveral: each CA counts for itself, so one serial may be that of two certificates.
func TestSerialOfSeveral(t *testing.T) {
	w, alice, bastion, sam, _ := revokers(t)
	cert := alice.certificate()
	hop := bastion.hop(cert, 200)
	if serialOf(t, hop.Certificate) != cert.Serial {
		t.Fatalf("serials %d and %d: this test is about nothing", serialOf(t, hop.Certificate), cert.Serial)
	}
	ask := func(id, profile string) api.Problem {
		return problemOf(t, sam.do("POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectCert, ID: id, Profile: profile, Reason: "x"}))
	}
	text := sshca.Serial(cert.Serial).String()
	if p := ask(text, ""); p.Kind != api.KindConflict || !strings.Contains(p.Hint, "--profile access, --profile hop") {
		t.Errorf("%+v", p)
	}
	for name, tt := range map[string]struct {
		id, profile string
		kind        api.Kind
	}{
		"no number": {"abc", "", api.KindInvalid}, "nothing": {"", "", api.KindInvalid}, "zero": {"0", "", api.KindInvalid}, "zero of a host": {"0", "host", api.KindInvalid},
		"negative": {"-1", "", api.KindInvalid}, "hexadecimal": {"0x10", "", api.KindInvalid}, "beyond 64 bits": {"18446744073709551616", "", api.KindInvalid},
		"another spelling": {"0" + text, "", api.KindInvalid}, "another profile": {text, "root", api.KindInvalid},
		"unknown": {"18446744073709551615", "", api.KindNotFound}, "of a profile that has it not": {text, "front", api.KindNotFound},
	} {
		if p := ask(tt.id, tt.profile); p.Kind != tt.kind {
			t.Errorf("%s: %+v", name, p)
		}
	}
	w.clock.add(20 * time.Minute)
	if p := ask(text, "access"); p.Kind != api.KindConflict || !strings.Contains(p.Detail, "has expired") {
		t.Errorf("%+v", p)
	}
	if got := w.fed(); got != (state.Revocation{}) {
		t.Errorf("something was revoked: %+v", got)
	}
}

// TestRevocationWinsOverHop (I8): a certificate, or a host, that is revoked while a hop is on its way: the hop is
// discarded, whatever was signed.
func TestRevocationWinsOverHop(t *testing.T) {
	for name, tt := range map[string]struct {
		revoke func(ctx context.Context, tx store.Tx, cert *ssh.Certificate) error
		kind   string // of the event in whose commit it comes
	}{
		"certificate": {func(ctx context.Context, tx store.Tx, cert *ssh.Certificate) error {
			return state.RevokeCert(ctx, tx, state.RevokedCert{Profile: api.ProfileAccess, Serial: cert.Serial, ValidBefore: time.Date(2030, 1, 2, 13, 0, 0, 0, time.UTC)})
		}, "ssh.hop"},
		"host": {func(ctx context.Context, tx store.Tx, _ *ssh.Certificate) error {
			return state.BlockHost(ctx, tx, state.HostBlock{Host: "web-1", Reason: "x"})
		}, "ssh.hop"},
		"host, for a mask": {func(ctx context.Context, tx store.Tx, _ *ssh.Certificate) error {
			return state.BlockHost(ctx, tx, state.HostBlock{Host: "web-1", Reason: "x"})
		}, "ssh.front"},
		"certificate, for a mask": {func(ctx context.Context, tx store.Tx, cert *ssh.Certificate) error {
			return state.RevokeCert(ctx, tx, state.RevokedCert{Profile: api.ProfileAccess, Serial: cert.Serial, ValidBefore: time.Date(2030, 1, 2, 13, 0, 0, 0, time.UTC)})
		}, "ssh.front"},
	} {
		t.Run(name, func(t *testing.T) {
			w, alice, bastion, _, _ := revokers(t)
			cert := alice.certificate()
			came := false
			w.log.on(func(events []audit.Event) error {
				if len(events) == 1 && events[0].Kind == tt.kind && events[0].Outcome == audit.Success && !came {
					came = true
					w.write(func(ctx context.Context, tx store.Tx) error { return tt.revoke(ctx, tx, cert) })
				}
				return nil
			})
			route, body := api.RouteHop, any(api.HopRequest{AccessSerial: cert.Serial, AccessKey: printOf(cert), Host: "web-1", Login: "deploy", HopKey: sshca.MarshalLine(sshKey(t))})
			if tt.kind == "ssh.front" {
				route, body = api.RouteFront, api.FrontRequest{PublicKey: sshca.MarshalLine(sshKey(t)), Host: "web-1", AccessSerial: cert.Serial}
			}
			rec := bastion.do("POST", route, body)
			if p := problemOf(t, rec); !came || p.Kind != api.KindRevoked || strings.Contains(rec.Body.String(), "cert-v01") {
				t.Errorf("came %v: %+v", came, p)
			}
			if e := w.lastOf(tt.kind); e.Outcome != audit.Revoked {
				t.Errorf("event %+v", e)
			}
		})
	}
}
