package broker

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/awssts"
	"sega/broker/state"
	"sega/keychain/secret"
)

// consolePolicies permit the console of some roles, and of all where none are named.
func consolePolicies(roles ...string) string {
	when := ""
	if len(roles) > 0 {
		when = ` when { ["` + strings.Join(roles, `", "`) + `"].contains(resource.name) }`
	}
	return chainPolicies + `
@id("console") @max_duration("20m")
permit (principal in Group::"engineering", action == Action::"console", resource is Role)` + when + `;`
}

// consoles stands in for AWS's federation endpoint; where pages are is the real one's business.
type consoles struct {
	*awssts.Console
	do   func(awssts.Result, awssts.Place) (awssts.SignIn, error)
	seen []awssts.Result
}

func (c *consoles) SignIn(_ context.Context, session awssts.Result, at awssts.Place) (awssts.SignIn, error) {
	copied := session // its secrets are wiped behind us
	copied.SecretAccessKey = secret.FromString(string(session.SecretAccessKey.Reveal()))
	c.seen = append(c.seen, copied)
	return c.do(session, at)
}

func withConsole(t *testing.T) (*world, *consoles) {
	t.Helper()
	w, _ := chained(t)
	console, err := awssts.NewConsole(awssts.ConsoleConfig{Issuer: origin})
	if err != nil {
		t.Fatal(err)
	}
	c := &consoles{Console: console, do: func(awssts.Result, awssts.Place) (awssts.SignIn, error) {
		return awssts.SignIn{URL: secret.FromString("https://canary-sign-in.example/")}, nil
	}}
	w.config.Consoles = c
	w.restart()
	w.setPolicies(consolePolicies())
	return w, c
}

func (p caller) console(r api.ConsoleRequest) (int, string, api.Console) {
	p.w.t.Helper()
	rec := p.do("POST", api.RouteConsole, r)
	var v api.Console
	_ = json.Unmarshal(rec.Body.Bytes(), &v)
	return rec.Code, rec.Body.String(), v
}

func consoleOf(role string, chain ...string) api.ConsoleRequest {
	return api.ConsoleRequest{CredentialsRequest: api.CredentialsRequest{Role: role, Chain: chain}}
}

// TestConsole: intent, roles, federation, outcome, and only then the address; never the credentials.
func TestConsole(t *testing.T) {
	w, c := withConsole(t)
	alice := w.login()
	ask := consoleOf("first", "second")
	ask.Service, ask.Region, ask.Reason, ask.ReadOnly = "s3", "eu-west-1", "look", true
	var during []string
	c.do = func(awssts.Result, awssts.Place) (awssts.SignIn, error) {
		during = w.trail()
		return awssts.SignIn{URL: secret.FromString("https://canary-sign-in.example/"), Seconds: 1200}, nil
	}
	code, body, got := alice.console(ask)
	if code != 200 || strings.Contains(body, "canary-secret") || strings.Contains(body, "canary-token") || strings.Contains(body, "ASIA") {
		t.Fatalf("%d: %s", code, body)
	}
	ends := w.clock.now().Add(35 * time.Minute)
	want := api.Console{URL: secret.FromString("https://canary-sign-in.example/"), LogoutURL: "https://us-east-1.signin.aws.amazon.com/oauth?Action=logout", LogoutLeadsOn: true,
		Expires: ends, Role: "second", RoleARN: arnOf("second"), Notices: []string{"of second"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"aws.console intent"}, during); diff != "" {
		t.Errorf("during: -want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"aws.console intent", "aws.console success"}, w.trail()); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
	e := w.events()[1]
	d := detailsOf[struct {
		pathDetails
		Destination string
		Until       time.Time `json:"console_until"`
		Duration    int       `json:"session_duration"`
	}](t, e)
	if e.Resource != "role/second" || e.Reason != "look" || !cmp.Equal(e.PolicyIDs, []string{"second", "first", "console"}) || strings.Contains(string(e.Details), "canary") {
		t.Errorf("%s by %q: %s", e.Resource, e.PolicyIDs, e.Details)
	}
	if len(d.Path) != 2 || d.AccessKeyID != "ASIASECOND" || !d.SessionPolicies.ReadOnly || d.Destination != "https://eu-west-1.console.aws.amazon.com/s3/home?region=eu-west-1" || !d.Until.Equal(ends) || d.Duration != 1200 {
		t.Errorf("details %+v", d)
	}
	if s := c.seen; len(s) != 1 || s[0].AccessKeyID != "ASIASECOND" || string(s[0].SecretAccessKey.Reveal()) != "canary-secret" {
		t.Errorf("federated %+v", s)
	}
	grants := w.grantsOf("alice")
	if len(grants) != 1 || !grants[0].Expires.Equal(ends) || !cmp.Equal(grants[0].Terms, state.Terms{Through: []string{"first"}, ReadOnly: true, Narrowed: true, Console: true}) {
		t.Errorf("out there: %+v", grants)
	}
	// What opened the console is nobody's to use as credentials.
	rec := alice.do("POST", api.RouteReuse, api.ReuseRequest{Role: "second", AccessKeyID: "ASIASECOND"})
	if p := problemOf(t, rec); p.Kind != api.KindNotFound && p.Kind != api.KindDenied {
		t.Errorf("reuse: %s", rec.Body)
	}
}

// TestConsoleNeedsBoth: assume and console, for the role; assume for the way to it. The shorter time of
// both holds.
func TestConsoleNeedsBoth(t *testing.T) {
	for name, c := range map[string]struct {
		ask    api.ConsoleRequest
		detail string // of the denial; "": none
	}{
		"both":                       {consoleOf("first"), ""},
		"both, by a chain":           {consoleOf("first", "second"), ""},
		"no console on the way":      {consoleOf("third", "second"), ""},
		"console alone":              {consoleOf("other"), "no policy permits assume"},
		"assume alone":               {consoleOf("third"), `no policy permits console on role "third"`},
		"forbidden to be assumed":    {consoleOf("frozen"), "frozen for the audit"},
		"not read-only":              {consoleOf("reader"), `policy "reader"`},
		"a role that does not exist": {consoleOf("no-such"), "no role"},
	} {
		t.Run(name, func(t *testing.T) {
			w, consoles := withConsole(t)
			w.setPolicies(consolePolicies("first", "second", "frozen", "other", "reader"))
			var limits []time.Duration
			inner := w.minter.do
			w.minter.do = func(r awssts.Request) (awssts.Result, error) {
				limits = append(limits, r.PolicyMax)
				return inner(r)
			}
			code, body, _ := w.login().console(c.ask)
			if c.detail == "" {
				if code != 200 || len(limits) != 1 || limits[0] != 20*time.Minute {
					t.Errorf("%d, %v: %s", code, limits, body)
				}
				return
			}
			if code != 403 || !strings.Contains(body, strings.ReplaceAll(c.detail, `"`, `\"`)) || len(limits) != 0 || len(consoles.seen) != 0 {
				t.Errorf("%d after %d calls: %s", code, len(limits), body)
			}
			if diff := cmp.Diff([]string{"aws.console denied"}, w.trail()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestConsoleIsNoLonger: a role whose permit names no time is given for an hour, and so is its console,
// however long a policy lets consoles live.
func TestConsoleIsNoLonger(t *testing.T) {
	for name, c := range map[string]struct {
		ask     api.ConsoleRequest
		console string
		want    time.Duration
	}{
		"a longer console":             {consoleOf("third"), `@max_duration("2h")`, time.Hour},
		"a shorter console":            {consoleOf("third"), `@max_duration("20m")`, 20 * time.Minute},
		"a console that names no time": {consoleOf("second"), "", 2 * time.Hour},
		"neither does":                 {consoleOf("third"), "", 0}, // AWS's default is the hour
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := withConsole(t)
			w.setPolicies(chainPolicies + `
@id("console") ` + c.console + `
permit (principal in Group::"engineering", action == Action::"console", resource is Role);`)
			var got []time.Duration
			inner := w.minter.do
			w.minter.do = func(r awssts.Request) (awssts.Result, error) {
				got = append(got, r.PolicyMax)
				return inner(r)
			}
			code, body, _ := w.login().console(c.ask)
			if diff := cmp.Diff([]time.Duration{c.want}, got); diff != "" || code != 200 {
				t.Errorf("%d: %s\n-want +got\n%s", code, body, diff)
			}
		})
	}
}

// TestConsoleFails: the outcome says what was made, and no address leaves.
func TestConsoleFails(t *testing.T) {
	for name, c := range map[string]struct {
		err     *awssts.Error
		kind    api.Kind
		outcome string
	}{
		"refused":     {&awssts.Error{Kind: awssts.KindRejected, Detail: "no (400)", Hint: "chained: true"}, api.KindUpstream, "failure"},
		"unreachable": {&awssts.Error{Kind: awssts.KindUnreachable, Detail: "no answer"}, api.KindUnreachable, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			w, consoles := withConsole(t)
			consoles.do = func(awssts.Result, awssts.Place) (awssts.SignIn, error) { return awssts.SignIn{}, c.err }
			rec := w.login().do("POST", api.RouteConsole, consoleOf("first"))
			if p := problemOf(t, rec); p.Kind != c.kind || p.Hint != c.err.Hint || strings.Contains(rec.Body.String(), "canary") {
				t.Errorf("%d: %s", rec.Code, rec.Body)
			}
			if diff := cmp.Diff([]string{"aws.console intent", "aws.console " + c.outcome}, w.trail()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			d := detailsOf[struct{ Request pathDetails }](t, w.events()[1])
			if d.Request.AccessKeyID != "ASIAFIRST" || w.grants() != 0 || w.openIntents() != 0 {
				t.Errorf("access key %q, %d grants, %d intents open", d.Request.AccessKeyID, w.grants(), w.openIntents())
			}
		})
	}
}

// TestConsoleRevokedMeanwhile (R4): what AWS gave is dropped, and the address does not leave.
func TestConsoleRevokedMeanwhile(t *testing.T) {
	w, consoles := withConsole(t)
	alice := w.login()
	inner := consoles.do
	consoles.do = func(r awssts.Result, p awssts.Place) (awssts.SignIn, error) {
		w.write(func(ctx context.Context, tx store.Tx) error {
			return state.EndSession(ctx, tx, alice.session.ID, state.EndedRevoked, w.clock.now())
		})
		return inner(r, p)
	}
	code, body, _ := alice.console(consoleOf("first"))
	if code != 403 || !strings.Contains(body, `"revoked"`) || strings.Contains(body, "canary") {
		t.Errorf("%d: %s", code, body)
	}
	if diff := cmp.Diff([]string{"aws.console intent", "aws.console revoked"}, w.trail()); diff != "" || w.grants() != 0 {
		t.Errorf("%d grants; -want +got\n%s", w.grants(), diff)
	}
	if d := detailsOf[struct{ Request pathDetails }](t, w.events()[1]); d.Request.AccessKeyID != "ASIAFIRST" {
		t.Errorf("the session that AWS made and that was dropped is named %q", d.Request.AccessKeyID)
	}
}

// TestConsoleLogFails (I1): no address leaves without its event.
func TestConsoleLogFails(t *testing.T) {
	w, _ := withConsole(t)
	alice := w.login()
	w.log.on(func(events []audit.Event) error {
		if len(events) == 1 && events[0].Outcome == audit.Success {
			return errDisk
		}
		return nil
	})
	code, body, _ := alice.console(consoleOf("first"))
	if code != 503 || strings.Contains(body, "canary") || w.grants() != 0 {
		t.Errorf("%d, %d grants: %s", code, w.grants(), body)
	}
}

// TestConsolePages: a page elsewhere is refused before anything is written or called.
func TestConsolePages(t *testing.T) {
	for name, change := range map[string]func(*api.ConsoleRequest){
		"another host":     func(r *api.ConsoleRequest) { r.Path = "//evil.example/" },
		"a user":           func(r *api.ConsoleRequest) { r.Path = "@evil.example/" },
		"another scheme":   func(r *api.ConsoleRequest) { r.Path = "javascript:alert(1)" },
		"a header":         func(r *api.ConsoleRequest) { r.Path = "/x\r\nSet-Cookie: a=b" },
		"another console":  func(r *api.ConsoleRequest) { r.Region = "cn-north-1" },
		"service and path": func(r *api.ConsoleRequest) { r.Service, r.Path = "s3", "/s3" },
		"too long a wish":  func(r *api.ConsoleRequest) { r.Seconds = 43201 },
	} {
		t.Run(name, func(t *testing.T) {
			w, consoles := withConsole(t)
			r := consoleOf("first")
			change(&r)
			code, body, _ := w.login().console(r)
			if code != 400 || len(w.events()) != 0 || w.minter.calls() != 0 || len(consoles.seen) != 0 {
				t.Errorf("%d, %d events: %s", code, len(w.events()), body)
			}
		})
	}
	w, _ := withConsole(t)
	w.config.Consoles = nil
	w.restart()
	if code, body, _ := w.login().console(consoleOf("first")); code != 400 || !strings.Contains(body, "opens no console") {
		t.Errorf("without consoles: %d %s", code, body)
	}
}
