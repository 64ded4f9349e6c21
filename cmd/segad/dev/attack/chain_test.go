//go:build linux

package attack

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/broker/api"
	"sega/cmd/segad/dev/sts"
)

// chain asks for dev-audit by way of dev-admin, which alone it trusts.
func (p *person) chain(change ...func(*api.CredentialsRequest)) shot {
	r := api.CredentialsRequest{Role: "dev-admin", Chain: []string{"dev-audit"}, Seconds: 4 * 3600}
	for _, f := range change {
		f(&r)
	}
	return p.post(api.RouteCredentials, r)
}

// TestChain goes through a strict STS: both sessions name the person, carry the tags that lead back to
// the login, and hand none on; the person gets the last one's credentials for an hour, and nothing of
// the first one's is out there.
func TestChain(t *testing.T) {
	w := newWorld(t)
	alice := w.login("alice")
	got := into[api.Credentials](t, w.send(alice.chain(func(r *api.CredentialsRequest) { r.ReadOnly = true })))
	if got.Role != "dev-audit" || got.AssumedRoleARN != "arn:aws:sts::111111111111:assumed-role/dev-audit/alice@example.com" {
		t.Errorf("got %s as %s", got.Role, got.AssumedRoleARN)
	}
	if left := time.Until(got.Expiration); left > time.Hour+time.Minute || !strings.Contains(strings.Join(got.Notices, "\n"), "from 4h to 1h") {
		t.Errorf("the credentials live for %v; notices %q", left, got.Notices)
	}
	calls := w.sts.Calls()
	if len(calls) != 2 {
		t.Fatalf("%d calls", len(calls))
	}
	for _, c := range calls {
		if c.SourceIdentity != "alice@example.com" || c.SessionName != "alice@example.com" || c.Tags["sega_login"] != alice.LoginID || !strings.HasPrefix(c.Tags["sega_request"], "act_") || c.TransitiveTagKeys != nil {
			t.Errorf("call %+v", c)
		}
	}
	type part struct {
		RoleARN, Caller, Key, ExternalID string
		Duration                         time.Duration
		ARNs                             []string
	}
	of := func(c sts.Call) part {
		return part{c.RoleARN, c.Caller, c.AccessKeyID, c.ExternalID, c.Duration, c.PolicyARNs}
	}
	want := []part{{adminARN, brokerARN, "ASIAATTACK0000000001", "", 15 * time.Minute, nil},
		{auditARN, "arn:aws:sts::111111111111:assumed-role/dev-admin/alice@example.com", calls[0].Issued, "ext-audit", time.Hour, []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}}}
	if diff := cmp.Diff(want, []part{of(calls[0]), of(calls[1])}); diff != "" {
		t.Errorf("calls: -want +got\n%s", diff)
	}
	if n := w.count(`SELECT count(*) FROM grants`); n != 1 || w.count(`SELECT count(*) FROM grants WHERE access_key_id=?`, got.AccessKeyID) != 1 {
		t.Errorf("%d grants", n)
	}
}

// TestChainNeedsEveryRole: the way does not open what policy keeps closed, and to be let into the last
// role is not to be let into the first.
func TestChainNeedsEveryRole(t *testing.T) {
	w := newWorld(t)
	sam, alice := w.login("sam"), w.login("alice")
	before := w.size()
	w.refused(w.send(sam.chain()), api.KindDenied)
	got := w.since(before)
	if kinds(got) != "[aws.assume denied, aws.assume denied]" || got[0].Resource != "role/dev-audit" || got[1].Resource != "role/dev-admin" || got[0].Action != got[1].Action {
		t.Errorf("events %s", kinds(got))
	}
	for name, change := range map[string]func(*api.CredentialsRequest){
		"a role that is none":      func(r *api.CredentialsRequest) { r.Chain = []string{"dev-audit", "nobody's"} },
		"a role by its ARN":        func(r *api.CredentialsRequest) { r.Chain = []string{auditARN} },
		"escapes in a role's name": func(r *api.CredentialsRequest) { r.Chain = []string{"x\x1b[2J\n"} },
	} {
		t.Run(name, func(t *testing.T) { w.at(t).attack(alice.chain(change), api.KindDenied, "aws.assume", audit.Denied) })
	}
	// The trust policy names dev-admin alone, so the direct way ends at AWS.
	before = w.size()
	w.refused(w.send(alice.post(api.RouteCredentials, api.CredentialsRequest{Role: "dev-audit"})), api.KindUpstream)
	if got := kinds(w.since(before)); got != "[aws.assume intent, aws.assume failure]" {
		t.Errorf("events %s", got)
	}
	if n := w.count(`SELECT count(*) FROM grants`); n != 0 {
		t.Errorf("%d grants", n)
	}
}

// TestChainCutOff: a revocation that comes while AWS makes the first session keeps the second from
// being made; one that comes during the second discards it.
func TestChainCutOff(t *testing.T) {
	for calls := 1; calls <= 2; calls++ {
		w := newWorld(t)
		alice, sam := w.login("alice"), w.login("sam")
		n := 0
		w.minter.set(func() {
			if n++; n == calls {
				w.revoked(sam.revoke("user", "alice@example.com"))
			}
		})
		before := w.size()
		w.refused(w.send(alice.chain()), api.KindRevoked)
		if got := kinds(w.since(before)); got != "[aws.assume intent, user.revoke success, aws.assume revoked]" {
			t.Errorf("events %s", got)
		}
		if got := len(w.sts.Calls()); got != calls {
			t.Errorf("AWS was asked %d times, want %d", got, calls)
		}
		if n := w.count(`SELECT count(*) FROM grants`); n != 0 {
			t.Errorf("%d grants", n)
		}
	}
}

// TestReuseOfAChainAsItsLastRole: what came through dev-admin is decided on by dev-admin too, whatever
// the asker says of it.
func TestReuseOfAChainAsItsLastRole(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.login("alice"), w.login("bob")
	had := into[api.Credentials](t, w.send(alice.chain()))
	into[api.Reuse](t, w.send(alice.post(api.RouteReuse, api.ReuseRequest{Role: "dev-audit", AccessKeyID: had.AccessKeyID})))
	w.attack(alice.post(api.RouteReuse, api.ReuseRequest{Role: "dev-admin", AccessKeyID: had.AccessKeyID}), api.KindNotFound, "aws.reuse", audit.Denied)
	w.attack(bob.post(api.RouteReuse, api.ReuseRequest{Role: "dev-audit", AccessKeyID: had.AccessKeyID}), api.KindNotFound, "aws.reuse", audit.Denied)
	// The key of the session on the way stands in the log, and is nobody's to use.
	w.attack(alice.post(api.RouteReuse, api.ReuseRequest{Role: "dev-admin", AccessKeyID: w.sts.Calls()[0].Issued}), api.KindNotFound, "aws.reuse", audit.Denied)
}
