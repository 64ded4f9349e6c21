package broker

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// phases are the keys of the access CA in the records, by fingerprint.
func (w *world) phases() map[string]string {
	w.t.Helper()
	phases := map[string]string{}
	err := w.db.Read(w.t.Context(), func(ctx context.Context, q store.Querier) error {
		keys, err := state.CAKeys(ctx, q)
		for _, k := range keys {
			if k.CA == caAccess {
				phases[fingerprint(k.Key)] = k.Phase
			}
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return phases
}

// lose restarts the broker with a configuration that names other keys of the access CA than the one that signs.
func (r *rotating) lose(keys ...ssh.Signer) {
	r.t.Helper()
	r.mu.Lock()
	r.keys.Access = keys
	r.config.CAs = r.keys
	r.mu.Unlock()
	r.restart()
	r.bastion.w = r.world
}

func (w *world) readyz() *httptest.ResponseRecorder {
	return w.serve(httptest.NewRequest("GET", api.RouteReady, nil))
}

// TestAdopt: where the key that signs is lost a broker starts, issues nothing, and signs again with the key that an operator has
// configured. What the lost one has signed is trusted by nobody.
func TestAdopt(t *testing.T) {
	for name, phase := range map[string]string{"a new key": "", "one that was published": state.CANext, "one that has signed before": state.CAOld} {
		t.Run(name, func(t *testing.T) {
			r := newRotating(t, onSQLite)
			lost, next := r.config.CAs.Access[0], signer(t)
			line := sshca.MarshalLine(next.PublicKey())
			if phase != "" {
				r.write(func(ctx context.Context, tx store.Tx) error {
					return state.AddCAKey(ctx, tx, state.CAKey{CA: caAccess, Key: line, Phase: phase, Version: 1, Published: r.clock.now(), Replaced: r.clock.now(), Until: r.clock.now()})
				})
			}
			r.lose(next)
			if rec := r.readyz(); rec.Code != 503 || !strings.Contains(rec.Body.String(), "access CA is not among those") {
				t.Errorf("readyz: %d %s", rec.Code, rec.Body)
			}
			alice := r.login()
			if rec := alice.do("POST", api.RouteCertificate, api.CertificateRequest{PublicKey: sshca.MarshalLine(signer(t).PublicKey())}); problemOf(t, rec).Kind != api.KindUnavailable {
				t.Errorf("a certificate without the key that signs: %d %s", rec.Code, rec.Body)
			}
			before := r.s.trust().Version
			r.must(caAccess, "adopt", api.CAStep{Reason: "restored", Ticket: "SEC-1"})
			if got := r.signedBy(alice); got != line {
				t.Error("another key signs than the one that was adopted")
			}
			if got := r.s.trust(); got.Version <= before || !slices.Equal(got.AccessCAs, []string{line}) {
				t.Errorf("trust: %+v", got)
			}
			want := map[string]string{ssh.FingerprintSHA256(lost.PublicKey()): state.CARetired, ssh.FingerprintSHA256(next.PublicKey()): state.CACurrent}
			if diff := cmp.Diff(want, r.phases()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if r.readyz().Code != 200 || !slices.ContainsFunc(r.krl().list.Keys, func(k ssh.PublicKey) bool { return sshca.MarshalLine(k) == sshca.MarshalLine(lost.PublicKey()) }) {
				t.Error("not ready, or the lost key is not on the revocation list")
			}
			if i := slices.IndexFunc(r.events(), func(e audit.Event) bool { return e.Kind == audit.KindCAAdopt }); i < 0 || r.events()[i].Reason != "restored" {
				t.Errorf("no event: %v", r.trail())
			}
			r.refused(caAccess, "adopt", api.CAStep{}, "among those of this broker")
			r.lose(lost) // it turns up again
			r.refused(caAccess, "adopt", api.CAStep{Force: true}, "names no new key")
		})
	}
}

// TestAdoptRefused: nothing is adopted that no operator has chosen, nor while the key that signs may be there.
func TestAdoptRefused(t *testing.T) {
	r := newRotating(t, onSQLite)
	first, second, third := r.config.CAs.Access[0], signer(t), signer(t)
	was := r.phases()
	r.refused(caAccess, "adopt", api.CAStep{Force: true}, "among those of this broker")

	r.keys.Unopened = []string{caAccess}
	r.lose(second)
	r.refused(caAccess, "adopt", api.CAStep{Force: true}, "does not open")
	r.keys.Unopened = nil
	r.lose(second, third)
	r.refused(caAccess, "adopt", api.CAStep{}, "several new keys")
	r.refused(caAccess, "adopt", api.CAStep{Key: ssh.FingerprintSHA256(first.PublicKey())}, "names no new key")

	r.write(func(ctx context.Context, tx store.Tx) error {
		return state.SawTrust(ctx, tx, state.Seen{Machine: "node/node-2", Name: "node-2", Kind: kindBroker, Version: 1, At: r.clock.now()})
	})
	asked := api.CAStep{Key: ssh.FingerprintSHA256(third.PublicKey())}
	r.refused(caAccess, "adopt", asked, "broker node-2 runs")
	if diff := cmp.Diff(was, r.phases()); diff != "" {
		t.Errorf("a refused adoption has changed the keys: -before +after\n%s", diff)
	}
	asked.Force = true
	r.must(caAccess, "adopt", asked)
}

// TestAdoptKeepsWhatIsTrustedBeside: a lost key stays trusted where the operators have written that it is, and signs no more.
func TestAdoptKeepsWhatIsTrustedBeside(t *testing.T) {
	r := newRotating(t, onSQLite)
	lost, next := r.config.CAs.Access[0], signer(t)
	r.keys.MoreAccess = []ssh.PublicKey{lost.PublicKey()}
	r.lose(next)
	r.must(caAccess, "adopt", api.CAStep{})
	want := []string{sshca.MarshalLine(next.PublicKey()), sshca.MarshalLine(lost.PublicKey())}
	if diff := cmp.Diff(want, r.s.trust().AccessCAs); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	r.restart()
	if diff := cmp.Diff(want, r.s.trust().AccessCAs); diff != "" {
		t.Errorf("after a restart: -want +got\n%s", diff)
	}
}

// TestShutKeyStaysTrusted: a broker that starts while the HSM of the key that signs is away issues nothing, and has nobody distrust
// what that key has signed: its configuration names the key, and it is known which one that is.
func TestShutKeyStaysTrusted(t *testing.T) {
	r := newRotating(t, onSQLite)
	away, other := r.config.CAs.Access[0], signer(t)
	before := r.s.trust()
	r.keys.Unopened, r.keys.Shut = []string{caAccess}, []ShutKey{{CA: caAccess, Key: away.PublicKey()}}
	r.lose(other)
	if r.readyz().Code != 503 {
		t.Error("ready without the key that signs")
	}
	if diff := cmp.Diff(before.AccessCAs, r.s.trust().AccessCAs); diff != "" {
		t.Errorf("-before +while the key is away\n%s", diff)
	}
	r.keys.Shut = []ShutKey{{CA: caHop, Key: away.PublicKey()}}
	r.lose(other)
	if got := r.s.trust().AccessCAs; len(got) > 0 {
		t.Errorf("trusted for a key of another CA: %v", got)
	}
}

// TestWithdrawRefusedBeside: a key that the configuration has trusted beside is withdrawn there first.
func TestWithdrawRefusedBeside(t *testing.T) {
	r := newRotating(t, onSQLite)
	next := signer(t)
	r.add(caAccess, next)
	r.must(caAccess, "publish", api.CAStep{})
	r.keys.MoreAccess = []ssh.PublicKey{next.PublicKey()}
	r.config.CAs = r.keys
	r.restart()
	r.bastion.w = r.world
	r.refused(caAccess, "withdraw", api.CAStep{}, "more_access")
}
