//go:build linux

package attack

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"sega/audit"
	"sega/broker"
	"sega/broker/api"
	"sega/idp"
	"sega/keychain/secret"
)

// withIssuer makes the broker an OIDC issuer, and lets logins take its algorithm.
func withIssuer(w *world, c *broker.Config) {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	if c.WebIdentity, err = broker.NewIssuer(c.Origin, []crypto.Signer{key}); err != nil {
		w.t.Fatal(err)
	}
	if c.Verifier, err = idp.NewVerifier(w.idp, idp.VerifierConfig{ClientID: clientID, Algorithms: []string{"RS256", "ES256"}, Now: w.clock.now}); err != nil {
		w.t.Fatal(err)
	}
}

// TestIssuerTokensOpenNothing shows tokens that the broker itself has signed, as an issuer for AWS, wherever
// sega takes a token. They say all that a right one would say.
func TestIssuerTokensOpenNothing(t *testing.T) {
	w := newWorld(t, withIssuer)
	token := func(w *world, f fresh, iss string) string {
		raw, err := w.config.WebIdentity.Sign(with(f.claims, map[string]any{"iss": iss}))
		if err != nil {
			w.t.Fatal(err)
		}
		return string(raw.Reveal())
	}
	for name, iss := range map[string]string{"under its own name": w.config.WebIdentity.URL(), "under the identity provider's": w.provider.Issuer()} {
		t.Run("login "+name, func(t *testing.T) {
			w := w.at(t)
			f := w.fresh("alice@example.com")
			if e := w.attack(f.shot(token(w, f, iss)), api.KindUnauthenticated, "user.login", audit.Denied); e.Actor.Sub != "" {
				t.Errorf("actor %+v", e.Actor)
			}
			w.noSessions()
		})
	}
	alice := w.login("alice")
	f := w.fresh("alice@example.com")
	raw := token(w, f, w.provider.Issuer())
	w.attack(alice.post(api.RouteRenew, api.RenewRequest{IDToken: secret.FromString(raw)}), api.KindUnauthenticated, "session.renew", audit.Denied)
	for name, s := range map[string]shot{
		"a person's session":  get(api.RouteSession, alice.key, raw),
		"a machine's session": post(api.RouteHop, alice.key, raw, api.HopRequest{}),
		"a proof":             {method: "GET", path: api.RouteSession, key: alice.key, token: alice.token, proofs: []string{raw}},
	} {
		t.Run(name, func(t *testing.T) {
			w.at(t).attack(s, api.KindUnauthenticated, "request.refuse", audit.Denied)
		})
	}
	w.refused(w.send(post(api.RouteEnroll, newHolder(t), "", api.EnrollRequest{Token: secret.FromString(raw), Name: bastionName, Kind: api.MachineBastion})), api.KindDenied)
	// The world is not such that it refuses everybody.
	w.admitted(f.key, w.send(w.good(f)))
}
