package sts

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sega/keychain/secret"
)

const (
	adminARN   = "arn:aws:iam::222222222222:role/prod/admin"
	bareARN    = "arn:aws:iam::222222222222:role/bare"   // trusts, and grants no tags and no source identity
	noTagARN   = "arn:aws:iam::222222222222:role/no-tag" // grants the source identity alone
	nextARN    = "arn:aws:iam::222222222222:role/next"   // trusts sessions of admin
	partnerARN = "arn:aws:iam::333333333333:role/partner"
	brokerARN  = "arn:aws:iam::111111111111:user/broker"
	nodeARN    = "arn:aws:sts::111111111111:assumed-role/broker/i-0123"

	brokerKey, brokerSecret = "AKIABROKER0000000000", "canaryBROKERsecret0123456789012345678901"
	nodeKey, nodeSecret     = "ASIANODE000000000000", "canaryNODEsecret012345678901234567890123"
)

// clock is a wall clock that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// bench is a running double with its clock and its log.
type bench struct {
	*Server
	clock *clock
	log   *bytes.Buffer
}

func start(t *testing.T, change func(*Config)) bench {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := bench{clock: &clock{t: time.Now()}, log: &bytes.Buffer{}}
	cfg := Config{Listener: l, Region: "eu-central-1", Now: b.clock.now, Log: slog.New(slog.NewJSONHandler(b.log, nil)),
		Callers: []Caller{{brokerKey, secret.FromString(brokerSecret), brokerARN}, {nodeKey, secret.FromString(nodeSecret), nodeARN}},
		Roles: []Role{
			{ARN: adminARN, MaxDuration: 4 * time.Hour, Trusted: []string{brokerARN, "arn:aws:iam::111111111111:role/path/broker"}, AllowTag: true, AllowSourceIdentity: true},
			{ARN: bareARN, Trusted: []string{brokerARN}},
			{ARN: noTagARN, Trusted: []string{brokerARN, adminARN}, AllowSourceIdentity: true},
			{ARN: nextARN, MaxDuration: 12 * time.Hour, Trusted: []string{adminARN}, AllowTag: true, AllowSourceIdentity: true},
			{ARN: partnerARN, Trusted: []string{brokerARN}, ExternalID: "ext-1", AllowTag: true, AllowSourceIdentity: true},
		}}
	if change != nil {
		change(&cfg)
	}
	if b.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return b
}

// creds sign a request of a test.
type creds struct{ id, secret, token string }

var broker = creds{brokerKey, brokerSecret, ""}

// sign makes a signed request with the signer of this package; the tests with AWS's clients show
// that theirs agrees.
func (b bench) sign(c creds, at time.Time, region, encoded string, spoil func(*http.Request)) *http.Request {
	r, _ := http.NewRequest(http.MethodPost, b.URL()+"/", strings.NewReader(encoded))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	r.Header.Set("X-Amz-Date", at.UTC().Format(amzDate))
	a := authorization{keyID: c.id, date: at.UTC().Format("20060102"), region: region, service: "sts", headers: []string{"content-type", "host", "x-amz-date"}}
	if c.token != "" {
		r.Header.Set("X-Amz-Security-Token", c.token)
		a.headers = append(a.headers, "x-amz-security-token")
	}
	a.signature = a.sign(r, []byte(encoded), []byte(c.secret))
	r.Header.Set("Authorization", a.String())
	if spoil != nil {
		spoil(r)
	}
	return r
}

// answered is an answer of any action.
type answered struct {
	status int
	Code   string `xml:"Error>Code"`
	Text   string `xml:"Error>Message"`
	Arn    string `xml:"GetCallerIdentityResult>Arn"`
	Result struct {
		SourceIdentity string
		UserID         string    `xml:"AssumedRoleUser>AssumedRoleId"`
		Arn            string    `xml:"AssumedRoleUser>Arn"`
		ID             string    `xml:"Credentials>AccessKeyId"`
		Secret         string    `xml:"Credentials>SecretAccessKey"`
		Token          string    `xml:"Credentials>SessionToken"`
		Expiration     time.Time `xml:"Credentials>Expiration"`
	} `xml:"AssumeRoleResult"`
}

func (a answered) creds() creds { return creds{a.Result.ID, a.Result.Secret, a.Result.Token} }

func (a answered) String() string { return fmt.Sprintf("%d %s %s", a.status, a.Code, a.Text) }

func do(t *testing.T, r *http.Request) answered {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answered{status: resp.StatusCode}
	if err := xml.Unmarshal(body, &a); err != nil {
		t.Fatalf("%d %q: %v", resp.StatusCode, body, err)
	}
	if !bytes.Contains(body, []byte(namespace)) || !bytes.Contains(body, []byte("<RequestId>")) {
		t.Errorf("answer lacks namespace or request ID: %s", body)
	}
	return a
}

func (b bench) call(t *testing.T, c creds, encoded string) answered {
	t.Helper()
	return do(t, b.sign(c, b.clock.now(), "us-east-1", encoded, nil))
}

// Session policies.
const (
	readS3   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}]}`
	readOnly = "arn:aws:iam::aws:policy/ReadOnlyAccess"
)

const whoami = "Action=GetCallerIdentity&Version=2011-06-15"

// assumeForm returns the parameters of a right call, changed by kv pairs; an empty value removes.
func assumeForm(kv ...string) string {
	v := url.Values{"Action": {"AssumeRole"}, "Version": {version}, "RoleArn": {adminARN}, "RoleSessionName": {"ada@corp.example"}, "SourceIdentity": {"ada@corp.example"}}
	for i := 0; i < len(kv); i += 2 {
		v.Set(kv[i], kv[i+1])
		if kv[i+1] == "" {
			v.Del(kv[i])
		}
	}
	return v.Encode()
}

func tagForm(n int) []string {
	var kv []string
	for i := 1; i <= n; i++ {
		kv = append(kv, fmt.Sprintf("Tags.member.%d.Key", i), fmt.Sprintf("k%d", i), fmt.Sprintf("Tags.member.%d.Value", i), "v")
	}
	return kv
}

func TestAssumeRoleLimits(t *testing.T) {
	b := start(t, nil)
	x := strings.Repeat
	long := func(n int) string {
		return "arn:aws:iam::222222222222:role/" + x("p", n-len(adminARN)+len("prod/admin")-3) + "/ab"
	}
	tests := []struct {
		name string
		kv   []string
		code string // empty: done
	}{
		{"right", nil, ""},
		{"no role", []string{"RoleArn", ""}, "ValidationError"},
		{"role of 19", []string{"RoleArn", "arn:aws:iam::2:role"}, "ValidationError"},
		{"role of 2049", []string{"RoleArn", long(2049)}, "ValidationError"},
		{"role of 2048 that is none", []string{"RoleArn", long(2048)}, "AccessDenied"},
		{"no session name", []string{"RoleSessionName", ""}, "ValidationError"},
		{"session name of 1", []string{"RoleSessionName", "a"}, "ValidationError"},
		{"session name of 2", []string{"RoleSessionName", "ab"}, ""},
		{"session name of 64", []string{"RoleSessionName", x("a", 64)}, ""},
		{"session name of 65", []string{"RoleSessionName", x("a", 65)}, "ValidationError"},
		{"session name with a blank", []string{"RoleSessionName", "a b"}, "ValidationError"},
		{"session name with an accent", []string{"RoleSessionName", "adá"}, "ValidationError"},
		{"source identity of 1", []string{"SourceIdentity", "a"}, "ValidationError"},
		{"source identity of 64", []string{"SourceIdentity", x("a", 64)}, ""},
		{"source identity of 65", []string{"SourceIdentity", x("a", 65)}, "ValidationError"},
		{"source identity aws:", []string{"SourceIdentity", "aws:ada"}, "ValidationError"},
		{"899 seconds", []string{"DurationSeconds", "899"}, "ValidationError"},
		{"900 seconds", []string{"DurationSeconds", "900"}, ""},
		{"the role's maximum", []string{"DurationSeconds", "14400"}, ""},
		{"a second above it", []string{"DurationSeconds", "14401"}, "ValidationError"},
		{"above every role", []string{"DurationSeconds", "43201"}, "ValidationError"},
		{"no number", []string{"DurationSeconds", "1h"}, "ValidationError"},
		{"negative", []string{"DurationSeconds", "-900"}, "ValidationError"},
		{"external ID of 1", []string{"ExternalId", "x"}, "ValidationError"},
		{"external ID of 1224", []string{"ExternalId", x("x", 1224)}, ""},
		{"external ID of 1225", []string{"ExternalId", x("x", 1225)}, "ValidationError"},
		{"external ID with a blank", []string{"ExternalId", "a b"}, "ValidationError"},
		{"session policy", []string{"Policy", readS3}, ""},
		{"session policy of 2048", []string{"Policy", readS3 + x(" ", 2048-len(readS3))}, ""},
		{"session policy of 2049", []string{"Policy", readS3 + x(" ", 2049-len(readS3))}, "ValidationError"},
		{"session policy without a statement", []string{"Policy", `{"Version":"2012-10-17"}`}, "MalformedPolicyDocument"},
		{"session policy with no statement in it", []string{"Policy", `{"Statement":[]}`}, "MalformedPolicyDocument"},
		{"session policy without an effect", []string{"Policy", `{"Statement":{"Action":"*","Resource":"*"}}`}, "MalformedPolicyDocument"},
		{"session policy with a principal", []string{"Policy", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}}`}, "MalformedPolicyDocument"},
		{"policies of 2049 together", []string{"Policy", readS3 + x(" ", 2049-len(readS3)-len(readOnly)), "PolicyArns.member.1.arn", readOnly}, "ValidationError"},
		{"policies of 2048 together", []string{"Policy", readS3 + x(" ", 2048-len(readS3)-len(readOnly)), "PolicyArns.member.1.arn", readOnly}, ""},
		{"session policy outside Latin-1", []string{"Policy", `{"a":"Ā"}`}, "ValidationError"},
		{"session policy that is no JSON", []string{"Policy", "{"}, "MalformedPolicyDocument"},
		{"policy ARN", []string{"PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/ReadOnlyAccess"}, ""},
		{"policy ARN of another account", []string{"PolicyArns.member.1.arn", "arn:aws:iam::444444444444:policy/x"}, "ValidationError"},
		{"50 tags", tagForm(50), ""},
		{"51 tags", tagForm(51), "ValidationError"},
		{"52 tags", tagForm(52), "InvalidQueryParameter"},
		{"tag keys that differ by case", []string{"Tags.member.1.Key", "a", "Tags.member.1.Value", "1", "Tags.member.2.Key", "A", "Tags.member.2.Value", "2"}, "InvalidParameterValue"},
		{"tag key of 128", []string{"Tags.member.1.Key", x("é", 128), "Tags.member.1.Value", "1"}, ""},
		{"tag key of 129", []string{"Tags.member.1.Key", x("é", 129), "Tags.member.1.Value", "1"}, "ValidationError"},
		{"tag value of 256", []string{"Tags.member.1.Key", "k", "Tags.member.1.Value", x("é", 256)}, ""},
		{"tag value of 257", []string{"Tags.member.1.Key", "k", "Tags.member.1.Value", x("é", 257)}, "ValidationError"},
		{"tag value outside the grammar", []string{"Tags.member.1.Key", "k", "Tags.member.1.Value", "a;b"}, "ValidationError"},
		{"tag key of AWS", []string{"Tags.member.1.Key", "aws:k", "Tags.member.1.Value", "v"}, "ValidationError"},
		{"tag without a value", []string{"Tags.member.1.Key", "k"}, "ValidationError"},
		{"tags from 2", []string{"Tags.member.2.Key", "k", "Tags.member.2.Value", "v"}, "InvalidQueryParameter"},
		{"transitive tag", append(tagForm(1), "TransitiveTagKeys.member.1", "K1"), ""},
		{"transitive tag that is none", append(tagForm(1), "TransitiveTagKeys.member.1", "k2"), "InvalidParameterValue"},
		{"MFA code alone", []string{"TokenCode", "123456"}, "ValidationError"},
		{"MFA code of 5", []string{"SerialNumber", "arn:aws:iam::1:mfa/x", "TokenCode", "12345"}, "ValidationError"},
		{"MFA code", []string{"SerialNumber", "arn:aws:iam::1:mfa/x", "TokenCode", "123456"}, "AccessDenied"},
		{"unknown parameter", []string{"Reason", "x"}, "InvalidQueryParameter"},
		{"unknown list", []string{"Groups.member.1", "x"}, "InvalidQueryParameter"},
		{"unknown action", []string{"Action", "AssumeRoot"}, "InvalidAction"},
		{"web identity, signed", []string{"Action", "AssumeRoleWithWebIdentity"}, "InvalidQueryParameter"},
		{"no action", []string{"Action", ""}, "MissingAction"},
		{"old version", []string{"Version", "2010-01-01"}, "InvalidAction"},
		{"no version", []string{"Version", ""}, "InvalidAction"},
		{"unknown role", []string{"RoleArn", adminARN + "x"}, "AccessDenied"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := b.call(t, broker, assumeForm(tt.kv...))
			want := map[bool]int{true: 200, false: 400}[tt.code == ""]
			if tt.code == "AccessDenied" {
				want = 403
			}
			if got.Code != tt.code || got.status != want {
				t.Errorf("%v; want %d %s", got, want, tt.code)
			}
		})
	}
	if got := b.call(t, broker, assumeForm()+"&RoleArn=x"); got.Code != "InvalidQueryParameter" {
		t.Errorf("doubled parameter: %v", got)
	}
	if got := b.call(t, broker, assumeForm()+"&%zz"); got.Code != "InvalidQueryParameter" {
		t.Errorf("broken escape: %v", got)
	}
}

func TestTrust(t *testing.T) {
	b := start(t, nil)
	node := creds{nodeKey, nodeSecret, ""}
	tests := []struct {
		name  string
		who   creds
		kv    []string
		names string // in the message of AccessDenied; empty: done
	}{
		{"all granted", broker, tagForm(1), ""},
		{"a session of a trusted role", node, tagForm(1), ""},
		{"not trusted", broker, []string{"RoleArn", nextARN}, "perform: sts:AssumeRole on resource: " + nextARN},
		{"no source identity granted", broker, []string{"RoleArn", bareARN}, "sts:SetSourceIdentity"},
		{"no tags granted", broker, append(tagForm(1), "RoleArn", noTagARN), "sts:TagSession"},
		{"neither asked for", broker, []string{"RoleArn", bareARN, "SourceIdentity", ""}, ""},
		{"external ID missing", broker, []string{"RoleArn", partnerARN}, "sts:AssumeRole"},
		{"external ID wrong", broker, []string{"RoleArn", partnerARN, "ExternalId", "ext-2"}, "sts:AssumeRole"},
		{"external ID right", broker, []string{"RoleArn", partnerARN, "ExternalId", "ext-1"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := b.call(t, tt.who, assumeForm(tt.kv...))
			if (got.status == 200) != (tt.names == "") || !strings.Contains(got.Text, tt.names) || (tt.names != "" && got.Code != "AccessDenied") {
				t.Errorf("%v; want %q", got, tt.names)
			}
		})
	}
}

func TestChaining(t *testing.T) {
	b := start(t, nil)
	first := b.call(t, broker, assumeForm(append(tagForm(2), "TransitiveTagKeys.member.1", "k1", "DurationSeconds", "14400")...))
	if first.status != 200 {
		t.Fatal(first)
	}
	tests := []struct {
		name string
		kv   []string
		code string
	}{
		{"an hour", []string{"DurationSeconds", "3600"}, ""},
		{"an hour and a second", []string{"DurationSeconds", "3601"}, "ValidationError"},
		{"source identity inherited", []string{"SourceIdentity", ""}, ""},
		{"source identity changed", []string{"SourceIdentity", "eve@corp.example"}, "AccessDenied"},
		{"transitive tag overridden", []string{"Tags.member.1.Key", "K1", "Tags.member.1.Value", "x"}, "InvalidParameterValue"},
		{"other tag overridden", []string{"Tags.member.1.Key", "k2", "Tags.member.1.Value", "x"}, ""},
		{"inherited tags need TagSession", []string{"RoleArn", noTagARN}, "AccessDenied"},
		{"back to the first role", []string{"RoleArn", adminARN}, "AccessDenied"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := b.call(t, first.creds(), assumeForm(append([]string{"RoleArn", nextARN}, tt.kv...)...))
			if got.Code != tt.code {
				t.Fatalf("%v; want %q", got, tt.code)
			}
			if tt.code == "" && got.Result.SourceIdentity != "ada@corp.example" {
				t.Errorf("source identity %q", got.Result.SourceIdentity)
			}
		})
	}
	node := creds{nodeKey, nodeSecret, ""}
	if got := b.call(t, node, assumeForm("DurationSeconds", "3601")); got.Code != "ValidationError" || !strings.Contains(got.Text, "role chaining") {
		t.Errorf("configured role session: %v", got)
	}
}

func TestSessionCredentials(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	b := start(t, func(c *Config) { c.StateFile = state })
	one, two := b.call(t, broker, assumeForm("DurationSeconds", "900")), b.call(t, broker, assumeForm())
	if got := b.call(t, one.creds(), whoami); got.Arn != "arn:aws:sts::222222222222:assumed-role/admin/ada@corp.example" || got.Arn != one.Result.Arn {
		t.Errorf("identity %q", got.Arn)
	}
	c := one.creds()
	tests := []struct {
		name string
		who  creds
		code string
	}{
		{"no token", creds{c.id, c.secret, ""}, "InvalidClientTokenId"},
		{"token of another session", creds{c.id, c.secret, two.Result.Token}, "InvalidClientTokenId"},
		{"a byte of the token", creds{c.id, c.secret, c.token[:len(c.token)-1] + "A"}, "InvalidClientTokenId"},
		{"secret of another session", creds{c.id, two.Result.Secret, c.token}, "SignatureDoesNotMatch"},
		{"key that is none", creds{"ASIA0000000000000000", c.secret, c.token}, "InvalidClientTokenId"},
		{"long-lived key with a token", creds{brokerKey, brokerSecret, c.token}, "InvalidClientTokenId"},
		{"long-lived key, wrong secret", creds{brokerKey, "x" + brokerSecret, ""}, "SignatureDoesNotMatch"},
	}
	tests[2].who.token = c.token[:len(c.token)-1] + map[bool]string{true: "B", false: "A"}[strings.HasSuffix(c.token, "A")]
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := b.call(t, tt.who, whoami); got.Code != tt.code || got.status != 403 {
				t.Errorf("%v; want 403 %s", got, tt.code)
			}
		})
	}

	again := start(t, func(cfg *Config) { cfg.StateFile, cfg.Now = state, b.clock.now })
	again.clock = b.clock
	if got := again.call(t, c, whoami); got.Arn != one.Result.Arn {
		t.Errorf("after a restart: %v", got)
	}
	b.clock.add(one.Result.Expiration.Sub(b.clock.now()) - time.Nanosecond)
	if got := b.call(t, c, whoami); got.status != 200 {
		t.Errorf("just before its end: %v", got)
	}
	b.clock.add(time.Nanosecond)
	for name, d := range map[string]bench{"same process": b, "after a restart": again} {
		if got := d.call(t, c, whoami); got.Code != "ExpiredToken" || got.status != 403 {
			t.Errorf("%s, expired: %v", name, got)
		}
		if got := d.call(t, two.creds(), whoami); got.status != 200 {
			t.Errorf("%s, the longer session: %v", name, got)
		}
	}
}

func TestSignature(t *testing.T) {
	b := start(t, nil)
	now := b.clock.now().Truncate(time.Second)
	b.clock.add(now.Sub(b.clock.now()))
	set := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	edit := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
		}
	}
	tests := []struct {
		name   string
		at     time.Time
		region string
		spoil  func(*http.Request)
		code   string
	}{
		{"right", now, "us-east-1", nil, ""},
		{"configured region", now, "eu-central-1", nil, ""},
		{"another region", now, "eu-west-1", nil, "SignatureDoesNotMatch"},
		{"another service", now, "us-east-1", edit("/sts/", "/iam/"), "SignatureDoesNotMatch"},
		{"15 minutes late", now.Add(-15 * time.Minute), "us-east-1", nil, ""},
		{"15 minutes and a second late", now.Add(-15*time.Minute - time.Second), "us-east-1", nil, "SignatureDoesNotMatch"},
		{"15 minutes early", now.Add(15 * time.Minute), "us-east-1", nil, ""},
		{"15 minutes and a second early", now.Add(15*time.Minute + time.Second), "us-east-1", nil, "SignatureDoesNotMatch"},
		{"header changed", now, "us-east-1", set("Content-Type", "text/plain"), "SignatureDoesNotMatch"},
		{"host changed", now, "us-east-1", func(r *http.Request) { r.Host = "sts.amazonaws.com" }, "SignatureDoesNotMatch"},
		{"date changed", now, "us-east-1", set("X-Amz-Date", now.Add(time.Second).UTC().Format(amzDate)), "SignatureDoesNotMatch"},
		{"no date", now, "us-east-1", func(r *http.Request) { r.Header.Del("X-Amz-Date") }, "IncompleteSignature"},
		{"two dates", now, "us-east-1", func(r *http.Request) { r.Header.Add("X-Amz-Date", now.UTC().Format(amzDate)) }, "IncompleteSignature"},
		{"unsigned token", now, "us-east-1", set("X-Amz-Security-Token", "x"), "SignatureDoesNotMatch"},
		{"host not signed", now, "us-east-1", edit("content-type;host;", "content-type;"), "SignatureDoesNotMatch"},
		{"date not signed", now, "us-east-1", edit("host;x-amz-date", "host"), "SignatureDoesNotMatch"},
		{"body hash of another body", now, "us-east-1", set("X-Amz-Content-Sha256", hexSHA256(nil)), "SignatureDoesNotMatch"},
		{"body changed", now, "us-east-1", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(whoami + "&")); r.ContentLength++ }, "SignatureDoesNotMatch"},
		{"signature cut", now, "us-east-1", func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:len(a)-1])
		}, "IncompleteSignature"},
		{"part twice", now, "us-east-1", func(r *http.Request) {
			r.Header.Set("Authorization", r.Header.Get("Authorization")+", SignedHeaders=host")
		}, "IncompleteSignature"},
		{"two Authorization headers", now, "us-east-1", func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, "IncompleteSignature"},
		{"other algorithm", now, "us-east-1", edit(algorithm, "AWS4-ECDSA-P256-SHA256"), "IncompleteSignature"},
		{"not signed", now, "us-east-1", func(r *http.Request) { r.Header.Del("Authorization") }, "MissingAuthenticationToken"},
		{"other path", now, "us-east-1", func(r *http.Request) { r.URL.Path = "/x" }, "InvalidAction"},
		{"query beside the form", now, "us-east-1", func(r *http.Request) { r.URL.RawQuery = "Action=x" }, "InvalidQueryParameter"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := do(t, b.sign(broker, tt.at, tt.region, whoami, tt.spoil))
			if got.Code != tt.code {
				t.Errorf("%v; want %q", got, tt.code)
			}
		})
	}
}

// TestSignatureVector checks the signer against the published example of the AWS General Reference
// (GET ListUsers of IAM, 30 August 2015).
func TestSignatureVector(t *testing.T) {
	r, _ := http.NewRequest(http.MethodGet, "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", nil)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	r.Header.Set("X-Amz-Date", "20150830T123600Z")
	a := authorization{keyID: "AKIDEXAMPLE", date: "20150830", region: "us-east-1", service: "iam", headers: []string{"content-type", "host", "x-amz-date"}}
	if got, want := hexSHA256([]byte(a.canonical(r, nil))), "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"; got != want {
		t.Errorf("hash of the canonical request %s, want %s", got, want)
	}
	got := hex.EncodeToString(a.sign(r, nil, []byte("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")))
	if want := "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
}

func TestGET(t *testing.T) {
	b := start(t, nil)
	r, _ := http.NewRequest(http.MethodGet, b.URL()+"/?Version=2011-06-15&Action=GetCallerIdentity", nil)
	r.Header.Set("X-Amz-Date", b.clock.now().UTC().Format(amzDate))
	a := authorization{keyID: brokerKey, date: b.clock.now().UTC().Format("20060102"), region: "us-east-1", service: "sts", headers: []string{"host", "x-amz-date"}}
	a.signature = a.sign(r, nil, []byte(brokerSecret))
	r.Header.Set("Authorization", a.String())
	if got := do(t, r); got.Arn != brokerARN {
		t.Error(got)
	}
}

// TestLife: where a life is set, every session ends with it, whatever was asked for.
func TestLife(t *testing.T) {
	b := start(t, func(c *Config) { c.Life = 20 * time.Second })
	got := b.call(t, broker, assumeForm("DurationSeconds", "3600"))
	if left := got.Result.Expiration.Sub(b.clock.now()); left > 20*time.Second || left <= 19*time.Second {
		t.Errorf("it lives for %s", left)
	}
	b.clock.add(20 * time.Second)
	if got := b.call(t, got.creds(), whoami); got.Code != "ExpiredToken" {
		t.Errorf("after that: %v", got)
	}
}
