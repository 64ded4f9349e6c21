//go:build linux

package attack

import (
	"context"
	"encoding/json"
	"net/url"
	"sync"
	"testing"
	"time"

	"sega/audit"
	"sega/broker"
	"sega/broker/api"
	"sega/cmd/segad/dev/browser"
	"sega/cmd/segad/dev/provider"
	"sega/idp"
	"sega/keychain/secret"
)

// TestBadIDTokens shows tokens that no login may open a session with (R1).
func TestBadIDTokens(t *testing.T) {
	w := newWorld(t)
	before := func(d time.Duration) int64 { return w.clock.now().Add(-d).Unix() }
	mint := func(claims, header map[string]any, how provider.MintOptions) func(fresh) string {
		return func(f fresh) string { return w.provider.Mint(with(f.claims, claims), header, how) }
	}
	for name, tc := range map[string]struct {
		token func(fresh) string
		kind  api.Kind
	}{
		"another audience":           {mint(map[string]any{"aud": "another-client"}, nil, provider.MintOptions{}), api.KindUnauthenticated},
		"two audiences, no azp":      {mint(map[string]any{"aud": []string{clientID, "another-client"}}, nil, provider.MintOptions{}), api.KindUnauthenticated},
		"another issuer":             {mint(map[string]any{"iss": "https://idp.evil.example"}, nil, provider.MintOptions{}), api.KindUnauthenticated},
		"expired":                    {mint(map[string]any{"exp": before(2 * time.Minute)}, nil, provider.MintOptions{}), api.KindUnauthenticated},
		"issued too long ago":        {mint(map[string]any{"iat": before(3 * time.Minute)}, nil, provider.MintOptions{}), api.KindUnauthenticated},
		"from the future":            {mint(map[string]any{"iat": before(-5 * time.Minute)}, nil, provider.MintOptions{}), api.KindUnauthenticated},
		"alg none":                   {mint(nil, nil, provider.MintOptions{Algorithm: "none"}), api.KindUnauthenticated},
		"HS256 under the public key": {mint(nil, nil, provider.MintOptions{Algorithm: "HS256"}), api.KindUnauthenticated},
		"unknown kid":                {mint(nil, map[string]any{"kid": "nobody"}, provider.MintOptions{}), api.KindUnauthenticated},
		"foreign key":                {mint(nil, nil, provider.MintOptions{Key: provider.KeyForeign}), api.KindUnauthenticated},
		"no nonce":                   {mint(map[string]any{"nonce": nil}, nil, provider.MintOptions{}), api.KindUnauthenticated},
		"empty nonce":                {mint(map[string]any{"nonce": ""}, nil, provider.MintOptions{}), api.KindUnauthenticated},
		"no subject":                 {mint(map[string]any{"sub": nil}, nil, provider.MintOptions{}), api.KindUnauthenticated},
		"not a token":                {func(fresh) string { return "garbage" }, api.KindUnauthenticated},
		"no MFA in amr":              {mint(map[string]any{"amr": []string{"pwd"}}, nil, provider.MintOptions{}), api.KindMFA},
		"amr absent":                 {mint(map[string]any{"amr": nil}, nil, provider.MintOptions{}), api.KindMFA},
		"amr of a string":            {mint(map[string]any{"amr": "mfa"}, nil, provider.MintOptions{}), api.KindUnauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.at(t)
			f := w.fresh("alice@example.com")
			e := w.attack(f.shot(tc.token(f)), tc.kind, "user.login", audit.Denied)
			if wantWho := tc.kind == api.KindMFA; (e.Actor.Sub == "00ualice") != wantWho {
				t.Errorf("actor %+v: a token names somebody if and only if it verifies", e.Actor)
			}
			w.noSessions()
		})
	}
}

// at returns the world with another test to report to.
func (w *world) at(t testing.TB) *world {
	c := *w
	c.t = t
	return &c
}

// noSessions checks that nobody is logged in.
func (w *world) noSessions() {
	w.t.Helper()
	if n := w.count(`SELECT count(*) FROM sessions`); n != 0 {
		w.t.Errorf("%d sessions, want none", n)
	}
}

// TestTokenOfAnotherLogin shows good tokens that were made for another key or another broker.
func TestTokenOfAnotherLogin(t *testing.T) {
	w := newWorld(t)
	f := w.fresh("alice@example.com")
	thief := newHolder(t)
	stolen := w.good(f)
	stolen.key = thief
	w.attack(stolen, api.KindUnauthenticated, "user.login", audit.Denied)

	f = w.fresh("alice@example.com")
	f.claims["nonce"] = idp.Nonce(f.key.Thumbprint(), "https://sega.evil.example", f.random)
	w.attack(w.good(f), api.KindUnauthenticated, "user.login", audit.Denied)

	f = w.fresh("alice@example.com")
	token := w.provider.Mint(f.claims, nil, provider.MintOptions{})
	f.random = append([]byte{f.random[0] ^ 1}, f.random[1:]...)
	w.attack(f.shot(token), api.KindUnauthenticated, "user.login", audit.Denied)
	w.noSessions()
}

// TestIDTokenIsTakenOnce replays a token, one after the other and at the same time.
func TestIDTokenIsTakenOnce(t *testing.T) {
	w := newWorld(t)
	f := w.fresh("alice@example.com")
	s := w.good(f)
	w.admitted(f.key, w.send(s))
	e := w.attack(s, api.KindUnauthenticated, "user.login", audit.Denied)
	if e.Actor.Sub != "00ualice" {
		t.Errorf("actor %+v", e.Actor)
	}

	before := w.size()
	f = w.fresh("bob@example.com")
	s = w.good(f)
	var got sync.Map
	var wg sync.WaitGroup
	for i := range 32 {
		r := w.request(s)
		wg.Go(func() {
			resp, err := w.web.Client().Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
			got.Store(i, resp.StatusCode)
		})
	}
	wg.Wait()
	codes := map[int]int{}
	got.Range(func(_, code any) bool { codes[code.(int)]++; return true })
	if codes[200] != 1 || codes[401] != 31 {
		t.Errorf("answers by status: %v, want one 200 and 31 times 401", codes)
	}
	outcomes := map[audit.Outcome]int{}
	for _, e := range w.since(before) {
		if e.Kind == "user.login" {
			outcomes[e.Outcome]++
		}
	}
	if outcomes[audit.Success] != 1 || outcomes[audit.Denied] != 31 {
		t.Errorf("events by outcome: %v", outcomes)
	}
	if n := w.count(`SELECT count(*) FROM sessions WHERE sub='00ubob'`); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// accessToken gets an access token of the provider for somebody.
func (w *world) accessToken(email string) secret.Secret {
	w.t.Helper()
	d, err := w.idp.DeviceStart(w.t.Context(), clientID, []string{"openid", "groups"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.approve(d.VerificationURIComplete, email)
	w.clock.add(d.Interval)
	tokens, err := w.idp.DevicePoll(w.t.Context(), clientID, d)
	if err != nil {
		w.t.Fatal(err)
	}
	return tokens.AccessToken
}

// approve is somebody who approves a device in the browser.
func (w *world) approve(address, email string) {
	w.t.Helper()
	for _, u := range people {
		if u.Email != email {
			continue
		}
		b := &browser.Browser{Now: w.clock.now}
		if err := b.Visit(context.Background(), address, browser.Credentials{Email: u.Email, Password: u.Password, TOTPSecret: u.TOTPSecret}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestGroupsOfSomebodyElse joins a thin ID token of alice with an access token of sam.
func TestGroupsOfSomebodyElse(t *testing.T) {
	w := newWorld(t)
	thin := func(access secret.Secret) shot {
		f := w.fresh("alice@example.com")
		delete(f.claims, "groups")
		s := w.good(f)
		r := s.body.(api.LoginRequest)
		r.AccessToken = access
		s.body = r
		return s
	}
	w.attack(thin(w.accessToken("sam@example.com")), api.KindUnauthenticated, "user.login", audit.Denied)
	w.attack(thin(secret.FromString("no such token")), api.KindUnauthenticated, "user.login", audit.Denied)
	w.noSessions()

	s := thin(secret.Secret{})
	alice := w.admitted(s.key, w.send(s))
	if len(alice.Groups) != 0 {
		t.Errorf("groups %v from nowhere", alice.Groups)
	}
	w.attack(alice.credentials(), api.KindDenied, "aws.assume", audit.Denied)
	s = thin(w.accessToken("alice@example.com"))
	if alice = w.admitted(s.key, w.send(s)); len(alice.Groups) != 1 {
		t.Errorf("groups %v, want alice's own", alice.Groups)
	}
}

// TestDeviceHandleIsBound polls a device login under another key.
func TestDeviceHandleIsBound(t *testing.T) {
	w := newWorld(t)
	key := newHolder(t)
	start := into[api.DeviceStart](t, w.send(post(api.RouteDevice, key, "", api.Empty{})))
	w.approve(start.VerificationURIComplete, "alice@example.com")
	w.clock.add(2 * time.Second)
	poll := api.DevicePoll{Handle: start.Handle, Client: "attack"}
	w.attack(post(api.RouteDevicePoll, newHolder(t), "", poll), api.KindNotFound, "request.refuse", audit.Denied)
	w.attack(post(api.RouteDevicePoll, key, "", api.DevicePoll{Handle: "dev_unknown"}), api.KindNotFound, "request.refuse", audit.Denied)
	w.noSessions()
	alice := w.admitted(key, w.send(post(api.RouteDevicePoll, key, "", poll)))
	if alice.Method != api.MethodDevice {
		t.Errorf("method %q", alice.Method)
	}
	w.attack(post(api.RouteDevicePoll, key, "", poll), api.KindNotFound, "request.refuse", audit.Denied)
}

func TestDeviceGrantOff(t *testing.T) {
	w := newWorld(t, func(_ *world, c *broker.Config) { c.DeviceGrant = false })
	w.attack(post(api.RouteDevice, newHolder(t), "", api.Empty{}), api.KindDenied, "request.refuse", audit.Denied)
}

// TestRenewalIsOfTheSameLogin prolongs a session with tokens of others.
func TestRenewalIsOfTheSameLogin(t *testing.T) {
	w := newWorld(t)
	f := w.fresh("alice@example.com")
	alice := w.admitted(f.key, w.send(w.good(f)))
	for name, claims := range map[string]map[string]any{
		"another person":     with(w.provider.Claims("bob@example.com", ""), map[string]any{"nonce": nil, "auth_time": f.claims["auth_time"]}),
		"another login":      with(f.claims, map[string]any{"auth_time": w.clock.now().Add(-time.Hour).Unix(), "jti": "x"}),
		"another nonce":      with(f.claims, map[string]any{"nonce": "bm9uY2U"}),
		"the token of login": f.claims,
		"groups unknown":     with(f.claims, map[string]any{"groups": nil, "nonce": nil, "jti": "y"}),
		"no MFA any more":    with(f.claims, map[string]any{"amr": []string{"pwd"}, "nonce": nil}),
	} {
		t.Run(name, func(t *testing.T) {
			w := w.at(t)
			kind := api.KindUnauthenticated
			if name == "no MFA any more" {
				kind = api.KindMFA
			}
			token := w.provider.Mint(claims, nil, provider.MintOptions{})
			e := w.attack(alice.post(api.RouteRenew, api.RenewRequest{IDToken: secret.FromString(token)}), kind, "session.renew", audit.Denied)
			if e.LoginID != alice.LoginID {
				t.Errorf("login %q", e.LoginID)
			}
			alice.stillIn()
		})
	}
}

// TestUnverifiedEmail: an e-mail that anybody may have typed names nobody.
func TestUnverifiedEmail(t *testing.T) {
	w := newWorld(t)
	w.login("alice")
	f := w.fresh("bob@example.com")
	f.claims["email"], f.claims["email_verified"] = "alice@example.com", false
	bob := w.admitted(f.key, w.send(w.good(f)))
	if bob.Person.Email != "" || bob.Person.Subject != "00ubob" {
		t.Errorf("person %+v", bob.Person)
	}
	creds := into[api.Credentials](t, w.send(bob.credentials()))
	if call := w.sts.Calls()[0]; call.SourceIdentity != "00ubob" || creds.SecretAccessKey.Empty() {
		t.Errorf("AWS was told %q", call.SourceIdentity)
	}
	w.revoked(w.login("sam").revoke("user", "alice@example.com")) // is one person's address, not two
	bob.stillIn()
}

// TestStrangeLogins sends requests that are no login at all; none may be taken for one.
func TestStrangeLogins(t *testing.T) {
	w := newWorld(t)
	f := w.fresh("alice@example.com")
	good := w.good(f).body.(api.LoginRequest)
	for name, change := range map[string]func(map[string]any){
		"method device":   func(m map[string]any) { m["method"] = api.MethodDevice },
		"no method":       func(m map[string]any) { delete(m, "method") },
		"short random":    func(m map[string]any) { m["random"] = b64(f.random[:31]) },
		"no random":       func(m map[string]any) { m["random"] = "" },
		"unknown field":   func(m map[string]any) { m["groups"] = []string{"security"} },
		"secret as a map": func(m map[string]any) { m["id_token"] = map[string]any{"a": 1} },
	} {
		t.Run(name, func(t *testing.T) {
			w := w.at(t)
			raw := good.Wire().(map[string]any)
			body := with(raw, nil)
			change(body)
			w.refused(w.send(post(api.RouteLogin, f.key, "", body)), api.KindInvalid)
			w.noSessions()
		})
	}
	form := url.Values{"id_token": {string(good.IDToken.Reveal())}}.Encode()
	w.refused(w.send(post(api.RouteLogin, f.key, "", []byte(form))), api.KindInvalid)
	raw, err := json.Marshal(good.Wire())
	if err != nil {
		t.Fatal(err)
	}
	w.refused(w.send(post(api.RouteLogin, f.key, "", append(raw, []byte(`{"method":"paste"}`)...))), api.KindInvalid)
	w.noSessions()
}
