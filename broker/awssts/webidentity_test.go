package awssts

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sega/keychain/secret"
)

// notary signs nothing: its tokens are the claims, in the form of a JWT. The signature is a canary.
type notary struct {
	mu     sync.Mutex
	signed []claims
	err    error
}

func (n *notary) Sign(v any) (secret.Secret, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.signed = append(n.signed, v.(claims))
	body, err := json.Marshal(v)
	return secret.FromString("eyJhbGciOiJFUzI1NiJ9." + base64.RawURLEncoding.EncodeToString(body) + ".canary-signature"), errors.Join(err, n.err)
}

func webRequest() Request {
	r := request()
	r.PolicyMax, r.RoleMax = 12*time.Hour, 12*time.Hour
	r.WebIdentity = &WebIdentity{Issuer: "https://sega.corp.example", Audience: "sega:admin", Subject: "usr_abcdefghijklmnopqrstuvwxyz"}
	return r
}

func withNotary(n *notary) func(*Config) {
	return func(c *Config) { c.Tokens, c.Keyless, c.Credentials, c.Chained = n, true, nil, nil }
}

// spoken reads the claims of the token of a call.
func spoken(t *testing.T, form url.Values) (out claims) {
	t.Helper()
	parts := strings.Split(form.Get("WebIdentityToken"), ".")
	if len(parts) != 3 {
		t.Fatalf("a token of %d parts", len(parts))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// webGrant is a right answer to a call; change may spoil it.
func webGrant(t *testing.T, form url.Values) (g granted, subject, audience string) {
	c := spoken(t, form)
	g = grant(form)
	g.source = c.SourceIdentity
	return g, c.Subject, c.Audience
}

func webXML(g granted, subject, audience string) string {
	xml := strings.ReplaceAll(g.xml(), "AssumeRoleRes", "AssumeRoleWithWebIdentityRes")
	return strings.Replace(xml, "<SourceIdentity>", "<SubjectFromWebIdentityToken>"+subject+"</SubjectFromWebIdentityToken><Audience>"+audience+
		"</Audience><Provider>arn:aws:iam::222222222222:oidc-provider/sega.corp.example</Provider><SourceIdentity>", 1)
}

func webGrants(t *testing.T) answerer {
	return func(_ int, form url.Values) (int, string) { return 200, webXML(webGrant(t, form)) }
}

// TestAssumeWithWebIdentity: twelve hours, by an unsigned call, with all that AssumeRole's parameters say in the token.
func TestAssumeWithWebIdentity(t *testing.T) {
	f, n := newFake(t, webGrants(t)), &notary{}
	now := time.Now().Truncate(time.Second)
	m := newMinter(t, f.URL, func(c *Config) { withNotary(n)(c); c.Now = func() time.Time { return now } })
	r := webRequest()
	r.Reason, r.Ticket = "canary reason", "OPS-17"
	got, err := m.Assume(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	calls := f.calls()
	if len(calls) != 1 || f.signed != 0 {
		t.Fatalf("%d calls, %d of them signed", len(calls), f.signed)
	}
	token := calls[0].Get("WebIdentityToken")
	wantForm := url.Values{"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {adminARN}, "RoleSessionName": {"ada@corp.example"},
		"DurationSeconds": {"43200"}, "WebIdentityToken": {token}}
	if diff := cmp.Diff(wantForm, calls[0]); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	var said map[string]any
	raw, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err := json.Unmarshal(raw, &said); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"iss": "https://sega.corp.example", "aud": "sega:admin", "sub": "usr_abcdefghijklmnopqrstuvwxyz", "jti": said["jti"],
		"iat": float64(now.Unix() - 30), "nbf": float64(now.Unix() - 30), "exp": float64(now.Unix() + 60),
		"https://aws.amazon.com/source_identity": "ada@corp.example",
		"https://aws.amazon.com/tags": map[string]any{"principal_tags": map[string]any{"sega_login": []any{r.LoginID}, "sega_request": []any{r.RequestID},
			"sega_ticket": []any{"OPS-17"}}}}
	if diff := cmp.Diff(want, said); diff != "" || len(fmt.Sprint(said["jti"])) < 20 {
		t.Errorf("token (-want +got):\n%s", diff)
	}
	wantResult := Result{AccessKeyID: "ASIAROLE000000000000", RoleARN: adminARN, AssumedRoleARN: "arn:aws:sts::222222222222:assumed-role/admin/ada@corp.example",
		AssumedRoleID: "AROAX:ada@corp.example", SourceIdentity: "ada@corp.example", SessionName: "ada@corp.example", Duration: 12 * time.Hour}
	if diff := cmp.Diff(wantResult, got, cmpopts.IgnoreFields(Result{}, "SecretAccessKey", "SessionToken", "Expiration")); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
}

// TestWebIdentityIsNotChaining: a broker that is an assumed role is not capped, and is not even asked who it is.
func TestWebIdentityIsNotChaining(t *testing.T) {
	f := newFake(t, webGrants(t))
	m := newMinter(t, f.URL, func(c *Config) { c.Tokens, c.Chained = &notary{}, aws.Bool(true) })
	got, err := m.Assume(context.Background(), webRequest())
	if err != nil || got.Duration != 12*time.Hour || len(got.Notices) > 0 || f.signed != 0 || got.Chained {
		t.Errorf("%v, %v, %q, %d signed calls, chained %v", err, got.Duration, got.Notices, f.signed, got.Chained)
	}
	c, err := m.Plan(request())
	if err != nil || c.Web != nil || c.Duration != time.Hour {
		t.Errorf("the other mode: %v, %+v", err, c)
	}
}

// TestChainFromAToken: a broker without an AWS identity goes on from the session that its token began, by
// its credentials and without a token.
func TestChainFromAToken(t *testing.T) {
	n := &notary{}
	f := newFake(t, func(i int, form url.Values) (int, string) {
		if form.Get("Action") == "AssumeRole" {
			return grants(i, form)
		}
		return 200, webXML(webGrant(t, form))
	})
	m := newMinter(t, f.URL, withNotary(n))
	first, err := m.Assume(context.Background(), webRequest())
	if err != nil {
		t.Fatal(err)
	}
	r := webRequest() // the second role's own mode counts only where it comes first
	r.RoleARN, r.Want = auditARN, time.Hour
	second, err := m.AssumeFrom(context.Background(), first, r)
	if err != nil || !second.Chained || second.RoleARN != auditARN || len(n.signed) != 1 || f.signed != 1 {
		t.Errorf("%v, %+v, %d tokens, %d signed calls", err, second, len(n.signed), f.signed)
	}
	if calls := f.calls(); len(calls) != 2 || calls[1].Get("WebIdentityToken") != "" || calls[1].Get("SourceIdentity") != "ada@corp.example" {
		t.Errorf("%d calls, the last %v", len(calls), calls[len(calls)-1])
	}
}

// TestNarrowByToken: session policies are parameters in this mode too.
func TestNarrowByToken(t *testing.T) {
	f := newFake(t, webGrants(t))
	r := webRequest()
	r.Narrow = Narrow{Policy: `{"Statement":{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}}`, PolicyARNs: []string{ReadOnlyAccess(adminARN)}}
	if _, err := newMinter(t, f.URL, withNotary(&notary{})).Assume(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	if got := f.calls()[0]; got.Get("Policy") != r.Policy || got.Get("PolicyArns.member.1.arn") != "arn:aws:iam::aws:policy/ReadOnlyAccess" {
		t.Errorf("sent %q, %q", got.Get("Policy"), got.Get("PolicyArns.member.1.arn"))
	}
}

// TestEachCallHasItsToken: what AWS refused for its length is asked for with a new token.
func TestEachCallHasItsToken(t *testing.T) {
	n := &notary{}
	f := newFake(t, func(i int, form url.Values) (int, string) {
		if i == 0 {
			return 400, errorXML("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
		}
		return 200, webXML(webGrant(t, form))
	})
	got, err := newMinter(t, f.URL, withNotary(n)).Assume(context.Background(), webRequest())
	if err != nil || got.Duration != time.Hour || len(got.Notices) != 1 {
		t.Fatalf("%v, %v, %q", err, got.Duration, got.Notices)
	}
	if len(n.signed) != 2 || n.signed[0].ID == n.signed[1].ID {
		t.Errorf("%d tokens", len(n.signed))
	}
}

func TestWebIdentityRefusals(t *testing.T) {
	tests := []struct {
		name, code, message string
		status              int
		want                Error
		hint                string
	}{
		{"no provider", "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://sega.corp.example", 400,
			Error{Kind: KindToken}, "create the IAM OIDC provider of https://sega.corp.example in account 222222222222, with the audience sega:admin"},
		{"audience", "InvalidIdentityToken", "Incorrect token audience", 400, Error{Kind: KindToken}, "add the audience sega:admin"},
		{"key", "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider", 400, Error{Kind: KindToken}, "/.well-known/jwks.json for an hour before it signs"},
		{"says nothing", "InvalidIdentityToken", "", 400, Error{Kind: KindToken}, "its audience sega:admin, and that AWS can fetch"},
		{"typed", "InvalidIdentityTokenException", "", 400, Error{Kind: KindToken}, "the IAM OIDC provider of https://sega.corp.example"},
		{"expired", "ExpiredTokenException", "Token expired", 400, Error{Kind: KindToken}, "clock of the broker's host: its tokens live 1m"},
		{"expired, short", "ExpiredToken", "Token expired", 400, Error{Kind: KindToken}, "clock of the broker's host"},
		{"claims", "IDPRejectedClaim", "", 403, Error{Kind: KindToken}, "the IAM OIDC provider of https://sega.corp.example"},
		{"issuer away", "IDPCommunicationError", "", 400, Error{Kind: KindIssuer, Retryable: true}, "https://sega.corp.example/.well-known/openid-configuration"},
		{"trust", "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403,
			Error{Kind: KindDenied, MissingPermission: "sts:AssumeRoleWithWebIdentity"}, "allow sts:AssumeRoleWithWebIdentity, sts:SetSourceIdentity and sts:TagSession to the federated principal oidc-provider/sega.corp.example, where sega.corp.example:aud is sega:admin"},
		{"tags", "AccessDenied", "Not authorized to perform: sts:TagSession", 403, Error{Kind: KindDenied, MissingPermission: "sts:TagSession"}, "allow sts:TagSession to the federated principal"},
		{"SCP", "AccessDenied", "denied with an explicit deny in a service control policy", 403, Error{Kind: KindDenied}, "explicit deny in a service control policy"},
		{"throttled", "Throttling", "", 400, Error{Kind: KindThrottled, Retryable: true}, "try again"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// AWS's text quotes the token that it refuses.
			f := newFake(t, func(_ int, form url.Values) (int, string) {
				return tt.status, errorXML(tt.code, tt.message+" "+form.Get("WebIdentityToken"))
			})
			_, err := newMinter(t, f.URL, withNotary(&notary{})).Assume(context.Background(), webRequest())
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%v is no *Error", err)
			}
			tt.want.Code = tt.code
			if diff := cmp.Diff(tt.want, *e, cmpopts.IgnoreFields(Error{}, "Detail", "Hint", "AWSRequestID"), cmpopts.IgnoreUnexported(Error{})); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("hint %q lacks %q", e.Hint, tt.hint)
			}
			leaks(t, err)
			if strings.Contains(err.Error(), "eyJ") {
				t.Errorf("a part of the token shows: %v", err)
			}
		})
	}
}

// TestWebIdentityAnswers: what is not the person's session, by our token, is dropped.
func TestWebIdentityAnswers(t *testing.T) {
	tests := []struct {
		name   string
		change func(g *granted, subject, audience *string)
		ok     bool
	}{
		{"as it is", func(*granted, *string, *string) {}, true},
		{"AWS does not say whose token", func(_ *granted, s, a *string) { *s, *a = "", "" }, true},
		{"another subject", func(_ *granted, s, _ *string) { *s = "usr_other" }, false},
		{"another audience", func(_ *granted, _, a *string) { *a = "sega:other" }, false},
		{"another source identity", func(g *granted, _, _ *string) { g.source = "eve@corp.example" }, false},
		{"no source identity", func(g *granted, _, _ *string) { g.source = "" }, false},
		{"another name", func(g *granted, _, _ *string) { g.name = "eve@corp.example" }, false},
		{"too long", func(g *granted, _, _ *string) {
			g.expiration = time.Now().Add(13 * time.Hour).UTC().Format(time.RFC3339)
		}, false},
		{"no token", func(g *granted, _, _ *string) { g.token = "" }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, func(_ int, form url.Values) (int, string) {
				g, s, a := webGrant(t, form)
				tt.change(&g, &s, &a)
				return 200, webXML(g, s, a)
			})
			_, err := newMinter(t, f.URL, withNotary(&notary{})).Assume(context.Background(), webRequest())
			var e *Error
			if tt.ok && err != nil || !tt.ok && (!errors.As(err, &e) || e.Kind != KindAnswer || !e.Ambiguous) {
				t.Errorf("got %v, want ok %v", err, tt.ok)
			}
		})
	}
}

// TestModesNeedTheirMeans: nothing is sent by a mode for which this broker is not set up.
func TestModesNeedTheirMeans(t *testing.T) {
	f := newFake(t, webGrants(t))
	forbidden := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		t.Error("credentials were looked for")
		return aws.Credentials{}, errors.New("none")
	})
	for name, c := range map[string]struct {
		request Request
		config  func(*Config)
		want    string
	}{
		"a token without an issuer":       {webRequest(), func(*Config) {}, "no OIDC issuer"},
		"AssumeRole without an identity":  {request(), func(c *Config) { withNotary(&notary{})(c); c.Credentials = forbidden }, "no AWS identity"},
		"a key that does not sign":        {webRequest(), withNotary(&notary{err: errors.New("canary of a key service")}), "could not sign"},
		"an external ID beside the token": {externally(webRequest()), withNotary(&notary{}), "no external ID"},
		"a blank in the audience":         {heard(webRequest(), "a b"), withNotary(&notary{}), "audience"},
		"an endless audience":             {heard(webRequest(), strings.Repeat("a", 256)), withNotary(&notary{}), "audience"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newMinter(t, f.URL, c.config).Assume(context.Background(), c.request)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(e.Detail, c.want) || e.Ambiguous {
				t.Errorf("got %v, want %q", err, c.want)
			}
			leaks(t, err)
		})
	}
	if n := len(f.calls()); n != 0 {
		t.Errorf("%d calls", n)
	}
}

func externally(r Request) Request {
	r.ExternalID = "ext-1"
	return r
}

func heard(r Request, audience string) Request {
	id := *r.WebIdentity
	id.Audience = audience
	r.WebIdentity = &id
	return r
}

func FuzzWithoutTokens(f *testing.F) {
	f.Add("before", "eyJhbGciOiJFUzI1NiJ9", "eyJzdWIiOiJ4In0", "c2ln")
	f.Add("", "eyJ", "", "")
	f.Fuzz(func(t *testing.T, text, header, payload, signature string) {
		got := withoutTokens(text + " eyJ" + header + "." + payload + "." + signature)
		if strings.Contains(got, "eyJ") {
			t.Errorf("%q", got)
		}
	})
}
