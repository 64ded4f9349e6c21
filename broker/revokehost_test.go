package broker

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/keychain/secret"
	"sega/sshca"
)

// enrolledHost gives web-1 a machine with a session, as enrolment does.
func (w *world) revocableHost() caller {
	w.t.Helper()
	p := w.login(func(s *state.Session) {
		s.Kind, s.Issuer, s.Subject, s.Email = state.KindMachine, machineIssuer, "mch_web", "web-1"
	})
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.AddMachine(ctx, tx, state.Machine{ID: "mch_web", Name: "web-1", Kind: api.MachineHost, Thumbprint: p.key.Thumbprint(), Created: w.clock.now()})
	})
	return p
}

func (p caller) revokeHost(status int) (r api.Receipt) {
	p.w.t.Helper()
	p.want(status, "POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectHost, ID: "web-1", Reason: "owned"}, &r)
	return r
}

func (p caller) unblockHost() api.Problem {
	p.w.t.Helper()
	rec := p.do("POST", api.RouteUnblock, api.UnblockRequest{Subject: api.SubjectHost, ID: "web-1", Reason: "rebuilt"})
	if rec.Code == 200 {
		return api.Problem{}
	}
	return problemOf(p.w.t, rec)
}

// machineSession asks for a session with the machine's key alone.
func (p caller) machineSession() *httptest.ResponseRecorder {
	p.token = secret.Secret{}
	return p.do("POST", api.RouteMachine, api.Empty{})
}

// TestRevokeHost: everything of a host ends and nothing new is granted for it, until somebody else lifts that.
func TestRevokeHost(t *testing.T) {
	w, alice, bastion, sam, carol := revokers(t)
	serial := w.hostCert("host-1")
	host := w.revocableHost()
	cert := alice.certificate()
	live, opening := bastion.hop(cert, 200), bastion.hop(cert, 200)
	bastion.start(200, live.SessionID, sshca.Serial(serial).String())

	receipt := sam.revokeHost(200)
	ids := []string{host.session.ID, live.SessionID, opening.SessionID}
	slices.Sort(ids)
	if diff := cmp.Diff(ids, idsOf(receipt.Plan.Sessions)); diff != "" || !receipt.Plan.Blocks || receipt.Plan.What != "host web-1" || len(receipt.Plan.Certificates) != 1 {
		t.Errorf("plan %+v\n%s", receipt.Plan, diff)
	}
	if diff := cmp.Diff(state.Revocation{Index: receipt.Index, EventID: receipt.EventID, Host: "web-1", Reason: "owned", At: w.clock.now()}, w.fed()); diff != "" {
		t.Errorf("feed (-want +got)\n%s", diff)
	}
	if !w.krl().list.Revokes(shown(t, w.config.CAs.Host[0], serial)) {
		t.Error("its certificate is not on the list")
	}
	denied := func(status int, kind api.Kind) {
		t.Helper()
		rec := bastion.do("POST", api.RouteHop, api.HopRequest{AccessSerial: cert.Serial, AccessKey: printOf(cert), Host: "web-1", Login: "deploy", HopKey: sshca.MarshalLine(sshKey(t))})
		if rec.Code != status {
			t.Fatalf("a hop: %d %s", rec.Code, rec.Body)
		}
		if status == 200 {
			return
		}
		if p := problemOf(t, rec); p.Kind != kind || !strings.Contains(p.Detail, "host web-1 was revoked: owned") || !strings.Contains(p.Hint, "sega unblock host web-1") {
			t.Errorf("%+v", p)
		}
	}
	denied(403, api.KindRevoked)
	if v := read[api.Hosts](t, alice.do("GET", api.RouteHosts, nil)).Hosts[0]; v.Allowed || len(v.Logins) > 0 || v.Why != "host web-1 was revoked: owned" {
		t.Errorf("listed as %+v", v)
	}
	if p := problemOf(t, bastion.do("POST", api.RouteFront, api.FrontRequest{PublicKey: sshca.MarshalLine(sshKey(t)), Host: "web-1"})); p.Kind != api.KindRevoked {
		t.Errorf("a mask: %+v", p)
	}
	bastion.start(403, opening.SessionID, "")
	if got := w.channelOf(bastion, live.SessionID); got == 200 {
		t.Error("a session there opens a channel")
	}
	if w.current(host) || !w.current(bastion) {
		t.Error("other sessions have ended than that of the host's machine")
	}
	alice.want(200, "GET", api.RouteSession, nil, nil)
	if got := host.machineSession(); got.Code != 403 {
		t.Errorf("the host's machine opens a session: %d %s", got.Code, got.Body)
	}

	if p := sam.unblockHost(); p.Kind != api.KindDenied || !strings.Contains(p.Detail, "himself") {
		t.Errorf("who revoked it lifts it: %+v", p)
	}
	denied(403, api.KindRevoked)
	if p := carol.unblockHost(); p.Kind != "" {
		t.Errorf("%+v", p)
	}
	if e := w.lastOf(audit.KindHostUnblock); e.Outcome != audit.Success || e.Resource != "host/web-1" || e.Reason != "rebuilt" || e.Actor.Sub != "carol" {
		t.Errorf("event %+v", e)
	}
	denied(200, "")
	if v := read[api.Hosts](t, alice.do("GET", api.RouteHosts, nil)).Hosts[0]; !v.Allowed || v.Why != "" {
		t.Errorf("listed as %+v", v)
	}
	bastion.start(403, opening.SessionID, "")
	if !w.krl().list.Revokes(shown(t, w.config.CAs.Host[0], serial)) {
		t.Error("its old certificate is good again")
	}
	if p := carol.unblockHost(); p.Kind != api.KindConflict {
		t.Errorf("lifted twice: %+v", p)
	}
	if got := host.machineSession(); got.Code != 200 {
		t.Errorf("the host's machine is not let in again: %d %s", got.Code, got.Body)
	}
}

// TestUnblockHostKeepsOtherBlocks: a machine that was revoked by itself stays so when its host is let in again.
func TestUnblockHostKeepsOtherBlocks(t *testing.T) {
	w, _, _, sam, carol := revokers(t)
	host := w.revocableHost()
	sam.want(200, "POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectUser, ID: "mch_web", Reason: "key stolen"}, nil)
	sam.revokeHost(200)
	if p := carol.unblockHost(); p.Kind != "" {
		t.Fatalf("%+v", p)
	}
	if got := host.machineSession(); got.Code != 403 {
		t.Errorf("the machine is let in: %d %s", got.Code, got.Body)
	}
}

// TestRevocationWinsOverUnblock (I8): a host that is revoked anew while somebody lifts the first revocation stays revoked.
func TestRevocationWinsOverUnblock(t *testing.T) {
	w, _, _, sam, carol := revokers(t)
	sam.revokeHost(200)
	came := false
	w.log.on(func(events []audit.Event) error {
		if len(events) == 1 && events[0].Kind == audit.KindHostUnblock && events[0].Outcome == audit.Success && !came {
			came = true
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.BlockHost(ctx, tx, state.HostBlock{Host: "web-1", Index: 1 << 40, Issuer: issuer, Subject: "dave", Reason: "again", At: time.Unix(1, 0)})
			})
		}
		return nil
	})
	if p := carol.unblockHost(); !came || p.Kind != api.KindConflict {
		t.Errorf("came %v: %+v", came, p)
	}
}

// TestRevokeHostsThatAreNone: who may not revoke learns nothing of which hosts there are.
func TestRevokeHostsThatAreNone(t *testing.T) {
	w, _, _, sam, _ := revokers(t)
	ask := func(p caller, id string) api.Problem {
		return problemOf(t, p.do("POST", api.RouteRevoke, api.RevokeRequest{Subject: api.SubjectHost, ID: id, Reason: "x"}))
	}
	if p := ask(sam, "web-9"); p.Kind != api.KindNotFound {
		t.Errorf("%+v", p)
	}
	plain := newWorld(t)
	bob := plain.login()
	known, unknown := ask(bob, "web-1"), ask(bob, "web-9")
	if known.Kind != api.KindDenied || unknown.Kind != api.KindDenied {
		t.Errorf("%+v and %+v", known, unknown)
	}
	if p := problemOf(t, bob.do("POST", api.RouteUnblock, api.UnblockRequest{Subject: api.SubjectHost, ID: "web-9"})); p.Kind != api.KindDenied {
		t.Errorf("%+v", p)
	}
	if p := problemOf(t, bob.do("POST", api.RouteUnblock, api.UnblockRequest{Subject: "planet", ID: "x"})); p.Kind != api.KindInvalid {
		t.Errorf("%+v", p)
	}
	if w.fed() != (state.Revocation{}) || plain.fed() != (state.Revocation{}) {
		t.Error("something was revoked")
	}
}
