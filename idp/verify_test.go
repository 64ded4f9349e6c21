package idp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"sega/keychain/secret"
)

func TestNonceVectors(t *testing.T) {
	random := make([]byte, 32)
	for i := range random {
		random[i] = byte(i)
	}
	for _, c := range []struct{ name, thumbprint, origin, want string }{
		{"usual", "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", "https://sega.corp.example", "oxUbomWfC07jfIC-RDkS8exwKzM2GPAIf433UnlZwr0"},
	} {
		if got := Nonce(c.thumbprint, c.origin, random); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if Nonce("ab", "c", nil) == Nonce("a", "bc", nil) || Nonce("a", "b", []byte("c")) == Nonce("a", "bc", nil) {
		t.Error("two triples that differ only in where they are cut have one nonce")
	}
}

func TestGoodTokens(t *testing.T) {
	s := newIssuer(t)
	v := s.verifier(t, nil)
	now := s.clock()
	for _, c := range []struct {
		name    string
		header  map[string]any
		changes map[string]any
		want    func(*Identity)
	}{
		{name: "usual", want: func(*Identity) {}},
		{name: "typ JWT", header: map[string]any{"typ": "jwt"}, want: func(*Identity) {}},
		{name: "audience as a list", changes: map[string]any{"aud": []string{testClient}}, want: func(*Identity) {}},
		{name: "several audiences with azp", changes: map[string]any{"aud": []string{"api", testClient}, "azp": testClient}, want: func(*Identity) {}},
		{name: "just inside every window", changes: map[string]any{"iat": now.Unix() - 120, "exp": now.Unix() - 59, "nbf": now.Unix() + 60},
			want: func(i *Identity) { i.IssuedAt, i.Expires = now.Add(-2*time.Minute), now.Add(-59*time.Second) }},
		{name: "our clock behind", changes: map[string]any{"iat": now.Unix() + 60}, want: func(i *Identity) { i.IssuedAt = now.Add(time.Minute) }},
		{name: "fractions", changes: map[string]any{"iat": float64(now.Unix()) + 0.5}, want: func(*Identity) {}},
		{name: "no auth_time is stale", changes: map[string]any{"auth_time": nil}, want: func(i *Identity) { i.AuthTime = time.Time{} }},
		{name: "no groups", changes: map[string]any{"groups": nil}, want: func(i *Identity) { i.Groups, i.GroupsKnown = nil, false }},
		{name: "member of nothing", changes: map[string]any{"groups": []string{}}, want: func(i *Identity) { i.Groups = []string{} }},
		{name: "e-mail verified as text", changes: map[string]any{"email_verified": "true"}, want: func(i *Identity) { i.EmailVerified = true }},
		{name: "claims of other case are other claims", changes: map[string]any{"SUB": "root", "Groups": []string{"admins"}, "AMR": []string{"x"}}, want: func(*Identity) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := sign(c.header, s.claims(c.changes), testKeys()[0])
			got, err := v.Verify(t.Context(), token, "n")
			if err != nil {
				t.Fatal(err)
			}
			want := Identity{Issuer: s.url, Subject: "00uann", Email: "ann@corp.example", Groups: []string{"sre"}, GroupsKnown: true,
				AMR: []string{"pwd", "mfa"}, MFA: true, AuthTime: now.Add(-5 * time.Second), IssuedAt: now, Expires: now.Add(time.Hour), Nonce: "n",
				Digest: digest(string(token.Reveal()))}
			c.want(&want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBadClaims(t *testing.T) {
	s := newIssuer(t)
	v := s.verifier(t, nil)
	now := s.clock().Unix()
	for _, c := range []struct {
		name, claim string
		value       any
		want        error
	}{
		{"other issuer", "iss", "https://evil.example", ErrIssuer},
		{"issuer with a slash", "iss", s.url + "/", ErrIssuer},
		{"no issuer", "iss", nil, ErrIssuer},
		{"other audience", "aud", "other", ErrAudience},
		{"audience prefix", "aud", testClient + "x", ErrAudience},
		{"no audience", "aud", nil, ErrAudience},
		{"empty audiences", "aud", []string{}, ErrAudience},
		{"audience of numbers", "aud", []int{1}, ErrMalformed},
		{"several audiences, no azp", "aud", []string{testClient, "api"}, ErrAuthorizedParty},
		{"azp of another", "azp", "other", ErrAuthorizedParty},
		{"empty azp", "azp", "", ErrAuthorizedParty},
		{"empty subject", "sub", "", ErrSubject},
		{"no subject", "sub", nil, ErrSubject},
		{"subject with a line break", "sub", "a\nb", ErrSubject},
		{"long subject", "sub", strings.Repeat("x", 256), ErrSubject},
		{"subject is a number", "sub", 7, ErrMalformed},
		{"expired", "exp", now - 60, ErrTokenExpired},
		{"no end", "exp", nil, ErrMalformed},
		{"endless", "exp", 1e300, ErrMalformed},
		{"negative time", "exp", -1, ErrMalformed},
		{"end as text", "exp", "9999999999", ErrMalformed},
		{"no issue time", "iat", nil, ErrMalformed},
		{"issued too long ago", "iat", now - 121, ErrTokenOld},
		{"issued in the future", "iat", now + 61, ErrNotYetValid},
		{"not valid yet", "nbf", now + 61, ErrNotYetValid},
		{"authenticated in the future", "auth_time", now + 61, ErrAuthTime},
		{"other nonce", "nonce", "m", ErrNonce},
		{"empty nonce", "nonce", "", ErrNonce},
		{"no nonce", "nonce", nil, ErrNonce},
		{"nonce is a list", "nonce", []string{"n"}, ErrMalformed},
		{"groups as text", "groups", "sre", ErrMalformed},
		{"groups null", "groups", json.RawMessage("null"), ErrMalformed},
		{"amr as text", "amr", "mfa", ErrMalformed},
		{"logout token", "events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}, ErrTokenType},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := v.Verify(t.Context(), sign(nil, s.claims(map[string]any{c.claim: c.value}), testKeys()[0]), "n")
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	if _, err := v.Verify(t.Context(), sign(nil, s.claims(map[string]any{"nonce": ""}), testKeys()[0]), ""); !errors.Is(err, ErrNonce) {
		t.Errorf("empty nonce asked for: %v", err)
	}
}

func TestBadEnvelopes(t *testing.T) {
	s := newIssuer(t)
	v := s.verifier(t, nil)
	good := string(sign(nil, s.claims(nil), testKeys()[0]).Reveal())
	head, rest, _ := strings.Cut(good, ".")
	body, sig, _ := strings.Cut(rest, ".")
	foreign := jose.JSONWebKey{Key: testKeys()[1].Public(), KeyID: "k0"}
	with := func(header map[string]any) string { return string(sign(header, s.claims(nil), testKeys()[0]).Reveal()) }
	raw := func(payload string) string { return string(sign(nil, payload, testKeys()[0]).Reveal()) }
	mac := hmac.New(sha256.New, testKeys()[0].N.Bytes())
	hs := b64([]byte(`{"alg":"HS256","kid":"k0"}`)) + "." + body
	mac.Write([]byte(hs))
	for _, c := range []struct {
		name, token string
		want        error
	}{
		{"empty", "", ErrMalformed},
		{"two parts", head + "." + body, ErrMalformed},
		{"four parts", good + "." + sig, ErrMalformed},
		{"none", b64([]byte(`{"alg":"none","kid":"k0"}`)) + "." + body + ".", ErrAlgorithm},
		{"None with the signature", b64([]byte(`{"alg":"None","kid":"k0"}`)) + "." + body + "." + sig, ErrAlgorithm},
		{"HS256 with the modulus", hs + "." + b64(mac.Sum(nil)), ErrAlgorithm},
		{"RS512", with(map[string]any{"alg": "RS512"}), ErrAlgorithm},
		{"no algorithm", with(map[string]any{"alg": nil}), ErrAlgorithm},
		{"no signature", head + "." + body + ".", ErrSignature},
		{"other body", head + "." + b64([]byte(`{"sub":"root"}`)) + "." + sig, ErrSignature},
		{"wrong key", string(sign(nil, s.claims(nil), testKeys()[1]).Reveal()), ErrSignature},
		{"wrong key brought along", string(sign(map[string]any{"jwk": foreign}, s.claims(nil), testKeys()[1]).Reveal()), ErrSignature},
		{"wrong key by address", string(sign(map[string]any{"jku": "https://evil.example/keys", "x5u": "https://evil.example/c"}, s.claims(nil), testKeys()[1]).Reveal()), ErrSignature},
		{"no kid", with(map[string]any{"kid": nil}), ErrKeyUnknown},
		{"unknown kid", with(map[string]any{"kid": "k9"}), ErrKeyUnknown},
		{"access token", with(map[string]any{"typ": "at+jwt"}), ErrTokenType},
		{"odd typ", with(map[string]any{"typ": 1}), ErrTokenType},
		{"critical extension", with(map[string]any{"crit": []string{"exp"}, "exp": 1}), ErrMalformed},
		{"unencoded payload", with(map[string]any{"crit": []string{"b64"}, "b64": true}), ErrMalformed},
		{"line break inside", head + ".\n" + body + "." + sig, ErrMalformed},
		{"other trailing bits", good[:len(good)-1] + trailing(good[len(good)-1]), ErrMalformed},
		{"padding", good + "==", ErrMalformed},
		{"JSON form", `{"protected":"` + head + `","payload":"` + body + `","signature":"` + sig + `"}`, ErrMalformed},
		{"too long", good + strings.Repeat("A", maxToken), ErrMalformed},
		{"claims are a list", raw(`[]`), ErrMalformed},
		{"claims are null", raw(`null`), ErrMalformed},
		{"a claim twice", raw(`{"sub":"00uann","sub":"root"}`), ErrMalformed},
		{"trailing text", raw(`{} {}`), ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := v.Verify(t.Context(), secret.FromString(c.token), "n")
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if c.token != "" && strings.Contains(err.Error(), c.token) {
				t.Error("the error quotes the token")
			}
		})
	}
}

// trailing returns the base64url character that differs from c in the lowest bit alone: a lax
// decoder takes both for the same bytes.
func trailing(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)^1])
}

func TestMFAComesFromTheClaimsAlone(t *testing.T) {
	s := newIssuer(t)
	v := s.verifier(t, func(c *VerifierConfig) {
		c.MFAValues = []string{"mfa", "hwk"}
		c.ACRValues = []string{"urn:okta:loa:2fa:any", "phr"}
	})
	for _, c := range []struct {
		name string
		amr  any
		acr  any
		want bool
	}{
		{"nothing", nil, nil, false},
		{"empty", []string{}, "", false},
		{"password", []string{"pwd"}, nil, false},
		{"two values that prove nothing", []string{"pwd", "otp"}, nil, false},
		{"mfa", []string{"pwd", "mfa"}, nil, true},
		{"other case", []string{"MFA"}, nil, false},
		{"configured", []string{"hwk"}, nil, true},
		{"acr", nil, "urn:okta:loa:2fa:any", true},
		{"acr that is weaker", nil, "urn:okta:loa:2fa:any:ifpossible", false},
		{"acr prefix", nil, "phrh", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := v.Verify(t.Context(), sign(nil, s.claims(map[string]any{"amr": c.amr, "acr": c.acr}), testKeys()[0]), "n")
			if err != nil || id.MFA != c.want {
				t.Errorf("MFA %t, want %t; %v", id.MFA, c.want, err)
			}
		})
	}
}

func TestVerifierConfigThatProvesNothing(t *testing.T) {
	p := newIssuer(t).discover(t)
	for name, cfg := range map[string]VerifierConfig{
		"no client":    {},
		"none":         {ClientID: "c", Algorithms: []string{"none"}},
		"HS256":        {ClientID: "c", Algorithms: []string{"RS256", "HS256"}},
		"no algorithm": {ClientID: "c", Algorithms: []string{}},
		"pwd":          {ClientID: "c", MFAValues: []string{"pwd"}},
		"empty amr":    {ClientID: "c", MFAValues: []string{""}},
		"one factor":   {ClientID: "c", ACRValues: []string{"urn:okta:loa:1fa:any"}},
		"if possible":  {ClientID: "c", ACRValues: []string{"urn:okta:loa:2fa:any:ifpossible"}},
		"empty acr":    {ClientID: "c", ACRValues: []string{""}},
		"long skew":    {ClientID: "c", Skew: 61 * time.Second},
		"long age":     {ClientID: "c", MaxAge: 2 * time.Hour},
	} {
		if _, err := NewVerifier(p, cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}

func TestRefreshedTokens(t *testing.T) {
	s := newIssuer(t)
	v := s.verifier(t, nil)
	was := Identity{Issuer: s.url, Subject: "00uann", AuthTime: s.clock().Add(-5 * time.Second), Nonce: "n"}
	never := was
	never.AuthTime = time.Time{}
	device := was
	device.Nonce = ""
	for _, c := range []struct {
		name    string
		changes map[string]any
		was     Identity
		want    error
	}{
		{"same nonce", nil, was, nil},
		{"no nonce", map[string]any{"nonce": nil}, was, nil},
		{"no auth_time, then and now", map[string]any{"auth_time": nil}, never, nil},
		{"of a device", map[string]any{"nonce": nil}, device, nil},
		{"other nonce", map[string]any{"nonce": "m"}, was, ErrRenewal},
		{"a nonce for a device", nil, device, ErrRenewal},
		{"other subject", map[string]any{"sub": "root"}, was, ErrRenewal},
		{"later authentication", map[string]any{"auth_time": s.clock().Unix() - 4}, was, ErrRenewal},
		{"auth_time gone", map[string]any{"auth_time": nil}, was, ErrRenewal},
		{"auth_time come", nil, never, ErrRenewal},
		{"of nobody", nil, Identity{}, ErrRenewal},
		{"bad in itself", map[string]any{"aud": "other"}, was, ErrAudience},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := v.VerifyRefreshed(t.Context(), sign(nil, s.claims(c.changes), testKeys()[0]), c.was)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestDeviceTokensHaveNoNonce(t *testing.T) {
	s := newIssuer(t)
	v := s.verifier(t, nil)
	if _, err := v.VerifyDevice(t.Context(), sign(nil, s.claims(nil), testKeys()[0])); !errors.Is(err, ErrNonce) {
		t.Errorf("with a nonce: %v", err)
	}
	if _, err := v.VerifyDevice(t.Context(), sign(nil, s.claims(map[string]any{"nonce": nil}), testKeys()[0])); err != nil {
		t.Errorf("without: %v", err)
	}
}

func TestUserInfo(t *testing.T) {
	s := newIssuer(t)
	v := s.verifier(t, nil)
	for _, c := range []struct {
		name, body string
		want       []string
	}{
		{"groups", `{"sub":"00uann","groups":["a","b"]}`, []string{"a", "b"}},
		{"member of nothing", `{"sub":"00uann","groups":[]}`, []string{}},
		{"somebody else", `{"sub":"00ubob","groups":["a"]}`, nil},
		{"nobody", `{"groups":["a"]}`, nil},
		{"no groups", `{"sub":"00uann"}`, nil},
		{"groups null", `{"sub":"00uann","groups":null}`, nil},
		{"groups as text", `{"sub":"00uann","groups":"a"}`, nil},
		{"signed", `eyJhbGciOiJub25lIn0.e30.`, nil},
		{"twice", `{"sub":"00ubob","sub":"00uann","groups":["a"]}`, nil},
		{"endless", `{"sub":"00uann","groups":["` + strings.Repeat("x", maxAnswer) + `"]}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.set(func() { s.userinfo = c.body })
			got, err := v.UserInfoGroups(t.Context(), secret.FromString("at"), "00uann")
			if diff := cmp.Diff(c.want, got); diff != "" || errors.Is(err, ErrGroupsUnknown) != (c.want == nil) {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
	if _, err := v.UserInfoGroups(t.Context(), secret.Secret{}, "00uann"); !errors.Is(err, ErrGroupsUnknown) {
		t.Errorf("without a token: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	s := newIssuer(f)
	v := s.verifier(f, nil)
	good := string(sign(nil, s.claims(nil), testKeys()[0]).Reveal())
	f.Add(good)
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add(b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(`{}`)) + ".")
	f.Add(b64([]byte(`{"alg":"RS256","kid":"k0","jwk":{"kty":"RSA"}}`)) + "." + b64([]byte(`{}`)) + ".AA")
	f.Add("{}")
	f.Fuzz(func(t *testing.T, token string) {
		id, err := v.Verify(t.Context(), secret.FromString(token), "n")
		if err == nil && token != good {
			t.Errorf("accepted a token that was never issued, for %s", id.Subject)
		}
		if err != nil && len(token) > 20 && strings.Contains(err.Error(), token) {
			t.Error("the error quotes the token")
		}
	})
}

func FuzzClaims(f *testing.F) {
	f.Add(`{"iss":"i","sub":"s","aud":["a"],"exp":1,"iat":1.5,"groups":["g"]}`)
	f.Add(`{"aud":null,"email_verified":"true","groups":null}`)
	f.Add(`{"exp":1e400,"exp":1}`)
	f.Fuzz(func(t *testing.T, payload string) {
		c, err := parseClaims([]byte(payload), "groups")
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("unexpected error %v", err)
		}
		for _, d := range []*numericDate{c.Expires, c.IssuedAt, c.NotBefore, c.AuthTime} {
			if err == nil && d != nil && (d.time().Year() < 1970 || d.time().Year() > 40000) {
				t.Errorf("time %v", d.time())
			}
		}
	})
}
