package awssts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// leaks fails the test where a canary shows in any way of printing v.
func leaks(t *testing.T, v any) {
	t.Helper()
	js, _ := json.Marshal(v)
	for _, s := range []string{fmt.Sprint(v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), string(js)} {
		if strings.Contains(s, "canary") {
			t.Errorf("a secret shows: %s", s)
		}
	}
}

func TestAssume(t *testing.T) {
	f := newFake(t, grants)
	m := newMinter(t, f.URL, nil)
	r := request()
	r.ExternalID, r.Reason, r.Ticket = "ext-1", "canary reason", "OPS-17"
	got, err := m.Assume(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	wantForm := url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {adminARN}, "RoleSessionName": {"ada@corp.example"},
		"SourceIdentity": {"ada@corp.example"}, "ExternalId": {"ext-1"}, "DurationSeconds": {"3600"},
		"Tags.member.1.Key": {"sega_login"}, "Tags.member.1.Value": {r.LoginID},
		"Tags.member.2.Key": {"sega_request"}, "Tags.member.2.Value": {r.RequestID},
		"Tags.member.3.Key": {"sega_ticket"}, "Tags.member.3.Value": {"OPS-17"},
	}
	if diff := cmp.Diff([]url.Values{wantForm}, f.calls()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	want := Result{AccessKeyID: "ASIAROLE000000000000", RoleARN: adminARN, AssumedRoleARN: "arn:aws:sts::222222222222:assumed-role/admin/ada@corp.example",
		AssumedRoleID: "AROAX:ada@corp.example", SourceIdentity: "ada@corp.example", SessionName: "ada@corp.example", Duration: time.Hour}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Result{}, "SecretAccessKey", "SessionToken", "Expiration")); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if string(got.SecretAccessKey.Reveal()) != "role-secret" || string(got.SessionToken.Reveal()) != "role-token" {
		t.Error("the credentials are not those of the answer")
	}
	if s := fmt.Sprintf("%+v %#v", got, got); strings.Contains(s, "role-secret") || strings.Contains(s, "role-token") {
		t.Error("a result prints its secrets")
	}
}

func TestRefusalsOfAWS(t *testing.T) {
	// What AWS writes may repeat the request; the canary stands for that.
	const leak = "canonical string: x-amz-security-token:" + canaryToken
	tests := []struct {
		name, code, message string
		status              int
		want                Error
		hint                string
	}{
		{"trust policy", "AccessDenied", "User: arn:aws:iam::1:user/b is not authorized to perform: sts:AssumeRole on resource: x", 403,
			Error{Kind: KindDenied, MissingPermission: "sts:AssumeRole"}, "external ID"},
		{"tags", "AccessDenied", "User: b is not authorized to perform: sts:TagSession on resource: x", 403,
			Error{Kind: KindDenied, MissingPermission: "sts:TagSession"}, "allow sts:TagSession to the broker's principal"},
		{"says nothing", "AccessDenied", "Access denied", 403, Error{Kind: KindDenied}, "must allow sts:AssumeRole, sts:SetSourceIdentity and sts:TagSession"},
		{"SCP", "AccessDenied", "b is not authorized to perform: sts:AssumeRole on resource: x with an explicit deny in a service control policy", 403,
			Error{Kind: KindDenied, MissingPermission: "sts:AssumeRole"}, "explicit deny in a service control policy"},
		{"expired", "ExpiredToken", leak, 403, Error{Kind: KindCredentials}, "credentials of the broker"},
		{"unknown key", "InvalidClientTokenId", leak, 403, Error{Kind: KindCredentials}, "credentials of the broker"},
		{"signature", "SignatureDoesNotMatch", leak, 403, Error{Kind: KindSignature}, "clock"},
		{"packed", "PackedPolicyTooLarge", "Packed policy consumes 112% of allotted space", 400, Error{Kind: KindPackedPolicy}, "tags"},
		{"region", "RegionDisabledException", "STS is not activated", 403, Error{Kind: KindRegion}, "activate STS"},
		{"throttled", "Throttling", leak, 400, Error{Kind: KindThrottled, Retryable: true}, "try again"},
		{"unheard of", "SomethingNew", "because", 400, Error{Kind: KindRejected}, ""},
		{"validation", "ValidationError", "1 validation error", 400, Error{Kind: KindRejected}, ""},
		{"AWS down", "InternalFailure", leak, 500, Error{Kind: KindUnavailable, Retryable: true, Ambiguous: true}, "try again"},
		{"AWS down, unheard of", "Whatever", leak, 503, Error{Kind: KindUnavailable, Retryable: true, Ambiguous: true}, "try again"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, func(int, url.Values) (int, string) { return tt.status, errorXML(tt.code, tt.message) })
			_, err := newMinter(t, f.URL, nil).Assume(context.Background(), request())
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%v is no *Error", err)
			}
			tt.want.Code = tt.code
			if diff := cmp.Diff(tt.want, *e, cmpopts.IgnoreFields(Error{}, "Detail", "Hint", "AWSRequestID"), cmpopts.IgnoreUnexported(Error{})); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if !strings.Contains(e.Hint, tt.hint) || e.AWSRequestID != "r-1" {
				t.Errorf("hint %q lacks %q, or request ID %q", e.Hint, tt.hint, e.AWSRequestID)
			}
			leaks(t, err)
		})
	}
}

func TestExternalIDIsNotQuoted(t *testing.T) {
	f := newFake(t, func(_ int, form url.Values) (int, string) {
		return 400, errorXML("ValidationError", "Value "+form.Get("ExternalId")+" at externalId\n\x1b[2J"+strings.Repeat("x", 1000))
	})
	r := request()
	r.ExternalID = "canary-external"
	_, err := newMinter(t, f.URL, nil).Assume(context.Background(), r)
	leaks(t, err)
	if err == nil || len(err.Error()) > 600 || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("%q is not made safe", err)
	}
}

func TestAmbiguity(t *testing.T) {
	const down = "InternalFailure"
	tests := []struct {
		name      string
		answer    answerer
		kind      Kind
		ambiguous bool
		ctx       error
	}{
		{"no answer", func(int, url.Values) (int, string) { return -1, "" }, KindUnreachable, true, context.DeadlineExceeded},
		{"connection cut", func(int, url.Values) (int, string) { return 0, "" }, KindUnreachable, true, nil},
		{"answer is no XML", func(int, url.Values) (int, string) { return 200, "hello" }, KindAnswer, true, nil},
		{"answer without credentials", func(_ int, f url.Values) (int, string) { return 200, granted{}.xml() }, KindAnswer, true, nil},
		{"a throttle after a 500 leaves the doubt", func(n int, _ url.Values) (int, string) {
			if n == 0 {
				return 500, errorXML(down, "")
			}
			return 403, errorXML("AccessDenied", "")
		}, KindDenied, true, nil},
		{"a plain refusal", func(int, url.Values) (int, string) { return 403, errorXML("AccessDenied", "") }, KindDenied, false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, tt.answer)
			m := newMinter(t, f.URL, func(c *Config) { c.Timeout = 20 * time.Second })
			if tt.ctx != nil {
				m = newMinter(t, f.URL, func(c *Config) { c.Timeout = time.Second })
			}
			_, err := m.Assume(context.Background(), request())
			var e *Error
			if !errors.As(err, &e) || e.Kind != tt.kind || e.Ambiguous != tt.ambiguous || (tt.ctx != nil && !errors.Is(err, tt.ctx)) {
				t.Errorf("%#v; want kind %q, ambiguous %v, context %v", e, tt.kind, tt.ambiguous, tt.ctx)
			}
			if says := strings.Contains(err.Error(), "all the same"); says != tt.ambiguous {
				t.Errorf("text %q", err)
			}
			leaks(t, err)
		})
	}
}

func TestUnreachableIsNotAmbiguous(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	_, err = newMinter(t, "http://"+l.Addr().String(), nil).Assume(context.Background(), request())
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindUnreachable || e.Ambiguous || !e.Retryable {
		t.Errorf("%#v", e)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f := newFake(t, grants)
	_, err = newMinter(t, f.URL, nil).Assume(ctx, request())
	if !errors.As(err, &e) || e.Ambiguous || !errors.Is(err, context.Canceled) {
		t.Errorf("%#v", e)
	}
	if len(f.calls()) != 0 {
		t.Error("a cancelled call was sent")
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	f := newFake(t, func(n int, form url.Values) (int, string) {
		switch n {
		case 0:
			return 500, ""
		case 1:
			return 400, errorXML("Throttling", "Rate exceeded")
		}
		return grants(n, form)
	})
	res, err := newMinter(t, f.URL, nil).Assume(context.Background(), request())
	if err != nil || len(f.calls()) != 3 || res.Unanswered != 1 {
		t.Errorf("%v after %d calls, %d unanswered; want none, 3, 1", err, len(f.calls()), res.Unanswered)
	}
}

func TestDurationNegotiation(t *testing.T) {
	const tooLong = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
	const chaining = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
	tests := []struct {
		name, message string
		want          time.Duration
		never         bool // AWS refuses the hour as well
		sent          []string
		notice        string
	}{
		{"role's maximum", tooLong, 4 * time.Hour, false, []string{"14400", "3600"}, "from 4h to 1h: AWS says that the role's"},
		{"chaining", chaining, 4 * time.Hour, false, []string{"14400", "3600"}, "role chaining"},
		{"never loops", tooLong, 4 * time.Hour, true, []string{"14400", "3600"}, ""},
		{"an hour is not tried twice", tooLong, time.Hour, true, []string{"3600"}, ""},
		{"another validation error", "1 validation error at 'roleArn'", 4 * time.Hour, true, []string{"14400"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, func(n int, form url.Values) (int, string) {
				if tt.never || form.Get("DurationSeconds") != "3600" {
					return 400, errorXML("ValidationError", tt.message)
				}
				return grants(n, form)
			})
			r := request()
			r.Want, r.PolicyMax, r.RoleMax = tt.want, 12*time.Hour, 12*time.Hour
			res, err := newMinter(t, f.URL, nil).Assume(context.Background(), r)
			var sent []string
			for _, c := range f.calls() {
				sent = append(sent, c.Get("DurationSeconds"))
			}
			if (err != nil) != tt.never || !cmp.Equal(sent, tt.sent) {
				t.Fatalf("sent %v, %v; want %v", sent, err, tt.sent)
			}
			if !tt.never && (res.Duration != time.Hour || len(res.Notices) != 1 || !strings.Contains(res.Notices[0], tt.notice)) {
				t.Errorf("%v, notices %q", res.Duration, res.Notices)
			}
		})
	}
}

// TestAnswerMustNameThePerson: credentials that could not be attributed or that outlive the call
// are dropped (R2, I3).
func TestAnswerMustNameThePerson(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*granted)
	}{
		{"no source identity", func(g *granted) { g.source = "" }},
		{"somebody else", func(g *granted) { g.source = "eve@corp.example" }},
		{"another session name", func(g *granted) { g.name = "eve@corp.example" }},
		{"a name that ends alike", func(g *granted) { g.name = "eve-ada@corp.example" }},
		{"no key", func(g *granted) { g.id = "" }},
		{"no secret", func(g *granted) { g.secret = "" }},
		{"no token", func(g *granted) { g.token = "" }},
		{"expired", func(g *granted) { g.expiration = "2020-01-01T00:00:00Z" }},
		{"a day", func(g *granted) { g.expiration = time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, func(_ int, form url.Values) (int, string) {
				g := grant(form)
				tt.spoil(&g)
				return 200, g.xml()
			})
			res, err := newMinter(t, f.URL, nil).Assume(context.Background(), request())
			var e *Error
			if !errors.As(err, &e) || e.Kind != KindAnswer || !e.Ambiguous || !res.SessionToken.Empty() {
				t.Errorf("%+v, %#v; want a refusal", res, e)
			}
		})
	}
}

func TestBrokerCredentialsFail(t *testing.T) {
	f := newFake(t, grants)
	m := newMinter(t, f.URL, func(c *Config) {
		c.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, errors.New("process said: " + canarySecret)
		})
	})
	_, err := m.Assume(context.Background(), request())
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindCredentials || e.Ambiguous {
		t.Errorf("%#v", e)
	}
	leaks(t, err)
}

func TestAssumeInParallel(t *testing.T) {
	f := newFake(t, func(n int, form url.Values) (int, string) {
		if form.Get("Action") == "GetCallerIdentity" {
			return 200, identityXML("arn:aws:iam::111111111111:user/broker")
		}
		return grants(n, form)
	})
	m := newMinter(t, f.URL, func(c *Config) { c.Chained = nil })
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			r := request()
			r.Email = fmt.Sprintf("p%d@corp.example", i)
			if res, err := m.Assume(context.Background(), r); err != nil || res.SourceIdentity != r.Email {
				t.Errorf("%s: %+v, %v", r.Email, res, err)
			}
		})
	}
	wg.Wait()
}

func FuzzMissingPermission(f *testing.F) {
	f.Add("User: arn:aws:iam::1:user/b is not authorized to perform: sts:TagSession on resource: r")
	f.Add("is not authorised to perform sts:SetSourceIdentity")
	f.Add("with an explicit deny in a \n")
	f.Fuzz(func(t *testing.T, message string) {
		p := missingPermission(message)
		if p != "" && (!strings.Contains(message, p) || strings.Count(p, ":") != 1 || strings.ContainsAny(p, " \n\x1b")) {
			t.Errorf("%q out of %q", p, message)
		}
		if h := deniedHint(Call{RoleARN: adminARN}, p, message, ""); h == "" || strings.ContainsAny(h, "\n\x1b\r") {
			t.Errorf("hint %q", h)
		}
		if s := oneLine(message, ""); strings.ContainsAny(s, "\n\r\x1b\x00\u009b") {
			t.Errorf("oneLine: %q", s)
		}
	})
}

func TestMissingPermission(t *testing.T) {
	for message, want := range map[string]string{
		"User: u is not authorized to perform: sts:TagSession on resource: r": "sts:TagSession",
		"User: u is not authorised to perform sts:SetSourceIdentity on r":     "sts:SetSourceIdentity",
		"u IS NOT AUTHORIZED TO PERFORM: [sts:AssumeRole]":                    "sts:AssumeRole",
		"Not authorized to perform\n sts:AssumeRole":                          "sts:AssumeRole",
		"not authorized to perform:":                                          "",
		"Access denied":                                                       "",
		"":                                                                    "",
	} {
		if got := missingPermission(message); got != want {
			t.Errorf("missingPermission(%q) = %q, want %q", message, got, want)
		}
	}
}
