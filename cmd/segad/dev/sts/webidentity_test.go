package sts

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"

	service "sega/broker"
	"sega/broker/awssts"
)

const (
	longARN    = "arn:aws:iam::222222222222:role/long"
	wideARN    = "arn:aws:iam::222222222222:role/wide"    // trusts one person alone
	poorARN    = "arn:aws:iam::222222222222:role/poor"    // grants neither tags nor source identity
	foreignARN = "arn:aws:iam::333333333333:role/foreign" // of an account without the provider
	alicesSub  = "usr_aliceaaaaaaaaaaaaaaaaaaaaaa"
)

// site is an issuer's web server.
type site struct {
	*httptest.Server
	mu     sync.Mutex
	issuer *service.Issuer
	spoil  http.HandlerFunc // answers in its place; nil: nobody
	hits   int
}

func newSite(t *testing.T, keys ...*ecdsa.PrivateKey) *site {
	t.Helper()
	s := &site{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hits++
		if s.spoil != nil {
			s.spoil(w, r)
			return
		}
		for _, doc := range s.issuer.Documents() {
			if doc.Path == r.URL.Path {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Cache-Control", "public, max-age=300")
				_, _ = w.Write(doc.Body)
				return
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	s.publish(t, keys...)
	return s
}

// publish makes the first key sign and all of them known.
func (s *site) publish(t *testing.T, keys ...*ecdsa.PrivateKey) {
	t.Helper()
	var signers []crypto.Signer
	for _, k := range keys {
		signers = append(signers, k)
	}
	issuer, err := service.NewIssuer(s.URL, signers)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issuer = issuer
}

func (s *site) set(spoil http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoil = spoil
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// federated starts a double that trusts the site.
func federated(t *testing.T, s *site) bench {
	t.Helper()
	return start(t, func(c *Config) {
		c.HTTP = s.Client()
		c.Providers = []Provider{{Account: "222222222222", URL: s.URL, Audiences: []string{"sega:long", "sega:wide", "sega:poor"}}}
		trust := func(audience, subject string) []Federation {
			return []Federation{{Provider: c.Providers[0].ARN(), Audience: audience, Subject: subject}}
		}
		c.Roles = append(c.Roles,
			Role{ARN: longARN, MaxDuration: 12 * time.Hour, Federated: trust("sega:long", "usr_*"), AllowTag: true, AllowSourceIdentity: true},
			Role{ARN: wideARN, MaxDuration: 12 * time.Hour, Federated: trust("sega:wide", alicesSub), AllowTag: true, AllowSourceIdentity: true},
			Role{ARN: poorARN, Federated: trust("sega:poor", "*")},
			Role{ARN: foreignARN, Federated: trust("sega:long", "*"), AllowTag: true, AllowSourceIdentity: true})
	})
}

type object = map[string]any

// rightClaims are those of a token for longARN.
func rightClaims(s *site, now time.Time) object {
	return object{"iss": s.URL, "aud": "sega:long", "sub": alicesSub, "iat": now.Unix() - 30, "nbf": now.Unix() - 30, "exp": now.Unix() + 60, "jti": "x",
		"https://aws.amazon.com/source_identity": "ada@corp.example",
		"https://aws.amazon.com/tags":            object{"principal_tags": object{"sega_login": []string{"ses_1"}}, "transitive_tag_keys": []string{"sega_login"}}}
}

// compact signs header and claims by hand.
func compact(t *testing.T, header, claims object, sign func(input string) []byte) string {
	t.Helper()
	h, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	input := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
	return input + "." + base64.RawURLEncoding.EncodeToString(sign(input))
}

func es256(t *testing.T, key *ecdsa.PrivateKey) func(string) []byte {
	return func(input string) []byte {
		sum := sha256.Sum256([]byte(input))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
}

// webForm returns the parameters of a right call with a token, changed by kv pairs.
func webForm(token string, kv ...string) string {
	v := url.Values{"Action": {withWebIdentity}, "Version": {version}, "RoleArn": {longARN}, "RoleSessionName": {"ada@corp.example"},
		"DurationSeconds": {"43200"}, "WebIdentityToken": {token}}
	for i := 0; i < len(kv); i += 2 {
		v.Set(kv[i], kv[i+1])
		if kv[i+1] == "" {
			v.Del(kv[i])
		}
	}
	return v.Encode()
}

// spend makes the unsigned call.
func (b bench) spend(t *testing.T, encoded string) (answered, webResult) {
	t.Helper()
	resp, err := http.Post(b.URL()+"/", "application/x-www-form-urlencoded", strings.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a, w := answered{status: resp.StatusCode}, webResponse{}
	if err := xml.Unmarshal(body, &a); err != nil {
		t.Fatalf("%d %q: %v", resp.StatusCode, body, err)
	}
	if resp.StatusCode == 200 {
		if err := xml.Unmarshal(body, &w); err != nil {
			t.Fatal(err)
		}
	}
	return a, w.Result
}

// TestWebIdentity takes the broker's own issuer and minter: twelve hours, no notice, and a session that
// carries the person.
func TestWebIdentity(t *testing.T) {
	s := newSite(t, newKey(t))
	b := federated(t, s)
	m, err := awssts.New(t.Context(), awssts.Config{Region: "eu-central-1", Endpoint: b.URL(), Tokens: s.issuer, Keyless: true})
	if err != nil {
		t.Fatal(err)
	}
	r := ask(longARN)
	r.PolicyMax, r.RoleMax = 12*time.Hour, 12*time.Hour
	r.WebIdentity = &awssts.WebIdentity{Issuer: s.URL, Audience: "sega:long", Subject: alicesSub}
	got, err := m.Assume(t.Context(), r)
	if err != nil || got.Duration != 12*time.Hour || len(got.Notices) > 0 {
		t.Fatalf("%v, %v, %q", err, got.Duration, got.Notices)
	}
	c := creds{got.AccessKeyID, string(got.SecretAccessKey.Reveal()), string(got.SessionToken.Reveal())}
	id, err := sdk(b, c).GetCallerIdentity(t.Context(), &awssdk.GetCallerIdentityInput{})
	if err != nil || *id.Arn != got.AssumedRoleARN {
		t.Fatalf("%+v, %v", id, err)
	}
	call := b.Calls()[0]
	want := Call{Time: call.Time, RequestID: call.RequestID, Action: withWebIdentity,
		Caller:  "arn:aws:iam::222222222222:oidc-provider/" + strings.TrimPrefix(s.URL, "https://") + ":sega:long:" + alicesSub,
		RoleARN: longARN, SessionName: r.Email, SourceIdentity: r.Email, Duration: 12 * time.Hour, Issued: got.AccessKeyID,
		Tags: map[string]string{"sega_login": r.LoginID, "sega_request": r.RequestID, "sega_ticket": r.Ticket}}
	if diff := cmp.Diff(want, call); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if strings.Contains(b.log.String(), "eyJ") {
		t.Error("the token is in the log")
	}
	// What goes on from here is role chaining.
	if got := b.call(t, c, assumeForm("RoleArn", nextARN, "DurationSeconds", "3601")); got.status == 200 {
		t.Errorf("a second hop of more than an hour: %v", got)
	}
}

// TestWebIdentityAttacks: every token but the right one is refused, and so is every parameter beside it.
func TestWebIdentityAttacks(t *testing.T) {
	key, second, stranger := newKey(t), newKey(t), newKey(t)
	s := newSite(t, key, second)
	other := newSite(t, stranger)
	b := federated(t, s)
	ids := s.issuer.KeyIDs()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := b.clock.now()
	header := func(kv ...any) object {
		h := object{"alg": "ES256", "kid": ids[0], "typ": "JWT"}
		for i := 0; i < len(kv); i += 2 {
			h[kv[i].(string)] = kv[i+1]
		}
		return h
	}
	claims := func(kv ...any) object {
		c := maps.Clone(rightClaims(s, now))
		for i := 0; i < len(kv); i += 2 {
			c[kv[i].(string)] = kv[i+1]
			if kv[i+1] == nil {
				delete(c, kv[i].(string))
			}
		}
		return c
	}
	right := compact(t, header(), claims(), es256(t, key))
	tags := func(principal any, transitive ...string) object {
		return object{"principal_tags": principal, "transitive_tag_keys": transitive}
	}
	const sourceClaim, tagsClaim = "https://aws.amazon.com/source_identity", "https://aws.amazon.com/tags"
	signed := func(c object) string { return compact(t, header(), c, es256(t, key)) }
	der := func(input string) []byte {
		sum := sha256.Sum256([]byte(input))
		sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	tests := []struct {
		name, token string
		kv          []string
		code        string // "": done
	}{
		{"right", right, nil, ""},
		{"right once more", right, nil, ""}, // STS keeps no list of tokens
		{"the other published key", compact(t, header("kid", ids[1]), claims(), es256(t, second)), nil, ""},
		{"audience as a list", signed(claims("aud", []string{"sega:long"})), nil, ""},
		{"without tags and source identity", signed(claims(sourceClaim, nil, tagsClaim, nil)), nil, ""},

		{"audience of another role", signed(claims("aud", "sega:wide")), nil, "AccessDenied"},
		{"audience of nobody", signed(claims("aud", "sts.amazonaws.com")), nil, "InvalidIdentityToken"},
		{"two audiences", signed(claims("aud", []string{"sega:long", "sega:wide"})), nil, "InvalidIdentityToken"},
		{"no audience", signed(claims("aud", nil)), nil, "InvalidIdentityToken"},
		{"a token for long at another role", right, []string{"RoleArn", wideARN}, "AccessDenied"},
		{"a subject that the role does not trust", signed(claims("aud", "sega:wide", "sub", "usr_bobbbbbbbbbbbbbbbbbbbbbbbbb")), []string{"RoleArn", wideARN}, "AccessDenied"},
		{"a subject that goes on after the pattern", signed(claims("aud", "sega:wide", "sub", alicesSub+"x")), []string{"RoleArn", wideARN}, "AccessDenied"},
		{"a subject that the role trusts", signed(claims("aud", "sega:wide")), []string{"RoleArn", wideARN}, ""},
		{"a subject of another form", signed(claims("sub", "00u1-alice")), nil, "AccessDenied"},
		{"no subject", signed(claims("sub", nil)), nil, "InvalidIdentityToken"},
		{"a subject of five", signed(claims("sub", "usr_a")), nil, "InvalidIdentityToken"},

		{"an issuer that is not registered", compact(t, header("kid", other.issuer.KeyIDs()[0]), claims("iss", other.URL), es256(t, stranger)), nil, "InvalidIdentityToken"},
		{"an issuer with a slash more", signed(claims("iss", s.URL+"/")), nil, "InvalidIdentityToken"},
		{"no issuer", signed(claims("iss", nil)), nil, "InvalidIdentityToken"},
		{"an account without the provider", right, []string{"RoleArn", foreignARN}, "InvalidIdentityToken"},
		{"a stranger's key under our key ID", compact(t, header(), claims(), es256(t, stranger)), nil, "InvalidIdentityToken"},
		{"a stranger's key ID", compact(t, header("kid", other.issuer.KeyIDs()[0]), claims(), es256(t, stranger)), nil, "InvalidIdentityToken"},
		{"the ID of the other key", compact(t, header("kid", ids[1]), claims(), es256(t, key)), nil, "InvalidIdentityToken"},
		{"no key ID", compact(t, object{"alg": "ES256"}, claims(), es256(t, key)), nil, "InvalidIdentityToken"},
		{"alg none", compact(t, header("alg", "none"), claims(), func(string) []byte { return nil }), nil, "InvalidIdentityToken"},
		{"alg HS256 with the public key", compact(t, header("alg", "HS256"), claims(), func(in string) []byte {
			m := hmac.New(sha256.New, elliptic.Marshal(elliptic.P256(), key.X, key.Y)) //lint:ignore SA1019 the octets are what matters
			m.Write([]byte(in))
			return m.Sum(nil)
		}), nil, "InvalidIdentityToken"},
		{"alg RS256 under an EC key", compact(t, header("alg", "RS256"), claims(), func(in string) []byte {
			sum := sha256.Sum256([]byte(in))
			sig, err := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			return sig
		}), nil, "InvalidIdentityToken"},
		{"an access token", compact(t, header("typ", "at+jwt"), claims(), es256(t, key)), nil, "InvalidIdentityToken"},
		{"a critical header", compact(t, header("crit", []string{"b64"}), claims(), es256(t, key)), nil, "InvalidIdentityToken"},
		{"a signature in DER", compact(t, header(), claims(), der), nil, "InvalidIdentityToken"},
		{"a signature of zeros", compact(t, header(), claims(), func(string) []byte { return make([]byte, 64) }), nil, "InvalidIdentityToken"},
		{"no signature", right[:strings.LastIndexByte(right, '.')+1], nil, "InvalidIdentityToken"},
		{"another payload under the signature", transplant(signed(claims("sub", "usr_eve")), right), nil, "InvalidIdentityToken"},
		{"not a JWT", "a-session-token-of-somebody", nil, "InvalidIdentityToken"},

		{"expired", signed(claims("exp", now.Unix()-1)), nil, "ExpiredTokenException"},
		{"expired this second", signed(claims("exp", now.Unix())), nil, "ExpiredTokenException"},
		{"issued in a minute", signed(claims("iat", now.Unix()+60)), nil, "InvalidIdentityToken"},
		{"valid in a minute", signed(claims("nbf", now.Unix()+60)), nil, "InvalidIdentityToken"},
		{"without an end", signed(claims("exp", nil)), nil, "InvalidIdentityToken"},
		{"without a beginning", signed(claims("iat", nil)), nil, "InvalidIdentityToken"},

		{"a source identity with a blank", signed(claims(sourceClaim, "a b")), nil, "InvalidIdentityToken"},
		{"a source identity of one", signed(claims(sourceClaim, "a")), nil, "InvalidIdentityToken"},
		{"a tag of two values", signed(claims(tagsClaim, tags(object{"k": []string{"a", "b"}}))), nil, "InvalidIdentityToken"},
		{"a tag that is no list", signed(claims(tagsClaim, tags(object{"k": "a"}))), nil, "InvalidIdentityToken"},
		{"a tag outside the grammar", signed(claims(tagsClaim, tags(object{"k": []string{"a;b"}}))), nil, "ValidationError"},
		{"a transitive tag that is none", signed(claims(tagsClaim, tags(object{"k": []string{"a"}}, "other"))), nil, "InvalidParameterValue"},
		{"a role without SetSourceIdentity", signed(claims("aud", "sega:poor", tagsClaim, nil)), []string{"RoleArn", poorARN, "DurationSeconds", "3600"}, "AccessDenied"},
		{"a role without TagSession", signed(claims("aud", "sega:poor", sourceClaim, nil)), []string{"RoleArn", poorARN, "DurationSeconds", "3600"}, "AccessDenied"},
		{"a role without both, and neither", signed(claims("aud", "sega:poor", sourceClaim, nil, tagsClaim, nil)), []string{"RoleArn", poorARN, "DurationSeconds", "3600"}, ""},
		{"longer than the role", signed(claims("aud", "sega:poor", sourceClaim, nil, tagsClaim, nil)), []string{"RoleArn", poorARN, "DurationSeconds", "3601"}, "ValidationError"},
		{"a role that trusts no provider", right, []string{"RoleArn", adminARN, "DurationSeconds", "3600"}, "AccessDenied"},
		{"an unknown role", right, []string{"RoleArn", longARN + "x"}, "AccessDenied"},

		{"longer than any role", right, []string{"DurationSeconds", "43201"}, "ValidationError"},
		{"no session name", right, []string{"RoleSessionName", ""}, "ValidationError"},
		{"no token", "", []string{"WebIdentityToken", ""}, "ValidationError"},
		{"an endless token", strings.Repeat("e", 20001), nil, "ValidationError"},
		{"tags as parameters", right, []string{"Tags.member.1.Key", "k", "Tags.member.1.Value", "v"}, "InvalidQueryParameter"},
		{"source identity as a parameter", right, []string{"SourceIdentity", "eve"}, "InvalidQueryParameter"},
		{"an external ID", right, []string{"ExternalId", "xy"}, "InvalidQueryParameter"},
		{"ProviderId", right, []string{"ProviderId", "www.amazon.com"}, "InvalidQueryParameter"},
		{"a session policy", right, []string{"Policy", readS3}, ""},
		{"a session policy that is none", right, []string{"Policy", "{"}, "MalformedPolicyDocument"},
		{"a managed policy", right, []string{"PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/ReadOnlyAccess"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, result := b.spend(t, webForm(tt.token, tt.kv...))
			if got.Code != tt.code || (got.status == 200) != (tt.code == "") {
				t.Errorf("%v; want %q", got, tt.code)
			}
			if (result.Credentials.SessionToken != "") != (tt.code == "") {
				t.Errorf("credentials came with %v", got)
			}
		})
	}
	if got := b.call(t, broker, webForm(right)); got.Code != "InvalidQueryParameter" {
		t.Errorf("a signed call: %v", got)
	}
	if log := b.log.String(); strings.Contains(log, "eyJ") || !strings.Contains(log, withWebIdentity) {
		t.Error("a token is in the log, or nothing is")
	}
}

// transplant returns the payload of one token between header and signature of another.
func transplant(payload, around string) string {
	p, a := strings.Split(payload, "."), strings.Split(around, ".")
	return a[0] + "." + p[1] + "." + a[2]
}

// TestProviderFails: without the provider's own word nothing is issued.
func TestProviderFails(t *testing.T) {
	key := newKey(t)
	s := newSite(t, key)
	answer := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	about := func(issuer, keys string) string {
		return `{"issuer":"` + issuer + `","jwks_uri":"` + keys + `","response_types_supported":["id_token"],"subject_types_supported":["public"],` +
			`"id_token_signing_alg_values_supported":["ES256"],"claims_supported":["iss"]}`
	}
	const js = "application/json"
	keysAre := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "jwks.json") {
				answer(200, js, body)(w, r)
				return
			}
			answer(200, js, about(s.URL, s.URL+"/.well-known/jwks.json"))(w, r)
		}
	}
	for name, c := range map[string]struct {
		spoil http.HandlerFunc
		code  string
	}{
		"fails":                   {answer(503, js, "{}"), "IDPCommunicationError"},
		"hangs up":                {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "IDPCommunicationError"},
		"knows nothing":           {answer(404, js, "{}"), "InvalidIdentityToken"},
		"sends elsewhere":         {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, s.URL+"/x", http.StatusFound) }, "InvalidIdentityToken"},
		"speaks HTML":             {answer(200, "text/html", "<p>"), "InvalidIdentityToken"},
		"is no JSON":              {answer(200, js, "{"), "InvalidIdentityToken"},
		"is another":              {answer(200, js, about("https://other.example", s.URL+"/.well-known/jwks.json")), "InvalidIdentityToken"},
		"has its keys in clear":   {answer(200, js, about(s.URL, "http://127.0.0.1/jwks.json")), "InvalidIdentityToken"},
		"is not complete":         {answer(200, js, `{"issuer":"`+s.URL+`","jwks_uri":"`+s.URL+`/.well-known/jwks.json"}`), "InvalidIdentityToken"},
		"has no keys":             {keysAre(`{"keys":[]}`), "InvalidIdentityToken"},
		"has a key that is none":  {keysAre(`{"keys":[{"kid":"` + s.issuer.KeyIDs()[0] + `","kty":"EC","crv":"P-256","alg":"ES256","use":"sig","x":"AA","y":"AA"}]}`), "InvalidIdentityToken"},
		"has a key off the curve": {keysAre(`{"keys":[{"kid":"` + s.issuer.KeyIDs()[0] + `","kty":"EC","crv":"P-256","alg":"ES256","use":"sig","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}]}`), "InvalidIdentityToken"},
	} {
		t.Run(name, func(t *testing.T) {
			b := federated(t, s)
			s.set(c.spoil)
			defer s.set(nil)
			form := webForm(compact(t, object{"alg": "ES256", "kid": s.issuer.KeyIDs()[0]}, rightClaims(s, b.clock.now()), es256(t, key)))
			if got, _ := b.spend(t, form); got.Code != c.code || got.status != 400 {
				t.Errorf("%v; want %s", got, c.code)
			}
			s.set(nil)
			if got, _ := b.spend(t, form); got.status != 200 {
				t.Errorf("when it is well again: %v", got)
			}
		})
	}
	t.Run("has a certificate that nobody trusts", func(t *testing.T) {
		b := start(t, func(c *Config) {
			c.Providers = []Provider{{Account: "222222222222", URL: s.URL, Audiences: []string{"sega:long"}}}
		})
		form := webForm(compact(t, object{"alg": "ES256", "kid": s.issuer.KeyIDs()[0]}, rightClaims(s, b.clock.now()), es256(t, key)))
		if got, _ := b.spend(t, form); got.Code != "IDPCommunicationError" {
			t.Errorf("%v", got)
		}
	})
}

// TestRotation goes through the steps of docs/operations.md against a double that keeps key sets: at no
// moment is a token refused. Without the first step one is.
func TestRotation(t *testing.T) {
	one, two := newKey(t), newKey(t)
	s := newSite(t, one)
	b := federated(t, s)
	works := func(t *testing.T, what string) bool {
		t.Helper()
		s.mu.Lock()
		issuer := s.issuer
		s.mu.Unlock()
		token, err := issuer.Sign(rightClaims(s, b.clock.now()))
		if err != nil {
			t.Fatal(err)
		}
		got, _ := b.spend(t, webForm(string(token.Reveal())))
		if got.status != 200 && got.Code != "InvalidIdentityToken" {
			t.Errorf("%s: %v", what, got)
		}
		return got.status == 200
	}
	for _, step := range []struct {
		what string
		keys []*ecdsa.PrivateKey
	}{{"before", []*ecdsa.PrivateKey{one}}, {"published", []*ecdsa.PrivateKey{one, two}}, {"signs", []*ecdsa.PrivateKey{two, one}}, {"alone", []*ecdsa.PrivateKey{two}}} {
		s.publish(t, step.keys...)
		for range 4 { // at once, while the old set is kept, and when the new one has come
			if !works(t, step.what) {
				t.Errorf("%s: a token was refused", step.what)
			}
			b.clock.add(100 * time.Second)
		}
	}
	s.publish(t, one)
	works(t, "the set of two alone is kept")
	if works(t, "not published before") {
		t.Error("a key that nobody had published was taken: the double keeps nothing, and this test shows nothing")
	}
	b.clock.add(301 * time.Second)
	if !works(t, "later") {
		t.Error("the new set was never fetched")
	}
	if s.hits > 40 {
		t.Errorf("%d fetches", s.hits)
	}
}

func TestProvidersAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		p  Provider
		ok bool
	}{
		"right":           {Provider{"222222222222", "https://sega.example", []string{"a"}}, true},
		"with a path":     {Provider{"222222222222", "https://sega.example/x", []string{"a"}}, true},
		"http":            {Provider{"222222222222", "http://sega.example", []string{"a"}}, false},
		"a slash after":   {Provider{"222222222222", "https://sega.example/", []string{"a"}}, false},
		"a query":         {Provider{"222222222222", "https://sega.example?x", []string{"a"}}, false},
		"no account":      {Provider{"", "https://sega.example", []string{"a"}}, false},
		"no audience":     {Provider{"222222222222", "https://sega.example", nil}, false},
		"an empty one":    {Provider{"222222222222", "https://sega.example", []string{""}}, false},
		"more than a 100": {Provider{"222222222222", "https://sega.example", make([]string, 101)}, false},
	} {
		if err := c.p.check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, want := (Provider{Account: "222222222222", URL: "https://sega.example/x"}).ARN(), "arn:aws:iam::222222222222:oidc-provider/sega.example/x"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL3gifQ.AAAA")
	f.Add("eyJhbGciOiJub25lIn0..")
	f.Add("..")
	f.Add("eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL3gifQ.AA\nAA")
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := parseToken(raw)
		if err != nil {
			return
		}
		if (got.alg != "ES256" && got.alg != "RS256") || got.kid == "" || !strings.HasPrefix(raw, got.input+".") {
			t.Fatalf("accepted %+v", got)
		}
		if again := got.input + "." + base64.RawURLEncoding.EncodeToString(got.signature); again != raw {
			t.Fatalf("%q is %q in another spelling", raw, again)
		}
		k := jwk{Kid: got.kid, Kty: "EC", Alg: got.alg, Use: "sig", Crv: "P-256", X: base64.RawURLEncoding.EncodeToString(big.NewInt(1).FillBytes(make([]byte, 32))), Y: "AA"}
		if k.verifies(got) {
			t.Fatal("a key that is no point verifies")
		}
	})
}
