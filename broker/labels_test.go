package broker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
)

const vaultPolicy = replayPolicy + `
@id("indexes") permit (principal is Machine, action == Action::"index", resource is Recording);
@id("vault") forbid (principal, action in [Action::"replay", Action::"index"], resource)
when { resource.hasTag("env") && resource.getTag("env") == "vault" };
`

// TestLabelsOfThenAndNow: what a host's labels forbade when the session was opened stays forbidden when the
// host leaves the inventory or gets others, and what they forbid now is forbidden for what was before.
func TestLabelsOfThenAndNow(t *testing.T) {
	vault, dev, none := map[string]string{"env": "vault"}, map[string]string{"env": "dev"}, map[string]string{}
	for name, c := range map[string]struct {
		then map[string]string
		now  []Host
		ok   bool
	}{
		"protected":                {vault, []Host{{Name: "vault-1", Labels: vault}}, false},
		"host is gone":             {vault, nil, false},
		"host was renamed":         {vault, []Host{{Name: "vault-2", Labels: vault}}, false},
		"label was taken":          {vault, []Host{{Name: "vault-1"}}, false},
		"label was changed":        {vault, []Host{{Name: "vault-1", Labels: dev}}, false},
		"protected since":          {dev, []Host{{Name: "vault-1", Labels: vault}}, false},
		"protected since, bare":    {none, []Host{{Name: "vault-1", Labels: vault}}, false},
		"never protected":          {dev, []Host{{Name: "vault-1", Labels: dev}}, true},
		"never protected, gone":    {dev, nil, true},
		"never protected, bare":    {none, nil, true},
		"never protected, since":   {none, []Host{{Name: "vault-1", Labels: dev}}, true},
		"labels are not known":     {nil, []Host{{Name: "vault-1", Labels: dev}}, false},
		"nor is the host any more": {nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			w, shelf, carol := reviewed(t)
			w.setPolicy(vaultPolicy)
			w.s.Hosts = c.now
			const id = "ssh_vaultvault12"
			w.write(func(ctx context.Context, tx store.Tx) error {
				v := state.SSHSession{ID: id, Bearer: state.Bearer{LoginID: "ses_1", Issuer: issuer, Subject: "alice"}, Host: "vault-1", Labels: c.then, Started: w.clock.now(), NotAfter: w.clock.now().Add(time.Hour)}
				return state.AddSSH(ctx, tx, v)
			})
			shelf.add(id, "ciphertext")
			x := w.login(func(s *state.Session) {
				s.Kind, s.Issuer, s.Subject, s.Email = state.KindMachine, machineIssuer, "mch_1", "indexer-1"
			})
			for what, rec := range map[string]interface{ Result() *http.Response }{
				"play":   carol.do("GET", "/v1/recordings/"+id+"?purpose=play&reason=x", nil),
				"export": carol.do("GET", "/v1/recordings/"+id+"?purpose=export&reason=x", nil),
				"tail":   carol.do("GET", "/v1/recordings/"+id+"?purpose=tail&reason=x", nil),
				"follow": carol.do("GET", "/v1/recordings/"+id+"?purpose=tail&reason=x&follow=1", nil),
				"index":  x.do("GET", "/v1/indexer/recordings/"+id, nil),
			} {
				if code := rec.Result().StatusCode; (code == 200) != c.ok || !c.ok && code != 403 {
					t.Errorf("%s: %d", what, code)
				}
			}
			as := &call{source: netip.MustParseAddr("192.0.2.1"), request: carol.request("GET", "/", nil), session: carol.session}
			kept, err := w.s.replayable(t.Context(), as, []string{id})
			if (len(kept) == 1) != c.ok || err != nil {
				t.Errorf("found on screens: %+v, %v", kept, err)
			}
		})
	}
}

// TestUnknownRecording: a recording of which the broker has no record is nobody's to see, and the answer says
// why. Its verification needs no record.
func TestUnknownRecording(t *testing.T) {
	w, shelf, carol := reviewed(t)
	shelf.add("ssh_restored", "ciphertext")
	for _, purpose := range []string{"play", "export", "tail", "tail&follow=1"} {
		rec := carol.do("GET", "/v1/recordings/ssh_restored?reason=x&purpose="+purpose, nil)
		if p := problemOf(t, rec); p.Kind != api.KindDenied || !strings.Contains(p.Detail, "does not know whose session") || strings.Contains(rec.Body.String(), "ciphertext") {
			t.Errorf("%s: %d %s", purpose, rec.Code, rec.Body)
		}
		if events := w.events(); events[len(events)-1].Kind != audit.KindRecordingRead || events[len(events)-1].Outcome != audit.Denied {
			t.Errorf("%s: the event is %+v", purpose, events[len(events)-1])
		}
	}
	if rec := carol.do("GET", "/v1/recordings/ssh_restored?purpose=verify", nil); rec.Code != 200 || rec.Body.String() != "ciphertext" {
		t.Errorf("verify: %d %s", rec.Code, rec.Body)
	}
	if p := problemOf(t, carol.do("GET", "/v1/recordings/ssh_never?reason=x&purpose=tail&follow=1", nil)); p.Kind != api.KindNotFound {
		t.Errorf("one that never was: %+v", p)
	}
}

// TestBothDecisionsAreNamed: what determined either decision stands in the event.
func TestBothDecisionsAreNamed(t *testing.T) {
	w, shelf, carol := reviewed(t)
	w.setPolicy(vaultPolicy + `@id("dev") permit (principal in Group::"reviewers", action == Action::"replay", resource) when { resource.hasTag("env") && resource.getTag("env") == "dev" };`)
	shelf.add(watched, "x")
	last := func(hosts ...Host) string {
		w.s.Hosts = hosts
		carol.do("GET", recordingPath("purpose=play&reason=x"), nil)
		e := w.events()[len(w.events())-1]
		slices.Sort(e.PolicyIDs)
		return fmt.Sprint(e.Outcome, " ", e.PolicyIDs)
	}
	if got := last(); got != "success [review]" {
		t.Error(got)
	}
	if got := last(Host{Name: "web-1", Labels: map[string]string{"env": "dev"}}); got != "success [dev review]" {
		t.Error(got)
	}
	if got := last(Host{Name: "web-1", Labels: map[string]string{"env": "vault"}}); got != "denied [vault]" {
		t.Error(got)
	}
}

// TestOlderSessionsAreLabelled: a broker that starts on a database of before takes the hosts' labels once.
func TestOlderSessionsAreLabelled(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Hosts[0].Labels = map[string]string{"env": "prod"} })
	add := func(id, host string) {
		w.write(func(ctx context.Context, tx store.Tx) error {
			return errors.Join(state.AddSSH(ctx, tx, state.SSHSession{ID: id, Host: host}),
				func() error {
					_, err := tx.ExecContext(ctx, `UPDATE ssh_labels SET labels='' WHERE id=?`, id)
					return err
				}())
		})
	}
	add("ssh_here", "web-1")
	add("ssh_gone", "gone-1")
	w.restart()
	of := func(id string) string {
		v, err := w.s.recordingOf(t.Context(), id)
		return fmt.Sprint(v.known, v.then.Labels, err)
	}
	if got := of("ssh_here"); got != "true map[env:prod] <nil>" {
		t.Error(got)
	}
	if got := of("ssh_gone"); got != "false map[] <nil>" {
		t.Error(got)
	}
}

// TestHopKeepsLabels: what policy will be asked of a recording is fixed when the session is permitted.
func TestHopKeepsLabels(t *testing.T) {
	w := openWorld(t, onSQLite)
	alice, bastion := w.signIn(), w.machine()
	cert := alice.certificate()
	w.s.Hosts[0].Labels = nil
	bare := bastion.hop(cert, 200)
	w.s.Hosts[0].Labels = map[string]string{"env": "vault"}
	vault := bastion.hop(cert, 200)
	w.s.Hosts = nil
	for id, want := range map[string]string{bare.SessionID: "true map[]", vault.SessionID: "true map[env:vault]"} {
		of, err := w.s.recordingOf(t.Context(), id)
		if got := fmt.Sprint(of.known, " ", of.then.Labels); err != nil || got != want || of.now != nil {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
}
