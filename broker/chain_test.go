package broker

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/awssts"
	"sega/broker/state"
)

// chainPolicies permit the roles of these tests; "reader" only as AWS's ReadOnlyAccess leaves it.
const chainPolicies = policies + `
@id("first") @max_duration("30m")
permit (principal in Group::"engineering", action == Action::"assume", resource == Role::"first");
@id("second") @max_duration("2h")
permit (principal in Group::"engineering", action == Action::"assume", resource == Role::"second");
@id("third")
permit (principal in Group::"engineering", action == Action::"assume", resource == Role::"third");
@id("reader")
permit (principal in Group::"engineering", action == Action::"assume", resource == Role::"reader") when { context.readOnly };
`

// awsCall is what AWS was asked for, and by whose session.
type awsCall struct {
	Before string // access key ID
	awssts.Request
}

// chained is a world whose AWS hands on along chains.
func chained(t *testing.T) (*world, *[]awsCall) {
	w := newWorld(t, func(c *Config) {
		for _, name := range []string{"first", "second", "third", "reader"} {
			c.Roles = append(c.Roles, Role{Name: name, ARN: arnOf(name), ExternalID: "ext-" + name, MaxDuration: 2 * time.Hour})
		}
	})
	w.setPolicies(chainPolicies)
	calls := &[]awsCall{}
	w.minter.do = func(r awssts.Request) (awssts.Result, error) {
		*calls = append(*calls, awsCall{"", r})
		return session(r), nil
	}
	w.minter.from = func(before awssts.Result, r awssts.Request) (awssts.Result, error) {
		if string(before.SecretAccessKey.Reveal()) != "canary-secret" || string(before.SessionToken.Reveal()) != "canary-token" {
			t.Error("the credentials before are not those that AWS gave")
		}
		*calls = append(*calls, awsCall{before.AccessKeyID, r})
		return session(r), nil
	}
	return w, calls
}

func arnOf(role string) string { return "arn:aws:iam::111122223333:role/" + role }

func session(r awssts.Request) awssts.Result {
	v, _ := minted(r)
	_, name, _ := strings.Cut(r.RoleARN, "/")
	v.AccessKeyID, v.RoleARN, v.AssumedRoleID = "ASIA"+strings.ToUpper(name), r.RoleARN, "AROA:"+name
	v.Notices = []string{"of " + name}
	return v
}

func (w *world) setPolicies(text string) {
	w.t.Helper()
	w.mu.Lock()
	w.policy["p.cedar"].Data = []byte(text)
	w.mu.Unlock()
	if err := w.s.Policy.Reload(); err != nil {
		w.t.Fatal(err)
	}
}

// detailsOf reads the details of an event.
func detailsOf[T any](t *testing.T, e audit.Event) (v T) {
	t.Helper()
	if err := json.Unmarshal(e.Details, &v); err != nil {
		t.Fatalf("%v: %s", err, e.Details)
	}
	return v
}

type pathDetails struct {
	Path            []hop
	AccessKeyID     string          `json:"access_key_id"`
	SessionPolicies sessionPolicies `json:"session_policies"`
}

// TestChain: each role is assumed with the session of the one before, for as short as AWS gives; what
// the person gets, and what is out there, is the last one's alone.
func TestChain(t *testing.T) {
	w, calls := chained(t)
	alice := w.login()
	rec := alice.do("POST", api.RouteCredentials, api.CredentialsRequest{Role: "first", Chain: []string{"second", "third"}, Seconds: 7200, Ticket: "OPS-1", ReadOnly: true})
	if rec.Code != 200 {
		t.Fatalf("%d: %s", rec.Code, rec.Body)
	}
	var got api.Credentials
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Role != "third" || got.RoleARN != arnOf("third") || got.AccessKeyID != "ASIATHIRD" || !cmp.Equal(got.Notices, []string{"of third"}) {
		t.Errorf("got %+v", got)
	}
	action := w.events()[0].Action
	call := func(before, role string, want time.Duration) awsCall {
		return awsCall{before, awssts.Request{RoleARN: arnOf(role), ExternalID: "ext-" + role, Identity: awssts.Identity{Email: "alice@example.com", Subject: "alice"},
			LoginID: alice.session.ID, RequestID: action, Ticket: "OPS-1", Want: want, PolicyMax: 30 * time.Minute, RoleMax: 2 * time.Hour}}
	}
	want := []awsCall{call("", "first", 15*time.Minute), call("ASIAFIRST", "second", 15*time.Minute), call("ASIASECOND", "third", 2*time.Hour)}
	want[2].PolicyARNs = []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}
	if diff := cmp.Diff(want, *calls); diff != "" {
		t.Errorf("calls: -want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"aws.assume intent", "aws.assume success"}, w.trail()); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
	intent, outcome := w.events()[0], w.events()[1]
	if outcome.Resource != "role/third" || !cmp.Equal(outcome.PolicyIDs, []string{"third", "first", "second"}) || strings.Contains(string(outcome.Details), "canary") {
		t.Errorf("%s by %q: %s", outcome.Resource, outcome.PolicyIDs, outcome.Details)
	}
	made := func(role string, known bool) hop {
		h := hop{Role: role, RoleARN: arnOf(role)}
		if known {
			h.AccessKeyID, h.AssumedRoleARN, h.AssumedRoleID = "ASIA"+strings.ToUpper(role), arnOf(role)+"/alice", "AROA:"+role
			h.Expiration = time.Date(2030, 1, 2, 13, 0, 0, 0, time.UTC)
		}
		return h
	}
	narrow := sessionPolicies{ReadOnly: true, ARNs: []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}}
	if diff := cmp.Diff(pathDetails{Path: []hop{made("first", false), made("second", false), made("third", false)}, SessionPolicies: narrow}, detailsOf[pathDetails](t, intent)); diff != "" {
		t.Errorf("intent: -want +got\n%s", diff)
	}
	if diff := cmp.Diff(pathDetails{[]hop{made("first", true), made("second", true), made("third", true)}, "ASIATHIRD", narrow}, detailsOf[pathDetails](t, outcome)); diff != "" {
		t.Errorf("outcome: -want +got\n%s", diff)
	}
	grants := w.grantsOf("alice")
	if len(grants) != 1 || grants[0].AccessKeyID != "ASIATHIRD" || grants[0].Role != "third" ||
		!cmp.Equal(grants[0].Terms, state.Terms{Through: []string{"first", "second"}, ReadOnly: true, Narrowed: true}) {
		t.Errorf("out there: %+v", grants)
	}
}

func (w *world) grantsOf(sub string) (out []state.Grant) {
	w.t.Helper()
	err := w.db.Read(context.Background(), func(ctx context.Context, tx store.Querier) (err error) {
		out, err = state.GrantsOf(ctx, tx, issuer, sub, "", w.clock.now())
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// TestChainRefused: each role that is refused is a denial that names it, and AWS hears of nothing.
func TestChainRefused(t *testing.T) {
	for name, c := range map[string]struct {
		role      string
		chain     []string
		ask       api.CredentialsRequest
		kind      api.Kind
		detail    string
		resources []string // of the denials
	}{
		"the first":           {"other", []string{"second"}, api.CredentialsRequest{}, api.KindDenied, `role "other"`, []string{"role/other"}},
		"the last":            {"first", []string{"other"}, api.CredentialsRequest{}, api.KindDenied, `role "other"`, []string{"role/other"}},
		"one between":         {"first", []string{"frozen", "second"}, api.CredentialsRequest{}, api.KindDenied, "frozen for the audit", []string{"role/frozen"}},
		"two":                 {"other", []string{"second", "frozen"}, api.CredentialsRequest{}, api.KindDenied, "frozen for the audit", []string{"role/frozen", "role/other"}},
		"a reason is missing": {"reasoned", []string{"second"}, api.CredentialsRequest{}, api.KindDenied, "a reason for role/reasoned", []string{"role/reasoned"}},
		"unknown":             {"first", []string{"no-such", "second"}, api.CredentialsRequest{}, api.KindDenied, `no role "no-such"`, []string{"role/no-such"}},
		"two unknown":         {"none", []string{"no-such"}, api.CredentialsRequest{}, api.KindDenied, `no role "none"`, []string{"role/none", "role/no-such"}},
		// What narrows the last role's session does not narrow the sessions before.
		"read-only on the way": {"reader", []string{"second"}, api.CredentialsRequest{ReadOnly: true}, api.KindDenied, `policy "reader"`, []string{"role/reader"}},
		"not read-only":        {"first", []string{"reader"}, api.CredentialsRequest{}, api.KindDenied, `policy "reader"`, []string{"role/reader"}},
		"narrowed otherwise": {"first", []string{"reader"}, api.CredentialsRequest{PolicyARNs: []string{"arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"}},
			api.KindDenied, `policy "reader"`, []string{"role/reader"}},
		"twice":    {"first", []string{"second", "first"}, api.CredentialsRequest{}, api.KindInvalid, `"first" stands twice`, nil},
		"too long": {"first", slices.Repeat([]string{"x"}, maxChain+1), api.CredentialsRequest{}, api.KindInvalid, "4 further roles", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w, calls := chained(t)
			c.ask.Role, c.ask.Chain = c.role, c.chain
			p := problemOf(t, w.login().do("POST", api.RouteCredentials, c.ask))
			if p.Kind != c.kind || !strings.Contains(p.Detail, c.detail) {
				t.Errorf("%s: %s", p.Kind, p.Detail)
			}
			var resources, actions []string
			for _, e := range w.events() {
				if e.Kind != "aws.assume" || e.Outcome != audit.Denied || !strings.Contains(string(e.Details), `"error"`) {
					t.Errorf("%s %s: %s", e.Kind, e.Outcome, e.Details)
				}
				resources, actions = append(resources, e.Resource), append(actions, e.Action)
			}
			if diff := cmp.Diff(c.resources, resources); diff != "" {
				t.Errorf("denials: -want +got\n%s", diff)
			}
			if len(slices.Compact(actions)) > 1 {
				t.Errorf("the denials of one request have several actions")
			}
			if len(*calls) != 0 || w.grants() != 0 {
				t.Errorf("AWS was asked %d times, %d grants", len(*calls), w.grants())
			}
		})
	}
}

// TestLaterHopFails: the outcome says at which hop, and what AWS had made until then.
func TestLaterHopFails(t *testing.T) {
	for name, c := range map[string]struct {
		err     *awssts.Error
		kind    api.Kind
		outcome audit.Outcome
	}{
		"refused":   {&awssts.Error{Kind: awssts.KindDenied, Detail: "not authorized", Hint: "trust it"}, api.KindUpstream, audit.Failure},
		"ambiguous": {&awssts.Error{Kind: awssts.KindUnavailable, Detail: "500", Ambiguous: true}, api.KindUnreachable, audit.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := chained(t)
			w.minter.from = func(awssts.Result, awssts.Request) (awssts.Result, error) { return awssts.Result{}, c.err }
			rec := w.login().do("POST", api.RouteCredentials, api.CredentialsRequest{Role: "first", Chain: []string{"second", "third"}})
			p := problemOf(t, rec)
			if p.Kind != c.kind || !strings.HasPrefix(p.Detail, `hop 2 of 3, role "second": `) || strings.Contains(rec.Body.String(), "canary") {
				t.Errorf("%d: %s", rec.Code, rec.Body)
			}
			e := w.events()[1]
			d := detailsOf[struct {
				Request pathDetails
				Error   struct{ Detail string }
			}](t, e)
			if e.Outcome != c.outcome || e.Resource != "role/third" || d.Error.Detail != p.Detail || d.Request.AccessKeyID != "" {
				t.Errorf("%s %s: %s", e.Outcome, e.Resource, e.Details)
			}
			if path := d.Request.Path; len(path) != 3 || path[0].AccessKeyID != "ASIAFIRST" || path[1].AccessKeyID != "" || path[1].Role != "second" {
				t.Errorf("path %+v", path)
			}
			if w.openIntents() != 0 || w.grants() != 0 {
				t.Errorf("%d intents open, %d grants", w.openIntents(), w.grants())
			}
		})
	}
}

// TestRevokedBetweenHops (R4): after the revocation no further role is assumed, and nothing leaves.
func TestRevokedBetweenHops(t *testing.T) {
	w, calls := chained(t)
	alice := w.login()
	first := w.minter.do
	w.minter.do = func(r awssts.Request) (awssts.Result, error) {
		w.write(func(ctx context.Context, tx store.Tx) error {
			return state.BlockSubject(ctx, tx, issuer, "alice", issuer, "sam", "x")
		})
		return first(r)
	}
	rec := alice.do("POST", api.RouteCredentials, api.CredentialsRequest{Role: "first", Chain: []string{"second"}})
	if p := problemOf(t, rec); p.Kind != api.KindRevoked || strings.Contains(rec.Body.String(), "canary") {
		t.Errorf("%d: %s", rec.Code, rec.Body)
	}
	if diff := cmp.Diff([]string{"aws.assume intent", "aws.assume revoked"}, w.trail()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(*calls) != 1 || w.openIntents() != 0 || w.grants() != 0 {
		t.Errorf("AWS was asked %d times, %d intents open, %d grants", len(*calls), w.openIntents(), w.grants())
	}
}

// TestReuseOfAChain (R12): credentials are used again only while policy permits every role that they
// came through, on the terms on which they were made.
func TestReuseOfAChain(t *testing.T) {
	w, _ := chained(t)
	alice := w.login()
	for _, ask := range []api.CredentialsRequest{{Role: "first", Chain: []string{"second"}}, {Role: "reader", ReadOnly: true}} {
		if rec := alice.do("POST", api.RouteCredentials, ask); rec.Code != 200 {
			t.Fatalf("%d: %s", rec.Code, rec.Body)
		}
	}
	second := api.ReuseRequest{Role: "second", AccessKeyID: "ASIASECOND"}
	reuse := func(r api.ReuseRequest) (int, audit.Event) {
		rec := alice.do("POST", api.RouteReuse, r)
		all := w.events()
		return rec.Code, all[len(all)-1]
	}
	if code, e := reuse(second); code != 200 || !cmp.Equal(e.PolicyIDs, []string{"second", "first"}) || !strings.Contains(string(e.Details), `"through":["first"]`) {
		t.Errorf("%d by %q: %s", code, e.PolicyIDs, e.Details)
	}
	if code, _ := reuse(api.ReuseRequest{Role: "reader", AccessKeyID: "ASIAREADER"}); code != 200 {
		t.Errorf("read-only: %d", code)
	}
	w.setPolicies(strings.ReplaceAll(chainPolicies, `Role::"first"`, `Role::"nothing"`))
	if code, e := reuse(second); code != 403 || e.Resource != "role/first" || e.Outcome != audit.Denied {
		t.Errorf("without the first role: %d, %s %s", code, e.Resource, e.Outcome)
	}
	w.setPolicies(strings.ReplaceAll(chainPolicies, "context.readOnly", "!context.readOnly"))
	if code, _ := reuse(api.ReuseRequest{Role: "reader", AccessKeyID: "ASIAREADER"}); code != 403 {
		t.Errorf("read-only, which is permitted no more: %d", code)
	}
	w.setPolicies(chainPolicies)
	w.config.Roles = slices.DeleteFunc(w.config.Roles, func(r Role) bool { return r.Name == "first" })
	w.restart()
	if code, e := reuse(second); code != 403 || e.Resource != "role/first" {
		t.Errorf("with the first role gone from the configuration: %d, %s", code, e.Resource)
	}
}

// TestSessionPolicies: what AWS would not take is refused before anything is written or called, and
// what it takes goes there without white space, and into the log with its digest.
func TestSessionPolicies(t *testing.T) {
	const policy = `{ "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}] }`
	const readOnly, own = "arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::111122223333:policy/team/own"
	for name, c := range map[string]struct {
		ask    api.CredentialsRequest
		detail string // of the refusal; "": none
		want   awssts.Narrow
	}{
		"nothing":                {},
		"policy":                 {ask: api.CredentialsRequest{Policy: policy}, want: awssts.Narrow{Policy: strings.ReplaceAll(policy, " ", "")}},
		"ARNs":                   {ask: api.CredentialsRequest{PolicyARNs: []string{readOnly, own}}, want: awssts.Narrow{PolicyARNs: []string{readOnly, own}}},
		"read-only":              {ask: api.CredentialsRequest{ReadOnly: true}, want: awssts.Narrow{PolicyARNs: []string{readOnly}}},
		"read-only and more":     {ask: api.CredentialsRequest{ReadOnly: true, Policy: policy}, detail: "goes with no other session policy"},
		"read-only and an ARN":   {ask: api.CredentialsRequest{ReadOnly: true, PolicyARNs: []string{own}}, detail: "goes with no other session policy"},
		"no JSON":                {ask: api.CredentialsRequest{Policy: "{"}, detail: "not a JSON object"},
		"too long":               {ask: api.CredentialsRequest{Policy: strings.Replace(policy, "s3:Get*", strings.Repeat("x", 2048), 1)}, detail: "AWS takes 2048"},
		"of another account":     {ask: api.CredentialsRequest{PolicyARNs: []string{strings.Replace(own, "1111", "9999", 1)}}, detail: "of account 999922223333"},
		"of another partition":   {ask: api.CredentialsRequest{PolicyARNs: []string{strings.Replace(readOnly, "aws:", "aws-cn:", 1)}}, detail: "partition aws"},
		"no ARN of a policy":     {ask: api.CredentialsRequest{PolicyARNs: []string{arnOf("dev-admin")}}, detail: "policy ARN 1 is not one"},
		"eleven":                 {ask: api.CredentialsRequest{PolicyARNs: slices.Repeat([]string{own}, 11)}, detail: "10 at most"},
		"white space is nothing": {ask: api.CredentialsRequest{Policy: policy + strings.Repeat("\n", 5000)}, want: awssts.Narrow{Policy: strings.ReplaceAll(policy, " ", "")}},
	} {
		t.Run(name, func(t *testing.T) {
			w, calls := chained(t)
			c.ask.Role = "dev-admin"
			rec := w.login().do("POST", api.RouteCredentials, c.ask)
			if c.detail != "" {
				if p := problemOf(t, rec); p.Kind != api.KindInvalid || !strings.Contains(p.Detail, c.detail) || len(w.events()) != 0 || len(*calls) != 0 {
					t.Errorf("%s: %s; %d events, %d calls", p.Kind, p.Detail, len(w.events()), len(*calls))
				}
				return
			}
			if rec.Code != 200 {
				t.Fatalf("%d: %s", rec.Code, rec.Body)
			}
			if diff := cmp.Diff(c.want, (*calls)[0].Narrow); diff != "" {
				t.Errorf("AWS: -want +got\n%s", diff)
			}
			got := detailsOf[pathDetails](t, w.events()[1]).SessionPolicies
			if got.Policy != c.want.Policy || len(got.ARNs) != len(c.want.PolicyARNs) || got.ReadOnly != c.ask.ReadOnly || (len(got.PolicySHA256) == 64) != (c.want.Policy != "") {
				t.Errorf("log: %+v", got)
			}
		})
	}
}

// TestPlanNamesTheWay: what a revocation leaves out there is named with the roles that it came through.
func TestPlanNamesTheWay(t *testing.T) {
	for what, g := range map[string]state.Grant{
		"a":                {Role: "a"},
		"b (through a)":    {Role: "b", Terms: state.Terms{Through: []string{"a"}}},
		"c (through a, b)": {Role: "c", Terms: state.Terms{Through: []string{"a", "b"}, ReadOnly: true, Narrowed: true}},
		"a (console)":      {Role: "a", Terms: state.Terms{Console: true}},
	} {
		if got := whatOf(g); got != what {
			t.Errorf("got %q, want %q", got, what)
		}
	}
}
