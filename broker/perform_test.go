package broker

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sega/audit"
	"sega/audit/store"
	"sega/broker/api"
	"sega/broker/awssts"
	"sega/broker/policy"
	"sega/broker/state"
)

// TestIntentThenOutcome (R3): the intent is durable when AWS is called, the outcome before anybody
// has the credentials, and one action joins them.
func TestIntentThenOutcome(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	var during []string
	w.minter.do = func(r awssts.Request) (awssts.Result, error) {
		during = w.trail()
		if n := w.openIntents(); n != 1 {
			t.Errorf("%d intents are open during the call, want 1", n)
		}
		return minted(r)
	}
	rec := alice.assume("dev-admin")
	if rec.Code != 200 || !strings.Contains(rec.Body.String(), "canary-secret") {
		t.Fatalf("%d: %s", rec.Code, rec.Body)
	}
	if diff := cmp.Diff([]string{"aws.assume intent"}, during); diff != "" {
		t.Errorf("during the call: -want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"aws.assume intent", "aws.assume success"}, w.trail()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if w.openIntents() != 0 || w.grants() != 1 {
		t.Errorf("%d intents open, %d grants", w.openIntents(), w.grants())
	}
	intent, outcome := w.events()[0], w.events()[1]
	for _, e := range []*audit.Event{&intent, &outcome} {
		if e.ID == "" || !strings.HasPrefix(e.Action, "act_") || !strings.HasPrefix(e.RequestID, "req_") {
			t.Errorf("ID %q, action %q, request %q", e.ID, e.Action, e.RequestID)
		}
		if strings.Contains(string(e.Details), "canary") {
			t.Errorf("details leak: %s", e.Details)
		}
		e.Details, e.DetailsDigest = nil, ""
	}
	if intent.ID == outcome.ID {
		t.Error("both events have one ID")
	}
	want := audit.Event{V: 1, ID: outcome.ID, Time: w.clock.now(), Kind: "aws.assume", Outcome: audit.Success,
		Actor:   audit.Actor{Kind: "user", Iss: issuer, Sub: "alice", Email: "alice@example.com"},
		LoginID: alice.session.ID, RequestID: outcome.RequestID, Action: intent.Action, Resource: "role/dev-admin",
		PolicyDigest: w.s.Policy.Set().Digest(), PolicyIDs: []string{"dev-admin"}, Source: "192.0.2.1", Node: "node-1"}
	if diff := cmp.Diff(want, outcome); diff != "" {
		t.Errorf("outcome: -want +got\n%s", diff)
	}
	want.ID, want.Outcome = intent.ID, audit.Intent
	if diff := cmp.Diff(want, intent); diff != "" {
		t.Errorf("intent: -want +got\n%s", diff)
	}
}

// TestRefusals: what policy refuses or asks more for never reaches AWS, and is in the log with why.
func TestRefusals(t *testing.T) {
	stale := func(s *state.Session) { s.AuthTime = s.Created.Add(-time.Hour) }
	for name, c := range map[string]struct {
		role   string
		change func(*state.Session)
		ask    api.CredentialsRequest
		kind   api.Kind
		detail string
		hint   string
		ids    []string
	}{
		"no permit":             {role: "other", kind: api.KindDenied, ids: []string{}},
		"forbidden":             {role: "frozen", kind: api.KindDenied, detail: "frozen for the audit", ids: []string{"never"}},
		"unknown role":          {role: "x\x1b[2J", kind: api.KindDenied, detail: `no role "x[2J" is configured`, hint: "sega roles", ids: []string{}},
		"not in the group":      {role: "dev-admin", change: func(s *state.Session) { s.Groups = []string{"sales"} }, kind: api.KindDenied, detail: "engineering", ids: []string{}},
		"no MFA":                {role: "dev-admin", change: func(s *state.Session) { s.MFA = false }, kind: api.KindMFA, ids: []string{}},
		"no reason":             {role: "reasoned", kind: api.KindDenied, detail: "reason", hint: "--reason", ids: []string{"reasoned"}},
		"white reason":          {role: "reasoned", ask: api.CredentialsRequest{Reason: " \t "}, kind: api.KindDenied, detail: "reason", hint: "--reason", ids: []string{"reasoned"}},
		"no ticket":             {role: "ticketed", ask: api.CredentialsRequest{Reason: "x"}, kind: api.KindDenied, detail: "ticket", hint: "--ticket", ids: []string{"ticketed"}},
		"stale login":           {role: "fresh", change: stale, kind: api.KindStepUp, detail: "5m", hint: "sega login", ids: []string{"fresh"}},
		"login of unknown time": {role: "fresh", change: func(s *state.Session) { s.AuthTime = time.Time{} }, kind: api.KindStepUp, detail: "5m", hint: "sega login", ids: []string{"fresh"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.change == nil {
				c.change = func(*state.Session) {}
			}
			alice := w.login(c.change)
			c.ask.Role = c.role
			rec := alice.do("POST", api.RouteCredentials, c.ask)
			p := problemOf(t, rec)
			if p.Kind != c.kind || rec.Code != c.kind.Status() || !strings.Contains(p.Detail, c.detail) || !strings.Contains(p.Hint, c.hint) {
				t.Errorf("%d: %s", rec.Code, rec.Body)
			}
			if diff := cmp.Diff([]string{"aws.assume denied"}, w.trail()); diff != "" {
				t.Fatalf("-want +got\n%s", diff)
			}
			e := w.events()[0]
			if diff := cmp.Diff(c.ids, e.PolicyIDs); diff != "" {
				t.Errorf("policies: -want +got\n%s", diff)
			}
			var details struct{ Error struct{ Kind, Detail string } }
			if err := json.Unmarshal(e.Details, &details); err != nil || details.Error.Kind != string(c.kind) || details.Error.Detail != p.Detail {
				t.Errorf("details %s, %v", e.Details, err)
			}
			if w.minter.calls() != 0 || w.grants() != 0 {
				t.Errorf("AWS was asked %d times, %d grants", w.minter.calls(), w.grants())
			}
		})
	}
}

// TestObligationsMet: with what policy asks for, the same requests pass, and the log keeps it.
func TestObligationsMet(t *testing.T) {
	for role, ask := range map[string]api.CredentialsRequest{
		"reasoned": {Reason: "deploy \x1b[31mred"}, "ticketed": {Ticket: "OPS-1"}, "fresh": {},
	} {
		t.Run(role, func(t *testing.T) {
			w := newWorld(t)
			ask.Role = role
			if rec := w.login().do("POST", api.RouteCredentials, ask); rec.Code != 200 {
				t.Fatalf("%d: %s", rec.Code, rec.Body)
			}
			e := w.events()[1]
			if e.Reason != strings.ReplaceAll(ask.Reason, "\x1b", "") || e.Ticket != ask.Ticket || e.PolicyIDs[0] != role {
				t.Errorf("reason %q, ticket %q, policies %v", e.Reason, e.Ticket, e.PolicyIDs)
			}
		})
	}
}

// TestActFails: AWS's no is a failure, its silence is unknown; nothing is handed out, nothing stays open.
func TestActFails(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		kind    api.Kind
		outcome string
	}{
		"refused":        {&awssts.Error{Kind: awssts.KindDenied, Detail: "not authorized", Hint: "grant sts:TagSession"}, api.KindUpstream, "failure"},
		"unreachable":    {&awssts.Error{Kind: awssts.KindUnreachable, Detail: "no answer"}, api.KindUnreachable, "unknown"},
		"ambiguous":      {&awssts.Error{Kind: awssts.KindUnavailable, Detail: "500", Ambiguous: true}, api.KindUnreachable, "unknown"},
		"something else": {errors.New("canary-cause"), api.KindUpstream, "failure"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.minter.do = func(awssts.Request) (awssts.Result, error) { return awssts.Result{}, c.err }
			rec := w.login().assume("dev-admin")
			if p := problemOf(t, rec); p.Kind != c.kind || strings.Contains(rec.Body.String(), "canary") || p.Hint != "" && strings.Contains(p.Detail, p.Hint) {
				t.Errorf("%d: %s", rec.Code, rec.Body)
			}
			if diff := cmp.Diff([]string{"aws.assume intent", "aws.assume " + c.outcome}, w.trail()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if w.openIntents() != 0 || w.grants() != 0 {
				t.Errorf("%d intents open, %d grants", w.openIntents(), w.grants())
			}
		})
	}
}

// TestRevokedMeanwhile (R4): whatever ends a session between intent and outcome, what AWS gave is dropped.
func TestRevokedMeanwhile(t *testing.T) {
	for name, revoke := range map[string]func(context.Context, store.Tx, caller) error{
		"user": func(ctx context.Context, tx store.Tx, p caller) error {
			return state.BlockSubject(ctx, tx, issuer, "alice", issuer, "sam", "x")
		},
		"session": func(ctx context.Context, tx store.Tx, p caller) error {
			return state.EndSession(ctx, tx, p.session.ID, state.EndedRevoked, p.w.clock.now())
		},
		"blocked and unblocked": func(ctx context.Context, tx store.Tx, p caller) error {
			return errors.Join(state.BlockSubject(ctx, tx, issuer, "alice", issuer, "sam", "x"), state.UnblockSubject(ctx, tx, issuer, "alice"))
		},
		"recovery": func(ctx context.Context, tx store.Tx, p caller) error { return state.Recover(ctx, tx, p.w.clock.now()) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			alice := w.login()
			w.minter.do = func(r awssts.Request) (awssts.Result, error) {
				w.write(func(ctx context.Context, tx store.Tx) error { return revoke(ctx, tx, alice) })
				return minted(r)
			}
			rec := alice.assume("dev-admin")
			if p := problemOf(t, rec); p.Kind != api.KindRevoked || strings.Contains(rec.Body.String(), "canary") {
				t.Errorf("%d: %s", rec.Code, rec.Body)
			}
			if diff := cmp.Diff([]string{"aws.assume intent", "aws.assume revoked"}, w.trail()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if w.openIntents() != 0 || w.grants() != 0 {
				t.Errorf("%d intents open, %d grants", w.openIntents(), w.grants())
			}
		})
	}
}

// TestRevokedBeforeIntent: a session that ends between authentication and intent makes no call.
func TestRevokedBeforeIntent(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	w.log.on(func(events []audit.Event) error {
		if len(events) == 1 && events[0].Outcome == audit.Intent {
			w.write(func(ctx context.Context, tx store.Tx) error {
				return state.BlockSubject(ctx, tx, issuer, "alice", issuer, "sam", "x")
			})
		}
		return nil
	})
	if p := problemOf(t, alice.assume("dev-admin")); p.Kind != api.KindRevoked || w.minter.calls() != 0 {
		t.Errorf("%s, %d calls", p.Kind, w.minter.calls())
	}
	if diff := cmp.Diff([]string{"aws.assume revoked"}, w.trail()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if w.openIntents() != 0 {
		t.Error("an intent is open")
	}
}

// TestLogFails (I1): where an event cannot be made durable, what it is about is not handed out,
// and what came of AWS is never written to the client.
func TestLogFails(t *testing.T) {
	for name, c := range map[string]struct {
		fails func(audit.Event) bool
		calls int
		trail []string
		open  int
	}{
		"at the intent":  {func(e audit.Event) bool { return e.Outcome == audit.Intent }, 0, []string{}, 0},
		"at the outcome": {func(e audit.Event) bool { return e.Outcome == audit.Success }, 1, []string{"aws.assume intent"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			alice := w.login()
			w.log.on(func(events []audit.Event) error {
				if len(events) == 1 && c.fails(events[0]) {
					return errDisk
				}
				return nil
			})
			rec := alice.assume("dev-admin")
			if p := problemOf(t, rec); p.Kind != api.KindUnavailable || !strings.Contains(p.Detail, "its disk is full") || strings.Contains(rec.Body.String(), "canary") {
				t.Errorf("%d: %s", rec.Code, rec.Body)
			}
			if diff := cmp.Diff(c.trail, w.trail()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if w.minter.calls() != c.calls || w.grants() != 0 || w.openIntents() != c.open {
				t.Errorf("%d calls, %d grants, %d intents open", w.minter.calls(), w.grants(), w.openIntents())
			}
			w.log.on(nil) // service resumes by itself
			if rec := alice.assume("dev-admin"); rec.Code != 200 {
				t.Errorf("afterwards: %d: %s", rec.Code, rec.Body)
			}
		})
	}
}

// TestDenialThatCannotBeRecorded: the answer is that the log fails, not the denial.
func TestDenialThatCannotBeRecorded(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	w.log.on(func([]audit.Event) error { return errDisk })
	if p := problemOf(t, alice.assume("other")); p.Kind != api.KindUnavailable {
		t.Errorf("got %s", p.Kind)
	}
}

// TestDenialOutlivesItsRequest: a client that hangs up does not keep its denial out of the log.
func TestDenialOutlivesItsRequest(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &call{id: newRequestID(), request: httptest.NewRequest("POST", "/", nil), session: alice.session}
	op := operation{kind: "aws.assume", name: "role/other", decide: w.s.request(alice.session, policy.ActionAssume, roleResource(Role{Name: "other"}), policy.Context{}),
		act: func(context.Context, policy.Decision, string) (effect, error) {
			t.Error("acted")
			return effect{}, nil
		}}
	if _, err := w.s.perform(ctx, c, op); !api.IsKind(err, api.KindDenied) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"aws.assume denied"}, w.trail()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestOutcomeOutlivesItsRequest: a client that hangs up during the call leaves a whole pair behind.
func TestOutcomeOutlivesItsRequest(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	ctx, cancel := context.WithCancel(t.Context())
	w.minter.do = func(r awssts.Request) (awssts.Result, error) {
		cancel()
		return minted(r)
	}
	w.serve(alice.request("POST", api.RouteCredentials, api.CredentialsRequest{Role: "dev-admin"}).WithContext(ctx))
	if diff := cmp.Diff([]string{"aws.assume intent", "aws.assume success"}, w.trail()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestExternalActThatDeniesItself: an act behind an intent may find that it must not be; its intent
// is closed all the same, or the next start would call it unknown.
func TestExternalActThatDeniesItself(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	c := &call{id: newRequestID(), request: httptest.NewRequest("POST", "/", nil), session: alice.session}
	op := operation{kind: "aws.assume", name: "role/x", external: true, act: func(context.Context, policy.Decision, string) (effect, error) {
		return effect{denied: api.Errorf(api.KindDenied, "no")}, nil
	}}
	if _, err := w.s.perform(t.Context(), c, op); !api.IsKind(err, api.KindDenied) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"aws.assume intent", "aws.assume denied"}, w.trail()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if w.openIntents() != 0 {
		t.Error("the intent is open")
	}
}

// TestApplyFails: records that cannot be made are a failure in the log, and nothing is handed out.
func TestApplyFails(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	same := func(r awssts.Request) (awssts.Result, error) {
		v, err := minted(r)
		v.AccessKeyID = "ASIASAME"
		return v, err
	}
	w.minter.do = same
	if rec := alice.assume("dev-admin"); rec.Code != 200 {
		t.Fatal(rec.Body)
	}
	rec := alice.assume("dev-admin") // AWS gives the same key ID twice: it cannot be recorded
	if p := problemOf(t, rec); p.Kind != api.KindInternal || strings.Contains(rec.Body.String(), "canary") {
		t.Errorf("%d: %s", rec.Code, rec.Body)
	}
	if diff := cmp.Diff([]string{"aws.assume intent", "aws.assume success", "aws.assume intent", "aws.assume failure"}, w.trail()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if w.openIntents() != 0 {
		t.Error("the intent is open")
	}
}

// TestSettleIntents (R3): what a dead run of this node left open becomes unknown on start, once, and
// what another node has under way is left alone.
func TestSettleIntents(t *testing.T) {
	w := newWorld(t)
	alice := w.login()
	w.log.on(func(events []audit.Event) error {
		if len(events) == 1 && events[0].Outcome == audit.Success {
			return errDisk
		}
		return nil
	})
	alice.assume("dev-admin")
	w.log.on(nil)
	intent := w.events()[0]
	w.write(func(ctx context.Context, tx store.Tx) error {
		return state.OpenIntent(ctx, tx, state.Intent{Action: "act_other", Node: "node-2", Body: []byte(`{}`)})
	})
	w.clock.add(time.Minute)
	w.restart()
	w.restart()
	if diff := cmp.Diff([]string{"aws.assume intent", "aws.assume unknown"}, w.trail()); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
	got, want := w.events()[1], intent
	if got.ID == intent.ID || !strings.Contains(string(got.Details), "nothing was handed out") {
		t.Errorf("ID %s of both, details %s", got.ID, got.Details)
	}
	want.ID, want.Time, want.Outcome, want.Details, want.DetailsDigest = got.ID, w.clock.now(), audit.Unknown, got.Details, got.DetailsDigest
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if w.openIntents() != 0 {
		t.Error("the intent is open")
	}
}
