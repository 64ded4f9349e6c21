package awssts

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/keychain/secret"
)

const auditARN = "arn:aws:iam::333333333333:role/audit"

// before is a session of admin for ada.
func before() Result {
	return Result{AccessKeyID: "ASIABEFORE0000000000", SecretAccessKey: secret.FromString("canary-before-secret"), SessionToken: secret.FromString("canary-before-token"),
		Expiration: time.Now().Add(15 * time.Minute), RoleARN: adminARN, SourceIdentity: "ada@corp.example", SessionName: "ada@corp.example"}
}

// TestAssumeFrom: the call is signed by the session before, names the same person, sets the tags anew
// and none of them to be handed on, and is held to an hour.
func TestAssumeFrom(t *testing.T) {
	var auth, token string
	f := newFake(t, grants)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth, token = r.Header.Get("Authorization"), r.Header.Get("X-Amz-Security-Token")
		f.Config.Handler.ServeHTTP(w, r)
	}))
	defer front.Close()
	r := request()
	r.RoleARN, r.ExternalID, r.Ticket, r.Want, r.PolicyMax, r.RoleMax = auditARN, "ext-2", "OPS-17", 2*time.Hour, 4*time.Hour, 4*time.Hour
	r.Narrow = Narrow{Policy: `{"Statement":{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}}`, PolicyARNs: []string{ReadOnlyAccess(auditARN), "arn:aws:iam::333333333333:policy/x"}}
	got, err := newMinter(t, front.URL, nil).AssumeFrom(context.Background(), before(), r)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {auditARN}, "RoleSessionName": {"ada@corp.example"},
		"SourceIdentity": {"ada@corp.example"}, "ExternalId": {"ext-2"}, "DurationSeconds": {"3600"}, "Policy": {r.Policy},
		"PolicyArns.member.1.arn": {"arn:aws:iam::aws:policy/ReadOnlyAccess"}, "PolicyArns.member.2.arn": {"arn:aws:iam::333333333333:policy/x"},
		"Tags.member.1.Key": {"sega_login"}, "Tags.member.1.Value": {r.LoginID},
		"Tags.member.2.Key": {"sega_request"}, "Tags.member.2.Value": {r.RequestID},
		"Tags.member.3.Key": {"sega_ticket"}, "Tags.member.3.Value": {"OPS-17"},
	}
	if diff := cmp.Diff([]url.Values{want}, f.calls()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if !strings.Contains(auth, "Credential=ASIABEFORE0000000000/") || token != "canary-before-token" {
		t.Error("the call is not signed by the session before")
	}
	if !got.Chained || got.RoleARN != auditARN || got.Duration != time.Hour || string(got.SessionToken.Reveal()) != "role-token" {
		t.Errorf("result %+v", got)
	}
	if len(got.Notices) != 1 || got.Notices[0] != "session shortened from 2h to 1h: the role is assumed from another one, and AWS caps role chaining at one hour" {
		t.Errorf("notices %q", got.Notices)
	}
}

// TestChainedIsSaid: whoever federates must know whether a session comes of role chaining.
func TestChainedIsSaid(t *testing.T) {
	for _, chained := range []bool{true, false} {
		f := newFake(t, grants)
		got, err := newMinter(t, f.URL, func(c *Config) { c.Chained = &chained }).Assume(context.Background(), request())
		if err != nil || got.Chained != chained {
			t.Errorf("chained %v: got %v, %v", chained, got.Chained, err)
		}
	}
}

func TestAssumeFromRefuses(t *testing.T) {
	for name, change := range map[string]func(*Result, *Request){
		"another person's session": func(b *Result, _ *Request) { b.SourceIdentity = "eve@corp.example" },
		"another partition":        func(_ *Result, r *Request) { r.RoleARN = "arn:aws-cn:iam::333333333333:role/audit" },
		"no role":                  func(_ *Result, r *Request) { r.RoleARN = "" },
		"a policy that is none":    func(_ *Result, r *Request) { r.Policy = "{}" },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, grants)
			b, r := before(), request()
			change(&b, &r)
			_, err := newMinter(t, f.URL, nil).AssumeFrom(context.Background(), b, r)
			var e *Error
			if !errors.As(err, &e) || e.Kind != KindInvalid || len(f.calls()) != 0 {
				t.Errorf("%v after %d calls", err, len(f.calls()))
			}
		})
	}
}

// TestHintsOfAChain name the role whose session was refused, and not the broker.
func TestHintsOfAChain(t *testing.T) {
	for _, tt := range []struct{ code, message, hint string }{
		{"AccessDenied", "x is not authorized to perform: sts:AssumeRole on resource: y", "allow sts:AssumeRole to " + adminARN + ", and that role's policies"},
		{"AccessDenied", "Access denied", "sts:TagSession to " + adminARN + ", and that role's policies must allow them"},
		{"InvalidClientTokenId", "x", "AWS does not take the session of " + adminARN},
		{"MalformedPolicyDocument", "Syntax errors in policy.", "validate-policy"},
		{"PackedPolicyTooLarge", "Packed policy consumes 112% of allotted space", "shorten the session policy"},
	} {
		f := newFake(t, func(int, url.Values) (int, string) { return 400, errorXML(tt.code, tt.message) })
		r := request()
		r.RoleARN = auditARN
		_, err := newMinter(t, f.URL, nil).AssumeFrom(context.Background(), before(), r)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Hint, tt.hint) || strings.Contains(e.Hint, "broker's own") {
			t.Errorf("%s: hint %q", tt.code, e.Hint)
		}
		leaks(t, err)
	}
}
