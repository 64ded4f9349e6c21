package broker

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/state"
	"sega/sshca"
)

// bundleOf is what machines are told of a CA.
func bundleOf(t *api.Trust, ca string) []string {
	return map[string][]string{caAccess: t.AccessCAs, caHop: t.HopCAs, caFront: t.FrontCAs, caHost: t.HostCAs}[ca]
}

// look has the broker look at the database, as it does every second.
func (w *world) look() {
	w.t.Helper()
	if err := w.s.RefreshCAs(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// TestForgedKeysAreNotTrusted: whoever can write to the database has no machine trust a key of his own, at a broker that runs and at one that
// starts; it is said, and nothing is signed by it.
func TestForgedKeysAreNotTrusted(t *testing.T) {
	for _, phase := range []string{state.CABeside, state.CANext, state.CAOld, state.CACurrent} {
		for _, ca := range caNames {
			t.Run(phase+" "+ca, func(t *testing.T) {
				r := newRotating(t, onSQLite)
				good, forged := bundleOf(r.s.trust(), ca), sshca.MarshalLine(signer(t).PublicKey())
				r.write(func(ctx context.Context, tx store.Tx) error {
					if phase == state.CACurrent {
						good = []string{}
						_, err := tx.ExecContext(ctx, `UPDATE ca_keys SET key=? WHERE ca=? AND phase='current'`, forged, ca)
						return err
					}
					return state.AddCAKey(ctx, tx, state.CAKey{CA: ca, Key: forged, Phase: phase, Version: 1, Published: r.clock.now()})
				})
				r.look()
				r.distrusts(ca, phase, forged, good)
				if got := r.logs.String(); strings.Count(got, "nobody is told to trust it") != 1 {
					t.Errorf("it is not said, or not once:\n%s", got)
				}
				if phase == state.CANext {
					r.refused(ca, "rotate", api.CAStep{Force: true, ByHand: true}, "not among those of this broker")
				}
				if phase == state.CABeside {
					forged = "" // the start drops it
				}
				r.restart()
				r.distrusts(ca, phase, forged, good)
			})
		}
	}
}

// distrusts checks what is told, shown and counted of a key that stands in the database alone.
func (r *rotating) distrusts(ca, phase, forged string, good []string) {
	r.t.Helper()
	if diff := cmp.Diff(good, bundleOf(r.s.trust(), ca)); diff != "" {
		r.t.Errorf("bundle -want +got\n%s", diff)
	}
	if signer := r.s.cas.now.Load().signing[ca]; (signer == nil) != (phase == state.CACurrent) {
		r.t.Errorf("signs: %v", signer)
	}
	want := "sega_ca_foreign_keys 1\n"
	if forged == "" {
		want = "sega_ca_foreign_keys 0\n"
	}
	if got := r.serve(httptest.NewRequest("GET", api.RouteMetrics, nil)).Body.String(); !strings.Contains(got, want) {
		r.t.Errorf("the metrics have no %s", want)
	}
	view, err := r.s.viewCAs(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, v := range view.CAs {
		for _, k := range v.Keys {
			if k.Foreign != (k.Line == forged) || k.Kept {
				r.t.Errorf("%s %s: foreign %v, kept %v", v.Name, k.Phase, k.Foreign, k.Kept)
			}
		}
	}
}

// TestMovedKeysAreNotTrusted: a key of one CA does not become another's by what the database says.
func TestMovedKeysAreNotTrusted(t *testing.T) {
	r := newRotating(t, onSQLite)
	r.write(func(ctx context.Context, tx store.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE ca_keys SET ca='hop', phase='old' WHERE ca='access'`)
		return err
	})
	r.look()
	if got := r.s.trust(); len(got.HopCAs) != 1 || len(got.AccessCAs) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestOldKeyOfAnotherPlace: an old key is trusted for as long as the configuration names it, as a place or by its public half, and is told
// anew when it comes to that within one version.
func TestOldKeyOfAnotherPlace(t *testing.T) {
	r := newRotating(t, onSQLite)
	old, next := r.config.CAs.Access[0], signer(t)
	r.add(caAccess, next)
	r.must(caAccess, "publish", api.CAStep{})
	r.must(caAccess, "rotate", api.CAStep{Force: true})
	both := []string{sshca.MarshalLine(next.PublicKey()), sshca.MarshalLine(old.PublicKey())}
	r.lose(next)
	before := r.s.trust()
	if diff := cmp.Diff(both[:1], before.AccessCAs); diff != "" {
		t.Errorf("without the old key: -want +got\n%s", diff)
	}
	r.mu.Lock()
	r.keys.MoreAccess = []ssh.PublicKey{old.PublicKey()}
	r.mu.Unlock()
	r.look() // it has just read its configuration
	if r.s.trust() != before {
		t.Error("the configuration is read at each look")
	}
	r.s.cas.rereadAt = r.s.cas.rereadAt.Add(-caRereadRest) // much later
	wake := r.s.hub.waker()
	r.look()
	if got := r.s.trust(); got.Version != before.Version || !slices.Equal(got.AccessCAs, both) {
		t.Errorf("with its public half: %+v", got)
	}
	select {
	case <-wake:
	default:
		t.Error("the feeds were not woken")
	}
}
