//go:build linux

package attack

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"sega/audit"
	"sega/broker"
	"sega/broker/api"
	"sega/broker/awssts"
	"sega/cmd/segad/dev/sts"
	"sega/keychain/secret"
)

// console asks for AWS's console as dev-admin.
func (p *person) console(change ...func(*api.ConsoleRequest)) shot {
	r := api.ConsoleRequest{CredentialsRequest: api.CredentialsRequest{Role: "dev-admin"}}
	for _, f := range change {
		f(&r)
	}
	return p.post(api.RouteConsole, r)
}

// TestConsole signs a browser in at a strict federation endpoint, once, as the person, in the role.
func TestConsole(t *testing.T) {
	w := newWorld(t)
	alice := w.login("alice")
	a := w.send(alice.console(func(r *api.ConsoleRequest) { r.Service = "s3" }))
	got := into[api.Console](t, a)
	issued := w.sts.Calls()[0].Issued
	if strings.Contains(string(a.body), issued) {
		t.Errorf("the answer holds credentials: %s", a.body)
	}
	body := w.open(string(got.URL.Reveal()))
	if !strings.Contains(body, "111111111111:assumed-role/dev-admin/alice@example.com") || !strings.Contains(body, "/s3/home") {
		t.Errorf("the console shows %s", body)
	}
	if body := w.open(string(got.URL.Reveal())); strings.Contains(body, "alice") {
		t.Errorf("an address opened the console twice: %s", body)
	}
	for _, e := range w.since(0) {
		if strings.Contains(e.details, "SigninToken") {
			t.Errorf("%s holds the address: %s", e.Kind, e.details)
		}
	}
	w.attack(alice.post(api.RouteReuse, api.ReuseRequest{Role: "dev-admin", AccessKeyID: issued}), api.KindNotFound, "aws.reuse", audit.Denied)
	plan := w.revoked(w.login("sam").revoke(api.SubjectUser, "alice@example.com")).Plan
	if len(plan.AWS) != 1 || plan.AWS[0].What != "dev-admin (console)" || !plan.AWS[0].Until.Equal(got.Expires) {
		t.Errorf("still out there: %+v; the console ends %v", plan.AWS, got.Expires)
	}
}

// open is a browser that has not been anywhere.
func (w *world) open(address string) string {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	web := &http.Client{Timeout: patience, Jar: jar}
	resp, err := web.Get(address)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(body)
}

// TestConsoleOfChains: credentials of role chaining are federated without a SessionDuration, for AWS
// refuses it with them; others with theirs. The broker of these tests is itself a role.
func TestConsoleOfChains(t *testing.T) {
	w := newWorld(t)
	alice := w.login("alice")
	into[api.Console](t, w.send(alice.console()))
	into[api.Console](t, w.send(alice.console(func(r *api.ConsoleRequest) { r.Chain, r.Role = []string{"dev-audit"}, "dev-admin" })))
	for _, f := range w.console.SignInCalls() {
		if f.SessionDuration != "" || f.Status != 200 {
			t.Errorf("federated %+v", f)
		}
	}
	if n := len(w.console.SignInCalls()); n != 2 {
		t.Fatalf("%d requests for sign-in tokens", n)
	}
	session := awssts.Result{AccessKeyID: "ASIAX", SecretAccessKey: secret.FromString("x"), SessionToken: secret.FromString("x"), Duration: time.Hour}
	place, err := w.consoles.Place(adminARN, awssts.Page{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.consoles.SignIn(t.Context(), session, place); err == nil {
		t.Error("credentials of nobody were federated")
	}
}

// TestConsoleOfAUser: a broker with a key of its own chains nothing, and its console sessions last as
// long as was asked for.
func TestConsoleOfAUser(t *testing.T) {
	const userARN = "arn:aws:iam::111111111111:user/sega-broker"
	double, err := sts.New(sts.Config{Listener: listen(t), Callers: []sts.Caller{{AccessKeyID: "AKIAATTACK0000000001", SecretAccessKey: secret.FromString("s"), ARN: userARN}},
		Roles: []sts.Role{{ARN: adminARN, MaxDuration: time.Hour, Trusted: []string{userARN}, AllowTag: true, AllowSourceIdentity: true},
			{ARN: auditARN, Trusted: []string{adminARN}, AllowTag: true, AllowSourceIdentity: true}}})
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, double.Run)
	page, err := sts.NewConsole(double, listen(t))
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, page.Run)
	minter, err := awssts.New(t.Context(), awssts.Config{Region: "us-east-1", Endpoint: double.URL(), Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIAATTACK0000000001", SecretAccessKey: "s"}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	consoles, err := awssts.NewConsole(awssts.ConsoleConfig{Endpoint: page.URL(), Issuer: "https://x.invalid"})
	if err != nil {
		t.Fatal(err)
	}
	person := awssts.Identity{Email: "alice@example.com", Subject: "00ualice"}
	ask := func(arn string) awssts.Request {
		return awssts.Request{RoleARN: arn, Identity: person, LoginID: "ses_1", RequestID: "act_1"}
	}
	first, err := minter.Assume(t.Context(), ask(adminARN))
	if err != nil {
		t.Fatal(err)
	}
	second, err := minter.AssumeFrom(t.Context(), first, ask(auditARN))
	if err != nil {
		t.Fatal(err)
	}
	for _, session := range []awssts.Result{first, second} {
		place, err := consoles.Place(session.RoleARN, awssts.Page{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := consoles.SignIn(t.Context(), session, place); err != nil {
			t.Errorf("%s: %v", session.RoleARN, err)
		}
	}
	got := page.SignInCalls()
	if len(got) != 2 || got[0].SessionDuration != "3600" || got[1].SessionDuration != "" {
		t.Errorf("federated %+v", got)
	}
	// What the broker must not do is refused by the double, or the test would prove nothing.
	second.Chained = false
	place, err := consoles.Place(auditARN, awssts.Page{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consoles.SignIn(t.Context(), second, place); err == nil {
		t.Error("a chained session was federated with a SessionDuration")
	}
}

// TestConsoleElsewhere: no page of another host gets a signed-in browser, and nothing is asked of AWS.
func TestConsoleElsewhere(t *testing.T) {
	w := newWorld(t)
	alice := w.login("alice")
	for name, path := range map[string]string{
		"host": "//evil.example", "address": "https://evil.example/", "user": "@evil.example/", "port": ":80@evil.example/", "suffix": ".evil.example/",
		"backslash": `/\evil.example`, "tab": "/\t/evil.example", "script": "javascript:alert(1)", "header": "/\r\nLocation: https://evil.example",
		"NUL": "/\x00", "blank": "/ x", "quote": `/"onload="x`, "markup": "/<script>",
	} {
		t.Run(name, func(t *testing.T) {
			w := w.at(t)
			before := w.size()
			w.refused(w.send(alice.console(func(r *api.ConsoleRequest) { r.Path = path })), api.KindInvalid)
			if got := w.since(before); len(got) != 0 {
				t.Errorf("events %s", kinds(got))
			}
		})
	}
	if n := len(w.sts.Calls()); n != 0 {
		t.Errorf("AWS was asked %d times", n)
	}
}

// TestConsoleIsAnActionOfItsOwn: who may have the role's credentials has no console by that.
func TestConsoleIsAnActionOfItsOwn(t *testing.T) {
	w := newWorld(t, func(_ *world, c *broker.Config) {
		c.Roles = append(c.Roles, broker.Role{Name: "prod-readonly", ARN: "arn:aws:iam::222222222222:role/prod-readonly"})
	})
	bob, sam := w.login("bob"), w.login("sam")
	e := w.attack(bob.console(func(r *api.ConsoleRequest) { r.Role = "prod-readonly" }), api.KindDenied, "aws.console", audit.Denied)
	if e.Resource != "role/prod-readonly" || !strings.Contains(e.details, "no policy permits console") {
		t.Errorf("%s: %s", e.Resource, e.details)
	}
	w.attack(sam.console(), api.KindDenied, "aws.console", audit.Denied)
}

// TestConsoleRevokedDuringFederation: AWS has the session, and the revocation comes before the address.
func TestConsoleRevokedDuringFederation(t *testing.T) {
	w := newWorld(t)
	alice, sam := w.login("alice"), w.login("sam")
	w.minter.set(func() { w.revoked(sam.revoke("user", "alice@example.com")) })
	before := w.size()
	a := w.send(alice.console())
	w.refused(a, api.KindRevoked)
	if got := kinds(w.since(before)); got != "[aws.console intent, user.revoke success, aws.console revoked]" || strings.Contains(string(a.body), "SigninToken") {
		t.Errorf("events %s; %s", got, a.body)
	}
	if n := w.count(`SELECT count(*) FROM grants`); n != 0 {
		t.Errorf("%d grants", n)
	}
}
