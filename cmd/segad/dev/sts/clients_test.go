package sts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssdk "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"sega/broker/awssts"
)

func provider(c creds) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: c.id, SecretAccessKey: c.secret, SessionToken: c.token}, nil
	})
}

func sdk(b bench, c creds) *awssdk.Client {
	return awssdk.New(awssdk.Options{Region: "eu-central-1", BaseEndpoint: aws.String(b.URL()), Credentials: provider(c)})
}

func TestGoSDK(t *testing.T) {
	b := start(t, nil)
	out, err := sdk(b, broker).AssumeRole(t.Context(), &awssdk.AssumeRoleInput{
		RoleArn: aws.String(adminARN), RoleSessionName: aws.String("ada@corp.example"), SourceIdentity: aws.String("ada@corp.example"),
		DurationSeconds: aws.Int32(900), Tags: []types.Tag{{Key: aws.String("k é"), Value: aws.String("a b+c/=@:.-é")}}, TransitiveTagKeys: []string{"k é"},
		PolicyArns: []types.PolicyDescriptorType{{Arn: aws.String("arn:aws:iam::aws:policy/ReadOnlyAccess")}}})
	if err != nil {
		t.Fatal(err)
	}
	cr := out.Credentials
	id, err := sdk(b, creds{*cr.AccessKeyId, *cr.SecretAccessKey, *cr.SessionToken}).GetCallerIdentity(t.Context(), &awssdk.GetCallerIdentityInput{})
	if err != nil || *id.Arn != *out.AssumedRoleUser.Arn || *id.UserId != *out.AssumedRoleUser.AssumedRoleId || *id.Account != "222222222222" {
		t.Fatalf("identity %+v, %v; want %+v", id, err, out.AssumedRoleUser)
	}
	calls := b.Calls()
	want := Call{Action: "AssumeRole", Caller: brokerARN, AccessKeyID: brokerKey, RoleARN: adminARN, SessionName: "ada@corp.example", SourceIdentity: "ada@corp.example",
		Duration: 900 * time.Second, Tags: map[string]string{"k é": "a b+c/=@:.-é"}, TransitiveTagKeys: []string{"k é"}, Issued: *cr.AccessKeyId, PolicyARNs: []string{readOnly},
		Time: calls[0].Time, RequestID: calls[0].RequestID}
	if diff := cmp.Diff(want, calls[0]); diff != "" || len(calls) != 2 || b.AssumeRoleCalls() != 1 {
		t.Errorf("%d calls, %d of AssumeRole; the first (-want +got):\n%s", len(calls), b.AssumeRoleCalls(), diff)
	}
}

func TestFaultsAndTheSDK(t *testing.T) {
	tests := []struct {
		name, code string
		status     int
		times      int
		sent       int // calls recorded
		want       string
	}{
		{"throttled twice", "Throttling", 400, 2, 3, ""},
		{"throttled thrice", "Throttling", 400, 3, 3, "Throttling"},
		{"500 without a body", "", 500, 1, 2, ""},
		{"denied is not repeated", "AccessDenied", 403, 1, 1, "AccessDenied"},
		{"typed error", "PackedPolicyTooLarge", 400, 1, 1, "PackedPolicyTooLarge"},
		{"answer lost once", FaultDrop, 0, 1, 2, ""},
		{"none", "Throttling", 400, 0, 1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := start(t, nil)
			b.FailNext(tt.code, tt.status, tt.times)
			_, err := sdk(b, broker).GetCallerIdentity(t.Context(), &awssdk.GetCallerIdentityInput{})
			var api smithy.APIError
			if got := ""; errors.As(err, &api) {
				got = api.ErrorCode()
				if got != tt.want {
					t.Errorf("code %q, want %q", got, tt.want)
				}
			} else if (err != nil) != (tt.want != "") {
				t.Errorf("%v; want %q", err, tt.want)
			}
			if n := len(b.Calls()); n != tt.sent {
				t.Errorf("%d calls, want %d", n, tt.sent)
			}
		})
	}
}

func minter(t *testing.T, b bench, c creds, timeout time.Duration) *awssts.Minter {
	t.Helper()
	m, err := awssts.New(t.Context(), awssts.Config{Region: "eu-central-1", Endpoint: b.URL(), Credentials: provider(c), Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func ask(role string) awssts.Request {
	return awssts.Request{RoleARN: role, Identity: awssts.Identity{Email: "ada@corp.example", Subject: "00u1"}, LoginID: "ses_abcdefghijkmnpqrstuv",
		RequestID: "r-1", Ticket: "OPS-17", PolicyMax: 12 * time.Hour, RoleMax: 12 * time.Hour}
}

func TestBrokersMinter(t *testing.T) {
	b := start(t, nil)
	m := minter(t, b, broker, 0)
	res, err := m.Assume(t.Context(), ask(adminARN))
	if err != nil {
		t.Fatal(err)
	}
	// RoleMax told twelve hours, the role has four: the double refuses, the minter asks for one.
	if res.Duration != time.Hour || len(res.Notices) != 1 || b.AssumeRoleCalls() != 2 {
		t.Errorf("%v after %d calls, notices %q", res.Duration, b.AssumeRoleCalls(), res.Notices)
	}
	got := b.call(t, creds{res.AccessKeyID, string(res.SecretAccessKey.Reveal()), string(res.SessionToken.Reveal())}, whoami)
	if got.Arn != res.AssumedRoleARN || !strings.HasSuffix(got.Arn, "/admin/ada@corp.example") {
		t.Errorf("the credentials are of %q", got.Arn)
	}
	calls := b.Calls()
	want := map[string]string{awssts.TagLogin: "ses_abcdefghijkmnpqrstuv", awssts.TagRequest: "r-1", awssts.TagTicket: "OPS-17"}
	if diff := cmp.Diff(want, calls[2].Tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}

	node := minter(t, b, creds{nodeKey, nodeSecret, ""}, 0)
	if chained, known := node.Chained(); !chained || !known {
		t.Error("a broker on a role does not know that it chains")
	}
	long := ask(adminARN)
	long.Want = 4 * time.Hour
	res, err = node.Assume(t.Context(), long)
	if err != nil || res.Duration != time.Hour || len(res.Notices) != 1 || !strings.Contains(res.Notices[0], "role chaining") {
		t.Errorf("chained: %+v, %v", res, err)
	}
}

func TestBrokersMinterIsRefused(t *testing.T) {
	tests := []struct {
		name, role, external string
		missing              string
	}{
		{"not trusted", nextARN, "", "sts:AssumeRole"},
		{"no source identity", bareARN, "", "sts:SetSourceIdentity"},
		{"no tags", noTagARN, "", "sts:TagSession"},
		{"external ID missing", partnerARN, "", "sts:AssumeRole"},
		{"external ID right", partnerARN, "ext-1", ""},
	}
	b := start(t, nil)
	m := minter(t, b, broker, 0)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := ask(tt.role)
			r.ExternalID, r.Want = tt.external, time.Hour
			_, err := m.Assume(t.Context(), r)
			var e *awssts.Error
			if errors.As(err, &e) != (tt.missing != "") {
				t.Fatal(err)
			}
			if e != nil && (e.Kind != awssts.KindDenied || e.MissingPermission != tt.missing || e.Ambiguous || !strings.Contains(e.Hint, brokerARN) || e.AWSRequestID == "") {
				t.Errorf("%#v", e)
			}
		})
	}
}

// TestBrokersMinterMeetsFailure also looks for the canary secrets in every error and log line.
func TestBrokersMinterMeetsFailure(t *testing.T) {
	tests := []struct {
		name      string
		fail      func(bench)
		who       creds
		kind      awssts.Kind
		ambiguous bool
	}{
		{"hang", func(b bench) { b.FailNext(FaultHang, 0, 3) }, broker, awssts.KindUnreachable, true},
		{"done, answers lost", func(b bench) { b.FailNext(FaultDrop, 0, 3) }, broker, awssts.KindUnreachable, true},
		{"throttled", func(b bench) { b.FailNext("Throttling", 400, 3) }, broker, awssts.KindThrottled, false},
		{"500", func(b bench) { b.FailNext("", 500, 3) }, broker, awssts.KindUnavailable, true},
		{"broker's session expired", func(b bench) { b.clock.add(2 * time.Hour) }, creds{}, awssts.KindCredentials, false},
		{"broker's clock is late", func(b bench) { b.clock.add(16 * time.Minute) }, broker, awssts.KindSignature, false},
		{"expired token", func(b bench) { b.FailNext("ExpiredToken", 403, 1) }, broker, awssts.KindCredentials, false},
		{"wrong secret", func(bench) {}, creds{brokerKey, brokerSecret + "x", ""}, awssts.KindSignature, false},
		{"unknown key", func(bench) {}, creds{"AKIAUNKNOWN000000000", brokerSecret, "canaryTOKEN"}, awssts.KindCredentials, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := start(t, nil)
			if tt.who.id == "" { // a session of an hour, made two hours ago
				b.clock.add(-2 * time.Hour)
				tt.who = b.call(t, broker, assumeForm("RoleArn", adminARN)).creds()
			}
			chained := false
			m, err := awssts.New(t.Context(), awssts.Config{Region: "eu-central-1", Endpoint: b.URL(), Credentials: provider(tt.who), Chained: &chained, Timeout: 4 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			tt.fail(b)
			ctx := t.Context()
			if tt.name == "hang" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
			}
			r := ask(adminARN)
			r.Want = time.Hour
			_, err = m.Assume(ctx, r)
			var e *awssts.Error
			if !errors.As(err, &e) || e.Kind != tt.kind || e.Ambiguous != tt.ambiguous {
				t.Errorf("%#v; want kind %q, ambiguous %v", e, tt.kind, tt.ambiguous)
			}
			if s := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(s, "canary") {
				t.Errorf("a secret shows: %s", s)
			}
		})
	}
}

func TestLogsHoldNoSecret(t *testing.T) {
	b := start(t, nil)
	a := b.call(t, broker, assumeForm())
	b.call(t, a.creds(), whoami)
	b.call(t, creds{brokerKey, "canaryWRONG", ""}, whoami)
	b.call(t, creds{brokerKey, brokerSecret, "canaryTOKEN"}, assumeForm())
	seen := b.log.String() + fmt.Sprintf("%+v", b.Calls())
	if strings.Count(b.log.String(), `"msg":"call"`) != 4 {
		t.Errorf("log has not a line for each call:\n%s", seen)
	}
	for _, s := range []string{"canary", a.Result.Secret, a.Result.Token} {
		if strings.Contains(seen, s) {
			t.Errorf("%q is logged or recorded:\n%s", s, seen)
		}
	}
}

// tool returns the environment for one of AWS's own clients, sent to the double by endpoint rules.
// Without the tool the test is skipped by name; where CI is set, that is a failure.
func tool(t *testing.T, b bench, c creds, path string, probe ...string) []string {
	t.Helper()
	if out, err := exec.Command(path, probe...).CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: %v %s", path, err, out)
		}
		t.Skipf("%s is missing", path)
	}
	dir := t.TempDir()
	if err := WriteEndpointRules(dir, b.URL()); err != nil {
		t.Fatal(err)
	}
	env := []string{"AWS_DATA_PATH=" + dir, "AWS_EC2_METADATA_DISABLED=true", "AWS_REGION=eu-central-1", "AWS_DEFAULT_REGION=eu-central-1", "HOME=" + dir, "PATH=/usr/bin:/bin",
		"AWS_ACCESS_KEY_ID=" + c.id, "AWS_SECRET_ACCESS_KEY=" + c.secret, "AWS_PAGER=", "AWS_ENDPOINT_URL_STS=" + b.URL(), "AWS_MAX_ATTEMPTS=1"}
	if c.token != "" {
		env = append(env, "AWS_SESSION_TOKEN="+c.token)
	}
	return env
}

func run(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const awsCLI = "/usr/bin/aws"

func TestAWSCLI(t *testing.T) {
	b := start(t, nil)
	env := tool(t, b, broker, awsCLI, "--version")
	out, err := run(t, env, awsCLI, "sts", "assume-role", "--output", "json", "--role-arn", adminARN, "--role-session-name", "ada@corp.example",
		"--source-identity", "ada@corp.example", "--duration-seconds", "900", "--tags", "Key=sega_login,Value=ses_1 +é", "--transitive-tag-keys", "sega_login")
	var a struct {
		Credentials     struct{ AccessKeyId, SecretAccessKey, SessionToken string }
		AssumedRoleUser struct{ Arn string }
	}
	if err != nil || json.Unmarshal([]byte(out), &a) != nil {
		t.Fatalf("assume-role: %v\n%s", err, out)
	}
	if got := b.Calls()[0].Tags; !cmp.Equal(got, map[string]string{"sega_login": "ses_1 +é"}) {
		t.Errorf("tags %v", got)
	}
	env = tool(t, b, creds{a.Credentials.AccessKeyId, a.Credentials.SecretAccessKey, a.Credentials.SessionToken}, awsCLI, "--version")
	if out, err = run(t, env, awsCLI, "sts", "get-caller-identity", "--output", "text", "--query", "Arn"); err != nil || strings.TrimSpace(out) != a.AssumedRoleUser.Arn {
		t.Errorf("get-caller-identity: %v\n%s", err, out)
	}
	b.clock.add(14 * time.Minute)
	if out, err = run(t, env, awsCLI, "sts", "get-caller-identity"); err != nil {
		t.Errorf("14 minutes apart: %v\n%s", err, out)
	}
	b.clock.add(2 * time.Minute)
	if out, err = run(t, env, awsCLI, "sts", "get-caller-identity"); err == nil || !strings.Contains(out, "SignatureDoesNotMatch") || !strings.Contains(out, "Signature expired") {
		t.Errorf("16 minutes apart: %v\n%s", err, out)
	}
	env = tool(t, b, creds{brokerKey, "wrong", ""}, awsCLI, "--version")
	b.clock.add(-16 * time.Minute)
	if out, err = run(t, env, awsCLI, "sts", "get-caller-identity"); err == nil || !strings.Contains(out, "(SignatureDoesNotMatch)") {
		t.Errorf("wrong secret: %v\n%s", err, out)
	}
}

const python = `
import boto3, botocore.exceptions as x
sts = boto3.client("sts")
r = sts.assume_role(RoleArn="` + adminARN + `", RoleSessionName="ada@corp.example", SourceIdentity="ada@corp.example",
    Tags=[{"Key": "t e", "Value": "a+b c/é"}])
c = r["Credentials"]
own = boto3.client("sts", aws_access_key_id=c["AccessKeyId"], aws_secret_access_key=c["SecretAccessKey"], aws_session_token=c["SessionToken"])
assert own.get_caller_identity()["Arn"] == r["AssumedRoleUser"]["Arn"]
assert c["Expiration"].tzinfo is not None and r["SourceIdentity"] == "ada@corp.example"
for error, client, args in (("AccessDenied", sts, dict(RoleArn="` + nextARN + `")), ("ValidationError", sts, dict(DurationSeconds=43200)),
                    ("InvalidClientTokenId", boto3.client("sts", aws_session_token=None, aws_access_key_id=c["AccessKeyId"], aws_secret_access_key=c["SecretAccessKey"]), {})):
    try:
        client.assume_role(**{**dict(RoleArn="` + adminARN + `", RoleSessionName="ada"), **args})
        raise SystemExit("no " + error)
    except x.ClientError as e:
        assert e.response["Error"]["Code"] == error, e
        assert len(e.response["ResponseMetadata"]["RequestId"]) == 36, e.response
print("done")
`

func TestBoto3(t *testing.T) {
	b := start(t, nil)
	env := tool(t, b, broker, "/usr/bin/python3", "-c", "import boto3")
	if out, err := run(t, env, "/usr/bin/python3", "-c", python); err != nil || strings.TrimSpace(out) != "done" {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := b.AssumeRoleCalls(); n != 3 { // the key without its token was refused before it was read
		t.Errorf("%d calls of AssumeRole", n)
	}
	if c := b.Calls()[len(b.Calls())-1]; c.Code != "InvalidClientTokenId" || c.Action != "" || c.Caller != "" {
		t.Errorf("last call %+v", c)
	}
}

// lines tells of each line that is logged.
type lines chan struct{}

func (l lines) Write(p []byte) (int, error) {
	l <- struct{}{}
	return len(p), nil
}

func TestHangEndsWithTheServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	logged := make(lines, 8)
	s, err := New(Config{Listener: l, Log: slog.New(slog.NewTextHandler(logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran, answered := make(chan error, 1), make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	s.FailNext(FaultHang, 0, 1)
	go func() {
		_, err := http.Get(s.URL())
		answered <- err
	}()
	<-logged // the request has arrived, and hangs
	select {
	case err := <-answered:
		t.Fatalf("answered while the server ran: %v", err)
	default:
	}
	cancel()
	if err := <-answered; err == nil {
		t.Error("a request that hangs got an answer")
	}
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}
}
