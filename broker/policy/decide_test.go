package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// errs is a forbid that passes the schema and fails in evaluation: it is R8's attack, for the
// verdict without it is allow.
const errs = `@id("overflow") forbid (principal, action, resource)
when { context.now.offset(duration("9223372036854775807ms")) < context.now };`

// decided compares all of a decision but its digest and, where want has none, its Reason.
func decided(t *testing.T, s *Set, r Request, want Decision) {
	t.Helper()
	got := s.Decide(r)
	if got.Digest != s.Digest() {
		t.Errorf("digest %q, that of the set is %q", got.Digest, s.Digest())
	}
	if got.Allow == (got.Reason != "") || got.Allow == (got.Cause != "") {
		t.Errorf("allow %v with cause %q and reason %q", got.Allow, got.Cause, got.Reason)
	}
	opts := cmp.Options{cmpopts.IgnoreFields(Decision{}, "Digest", "Errors"), cmpopts.EquateEmpty()}
	if want.Reason == "" {
		opts = append(opts, cmpopts.IgnoreFields(Decision{}, "Reason"))
	}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
	if got.PolicyIDs == nil {
		t.Error("PolicyIDs is nil")
	}
}

func allowed(ids ...string) Decision { return Decision{Allow: true, PolicyIDs: ids} }

func TestErrorInEvaluationDenies(t *testing.T) {
	want := Decision{Cause: CauseError, PolicyIDs: []string{"overflow"},
		Reason: `assume on role "prod" is denied because policy "overflow" could not be evaluated; ask those who keep the policies to mend it`}
	for name, source := range map[string]string{
		"datetime overflow in a forbid": errs,
		"long overflow in a forbid":     `@id("overflow") forbid (principal, action, resource) when { 9223372036854775807 + 1 > 0 };`,
		"long overflow in a permit":     `@id("overflow") permit (principal, action, resource) when { 9223372036854775807 * 2 > 0 };`,
		"negation overflow": `@id("overflow") permit (principal, action, resource)
			unless { -(-9223372036854775808) == 1 };`,
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Load(folder("p.cedar", everything, "q.cedar", source))
			if err != nil {
				t.Fatal(err)
			}
			decided(t, s, ask(), want)
			if d := s.Decide(ask()); len(d.Errors) != 1 || !strings.HasPrefix(d.Errors[0], "q.cedar:1: ") {
				t.Errorf("errors for the log: %q", d.Errors)
			}
		})
	}
}

func TestErrorElsewhereDoesNotDeny(t *testing.T) {
	s := load(t, everything, strings.Replace(errs, "action,", `action == Action::"replay",`, 1))
	decided(t, s, ask(), allowed("all"))
	decided(t, s, ask(on(ActionReplay, TypeRecording, "ssh_1")), Decision{Cause: CauseError, PolicyIDs: []string{"overflow"}})
}

func TestForbidWins(t *testing.T) {
	s := load(t, everything,
		`@id("f2") @reason("freeze") forbid (principal, action, resource == Role::"prod");`,
		`@id("f1") forbid (principal in Group::"left", action, resource);`)
	decided(t, s, ask(in("left")), Decision{Cause: CauseForbid, PolicyIDs: []string{"f1", "f2"},
		Reason: `assume on role "prod" is forbidden by policy "f1"; policy "f2": freeze`})
	decided(t, s, ask(on(ActionAssume, TypeRole, "dev")), allowed("all"))
}

func TestDefaultDeny(t *testing.T) {
	s := load(t, `@id("only") permit (principal == User::"https://idp.example|bob", action, resource);`)
	decided(t, s, ask(), Decision{Cause: CauseNoPermit, Reason: `no policy permits assume on role "prod"`})
	decided(t, load(t, `@id("f") forbid (principal, action, resource == Role::"x");`), ask(), Decision{Cause: CauseNoPermit})
	var none *Set
	decided(t, none, ask(), Decision{Cause: CauseNoPolicy})
}

func TestIdentityIsIssuerAndSubject(t *testing.T) {
	s := load(t, `@id("alice") permit (principal == User::"https://idp.example|alice", action, resource);`)
	decided(t, s, ask(), allowed("alice"))
	for name, p := range map[string]Principal{
		"same subject and e-mail, other issuer":  {Issuer: other, Subject: "alice", Email: "alice@corp.example"},
		"same e-mail, other subject":             {Issuer: issuer, Subject: "mallory", Email: "alice@corp.example"},
		"e-mail that looks like the entity ID":   {Issuer: issuer, Subject: "mallory", Email: "https://idp.example|alice"},
		"group that looks like the entity ID":    {Issuer: issuer, Subject: "mallory", Groups: []string{"https://idp.example|alice"}},
		"machine with the user's entity ID":      {Subject: "https://idp.example|alice", Kind: KindMachine},
		"bar moved from subject to issuer":       {Issuer: "https://idp.example|alice", Subject: ""},
		"bar in the issuer":                      {Issuer: "https://idp.example|alice", Subject: "x"},
		"no issuer":                              {Subject: "https://idp.example|alice"},
		"issuer with a slash more":               {Issuer: issuer + "/", Subject: "alice"},
		"subject in capitals":                    {Issuer: issuer, Subject: "Alice"},
		"kind that nobody knows":                 {Issuer: issuer, Subject: "alice", Kind: "User"},
		"subject that continues the entity's ID": {Issuer: issuer, Subject: "alice\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			if p.Kind == "" {
				p.Kind = KindUser
			}
			if d := s.Decide(ask(func(r *Request) { r.Principal = p })); d.Allow {
				t.Errorf("allowed: %+v", d)
			}
		})
	}
}

func TestUserIDsDoNotCollide(t *testing.T) {
	seen := map[string][2]string{}
	for _, iss := range []string{"a", "a|", "|", "ab", "https://x|y", issuer} {
		for _, sub := range []string{"b", "|b", "b|c", "auth0|b", "", "|"} {
			e, err := userEntity(iss, sub, "")
			if err != nil {
				continue
			}
			id := string(e.UID.ID)
			if first, dup := seen[id]; dup {
				t.Errorf("%q is both %q and %q", id, first, [2]string{iss, sub})
			}
			seen[id] = [2]string{iss, sub}
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d identities were tried", len(seen))
	}
}

func TestGroupsNamedOddly(t *testing.T) {
	for name, c := range map[string]struct{ literal, group string }{
		"quotes":            {`a \"b\" c`, `a "b" c`},
		"backslash":         {`CORP\\admins`, `CORP\admins`},
		"distinguished":     {`CN=Ops,OU=Groups,DC=corp`, `CN=Ops,OU=Groups,DC=corp`},
		"looks like Cedar":  {`x\", action, resource); //`, `x", action, resource); //`},
		"umlaut":            {`Bereitschaft-Süd`, `Bereitschaft-Süd`},
		"line feed":         {`a\nb`, "a\nb"},
		"escape":            {`\u{1b}[31m`, "\x1b[31m"},
		"empty":             {``, ``},
		"blank":             {` `, ` `},
		"the type's prefix": {`Group::\"x\"`, `Group::"x"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, fmt.Sprintf(`@id("odd") permit (principal in Group::"%s", action, resource);`, c.literal))
			decided(t, s, ask(in(c.group, "other")), allowed("odd"))
			decided(t, s, ask(in(c.group+"x", "other")), Decision{Cause: CauseNoPermit, Missing: []string{c.group},
				Reason: fmt.Sprintf(`no policy permits assume on role "prod": it needs group %q (policy "odd")`, c.group)})
			if d := s.Decide(ask()); strings.ContainsAny(d.Reason, "\x1b\n") {
				t.Errorf("a control character in what a person reads: %q", d.Reason)
			}
		})
	}
}

func TestMFAIsNeededUnlessAPermitWaivesIt(t *testing.T) {
	s := load(t, everything, `@id("waived") @no_mfa("allowed") @max_duration("5m")
		permit (principal in Group::"kiosk", action, resource);`)
	decided(t, s, ask(noMFA), Decision{Cause: CauseMFA})
	decided(t, s, ask(noMFA, in("kiosk")), Decision{Allow: true, PolicyIDs: []string{"waived"},
		Obligations: Obligations{MaxDuration: 5 * time.Minute}})
	decided(t, s, ask(in("kiosk")), allowed("all", "waived"))
	decided(t, s, ask(noMFA, in("kiosk"), on(ActionRevoke, TypeUser, issuer+"|bob")), Decision{Allow: true,
		PolicyIDs: []string{"waived"}, Obligations: Obligations{MaxDuration: 5 * time.Minute}})
	decided(t, s, ask(machine, on(ActionVerifyLog, TypeAuditLog, "log"), noMFA), allowed("all"))
}

// TestRevokeCertificates: whose one is, and of which profile, policies may ask.
func TestRevokeCertificates(t *testing.T) {
	s := load(t, `@id("own") permit (principal, action == Action::"revoke", resource is Certificate) when { resource has owner && resource.owner == principal.id };`,
		`@id("hosts") permit (principal in Group::"infra", action == Action::"revoke", resource is Certificate) when { resource.profile == "host" };`,
		`@id("web") permit (principal in Group::"infra", action in [Action::"revoke", Action::"unblock"], resource is Host) when { resource.hasTag("env") && resource.getTag("env") == "test" };`)
	cert := func(profile, owner string) func(*Request) {
		return func(r *Request) {
			r.Action, r.Resource = ActionRevoke, Resource{Type: TypeCertificate, ID: profile + "/7", Profile: profile}
			if owner != "" {
				r.Resource.Owner, r.Resource.OwnerIssuer = owner, issuer
			}
		}
	}
	host := func(action, env string) func(*Request) {
		return func(r *Request) {
			r.Action, r.Resource = action, Resource{Type: TypeHost, ID: "web-1", Labels: map[string]string{"env": env}}
		}
	}
	decided(t, s, ask(cert("access", "alice")), allowed("own"))
	decided(t, s, ask(cert("hop", "alice")), allowed("own"))
	decided(t, s, ask(cert("access", "bob")), Decision{Cause: CauseNoPermit})
	decided(t, s, ask(cert("host", "")), Decision{Cause: CauseNoPermit, Missing: []string{"infra"}})
	decided(t, s, ask(in("infra"), cert("host", "")), allowed("hosts"))
	decided(t, s, ask(in("infra"), cert("front", "")), Decision{Cause: CauseNoPermit})
	decided(t, s, ask(in("infra"), host(ActionRevoke, "test")), allowed("web"))
	decided(t, s, ask(in("infra"), host(ActionUnblock, "test")), allowed("web"))
	decided(t, s, ask(in("infra"), host(ActionRevoke, "prod")), Decision{Cause: CauseNoPermit})
}

func TestMethodOfLogin(t *testing.T) {
	plain := load(t, everything)
	granted := load(t, everything, `@id("device") @device_grant("allowed") permit (principal, action, resource);`)
	for _, a := range []func(*Request){
		on(ActionRevoke, TypeUser, issuer+"|bob"), on(ActionRevoke, TypeSession, "ses_1"),
		on(ActionUnblock, TypeUser, issuer+"|bob"), on(ActionReplay, TypeRecording, "ssh_1"), on(ActionRegisterKey, TypeBroker, "sega"),
	} {
		for _, good := range []string{"browser", "paste"} {
			decided(t, plain, ask(a, method(good)), allowed("all"))
		}
		for _, bad := range []string{"device", "", "Browser", "browser ", "sms"} {
			decided(t, plain, ask(a, method(bad)), Decision{Cause: CauseMethod})
			if bad != "device" {
				decided(t, granted, ask(a, method(bad)), Decision{Cause: CauseMethod})
			}
		}
		decided(t, granted, ask(a, method("device")), allowed("device"))
	}
	for _, a := range []func(*Request){
		on(ActionAssume, TypeRole, "dev"), on(ActionCertificate, TypeBroker, "sega"),
		on(ActionListSessions, TypeBroker, "sega"), on(ActionReadEvents, TypeAuditLog, "log"),
	} {
		decided(t, plain, ask(a, method("device")), allowed("all"))
	}
}

// TestRegisteredKeys: no permit is for them that does not say so, and what lifts MFA for logins does not.
func TestRegisteredKeys(t *testing.T) {
	s := load(t, everything,
		`@id("nomfa") @no_mfa("allowed") @device_grant("allowed") permit (principal, action, resource);`,
		`@id("key") @registered_key("allowed") @max_duration("1h") permit (principal in Group::"ops", action == Action::"connect", resource == Host::"web-1");`,
		`@id("strict") @registered_key("allowed") permit (principal in Group::"ops", action == Action::"connect", resource == Host::"db-1") when { context.mfa };`)
	host := func(name string) func(*Request) {
		return func(r *Request) { on(ActionConnect, TypeHost, name)(r); r.Login = "deploy" }
	}
	byKey := func(r *Request) { r.Method, r.MFA = "key", false }
	decided(t, s, ask(host("web-1"), in("ops"), byKey), Decision{Allow: true, PolicyIDs: []string{"key"}, Obligations: Obligations{MaxDuration: time.Hour}})
	decided(t, s, ask(host("web-1"), byKey), Decision{Cause: CauseMethod})
	decided(t, s, ask(host("db-1"), in("ops"), byKey), Decision{Cause: CauseMethod})
	decided(t, s, ask(host("db-1"), in("ops")), Decision{Allow: true, PolicyIDs: []string{"all", "nomfa", "strict"}})
	decided(t, s, ask(byKey), Decision{Cause: CauseMethod})
	// A login without MFA gains nothing by a permit for keys.
	only := load(t, `@id("key") @registered_key("allowed") permit (principal, action, resource);`)
	decided(t, only, ask(host("web-1"), noMFA), Decision{Cause: CauseMFA})
}

// One permit has to pass every gate: a waiver of MFA here and of the method there make no grant.
func TestWaiversOfTwoPermitsDoNotAddUp(t *testing.T) {
	s := load(t,
		`@id("device") @device_grant("allowed") permit (principal, action, resource);`,
		`@id("nomfa") @no_mfa("allowed") permit (principal, action, resource);`)
	r := ask(on(ActionRevoke, TypeSession, "ses_1"), method("device"), noMFA)
	decided(t, s, r, Decision{Cause: CauseMethod})
}

func TestMalformedRequests(t *testing.T) {
	s := load(t, everything)
	for name, c := range map[string]struct {
		change func(*Request)
		reason string
	}{
		"no time":             {func(r *Request) { r.Now = time.Time{} }, "the request has no time"},
		"factor of tomorrow":  {func(r *Request) { r.AuthAge = -time.Hour }, "the login's authentication lies in the future"},
		"source of nowhere":   {func(r *Request) { r.Source = "10.0.0.0/8" }, "the source is not an IP address"},
		"source by name":      {func(r *Request) { r.Source = "localhost" }, "the source is not an IP address"},
		"no action":           {func(r *Request) { r.Action = "" }, `there is no action ""`},
		"action in capitals":  {func(r *Request) { r.Action = "Assume" }, `there is no action "Assume"`},
		"resource without ID": {func(r *Request) { r.Resource.ID = "" }, "the resource has no ID"},
		"type of resource":    {func(r *Request) { r.Resource.Type = "Bucket" }, `there is no type of resource "Bucket"`},
		"group as resource":   {func(r *Request) { r.Resource.Type = "Group" }, `there is no type of resource "Group"`},
		"wrong type":          {on(ActionReplay, TypeSession, "x"), "replay does not apply to a Session"},
		"user ID without bar": {on(ActionRevoke, TypeUser, "bob"), "the user has no issuer and subject that make an identity"},
		"owner without issuer": {func(r *Request) { on(ActionReplay, TypeRecording, "x")(r); r.Owner = "bob" },
			"the resource's owner has no issuer and subject that make an identity"},
		"owner's issuer alone": {func(r *Request) { on(ActionReadEvents, TypeAuditLog, "x")(r); r.OwnerIssuer = issuer },
			"the resource's owner has no issuer and subject that make an identity"},
		"owner's issuer with a bar": {func(r *Request) {
			on(ActionReplay, TypeRecording, "x")(r)
			r.Owner, r.OwnerIssuer = "bob", issuer+"|"
		}, "the resource's owner has no issuer and subject that make an identity"},
		"connect, no login":           {on(ActionConnect, TypeHost, "web"), "the connection names no login"},
		"certificate without profile": {on(ActionRevoke, TypeCertificate, "host/7"), "the certificate has no profile"},
		"a certificate is unblocked":  {func(r *Request) { on(ActionUnblock, TypeCertificate, "host/7")(r); r.Profile = "host" }, "unblock does not apply to a Certificate"},
		"machine revokes": {func(r *Request) { machine(r); on(ActionRevoke, TypeSession, "x")(r) },
			"a machine cannot revoke"},
		"machine without ID": {func(r *Request) { r.Principal = Principal{Kind: KindMachine} }, "the machine has no ID"},
	} {
		t.Run(name, func(t *testing.T) {
			decided(t, s, ask(c.change), Decision{Cause: CauseInvalid, Reason: "the request is not one that policy knows: " + c.reason})
		})
	}
	t.Run("clock skew is none", func(t *testing.T) {
		decided(t, s, ask(func(r *Request) { r.AuthAge = -clockSkew }), allowed("all"))
	})
}

func TestSourceIsNormalised(t *testing.T) {
	s := load(t, everything, `@id("lan") forbid (principal, action, resource)
		when { context has source && context.source.isInRange(ip("10.0.0.0/8")) };`)
	for source, forbidden := range map[string]bool{
		"10.1.2.3": true, "10.1.2.3:22": true, "::ffff:10.1.2.3": true, "[::ffff:10.1.2.3]:22": true,
		"11.1.2.3": false, "": false, "fe80::1%eth0": false, "[fe80::1%eth0]:22": false,
	} {
		d := s.Decide(ask(func(r *Request) { r.Source = source }))
		if d.Allow == forbidden {
			t.Errorf("source %q: %+v", source, d)
		}
	}
}

// Every entity, request and context that a query is made of passes the schema: what a policy may
// read is there.
func TestQueriesConformToTheSchema(t *testing.T) {
	s := load(t, everything)
	v := validate.New(s.schema, validate.WithStrict())
	full := Resource{Profile: "host", Labels: map[string]string{"env": "prod"}, Account: "1", Owner: "bob", OwnerIssuer: issuer}
	n := 0
	for _, kind := range []string{KindUser, KindMachine} {
		for action := range s.schema.Actions {
			for _, typ := range []string{TypeRole, TypeHost, TypeSession, TypeUser, TypeAuditLog, TypeRecording, TypeBroker, TypeCertificate} {
				for _, resource := range []Resource{{}, full} {
					r := ask(in("a", "a", ""))
					r.Kind, r.Action, r.Resource, r.Login = kind, string(action.ID), resource, "root"
					r.Resource.Type, r.Resource.ID = typ, UserID(issuer, "bob")
					q, err := newQuery(s.schema, r)
					if err != nil {
						continue
					}
					n++
					conforms(t, v, q)
				}
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d combinations were checked", n)
	}
}

func conforms(t *testing.T, v *validate.Validator, q *query) {
	t.Helper()
	if err := v.Request(q.req); err != nil {
		t.Error(err)
	}
	for _, e := range []cedar.Entity{q.principal, q.resource} {
		if err := v.Entity(e); err != nil {
			t.Errorf("%s: %v", e.UID, err)
		}
	}
}

func TestDecideChangesNothing(t *testing.T) {
	s := load(t, `@id("a") permit (principal in Group::"x", action, resource);`)
	groups := make([]string, 1, 8)
	groups[0] = "y"
	r := ask(func(r *Request) { r.Groups = groups })
	s.Decide(r)
	if diff := cmp.Diff([]string{"y", "", "", "", "", "", "", ""}, groups[:8]); diff != "" {
		t.Errorf("the caller's groups changed:\n%s", diff)
	}
	if diff := cmp.Diff(s.Decide(r), s.Decide(r)); diff != "" {
		t.Errorf("two answers to one question:\n%s", diff)
	}
}

// Whatever strings a request is made of, only the one identity that the policy names gets in, on
// the one host, and no answer carries a control character to a terminal.
func FuzzDecide(f *testing.F) {
	f.Add(issuer, "alice", "alice@corp.example", "g", "web", "10.0.0.1", "deploy", "browser")
	f.Add(issuer+"|alice", "", "", "", "web", "[::1]:22", "root", "")
	f.Add(other, "alice", issuer+"|alice", issuer+"|alice", "we\x1bb", "fe80::1%lo", "\"", "device")
	s := load(f, `@id("alice") permit (principal == User::"https://idp.example|alice", action == Action::"connect", resource == Host::"web");`,
		`@id("group") permit (principal in Group::"never", action, resource) when { context.mfa };`)
	f.Fuzz(func(t *testing.T, iss, sub, email, group, host, source, login, method string) {
		if group == "never" {
			return
		}
		d := s.Decide(Request{
			Principal: Principal{Issuer: iss, Subject: sub, Email: email, Groups: []string{group}, Kind: KindUser},
			Action:    ActionConnect,
			Resource:  Resource{Type: TypeHost, ID: host},
			Context:   Context{MFA: true, Method: method, Source: source, Login: login, Now: noon},
		})
		if d.Allow && (iss != issuer || sub != "alice" || host != "web" || login == "") {
			t.Errorf("allowed %q %q on %q as %q", iss, sub, host, login)
		}
		if strings.ContainsFunc(d.Reason, unicode.IsControl) {
			t.Errorf("reason %q", d.Reason)
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	var policies []string
	for i := range 50 {
		policies = append(policies, fmt.Sprintf(`@id("p%d") @max_duration("1h") permit (principal in Group::"g%d",
			action == Action::"assume", resource == Role::"role-%d") when { context.authAge < duration("8h") };`, i, i, i))
	}
	s := load(b, policies...)
	groups := in("g1", "g2", "g3", "g7", "g25", "everyone")
	for name, r := range map[string]Request{
		"allow":   ask(groups, on(ActionAssume, TypeRole, "role-25")),
		"explain": ask(groups, on(ActionAssume, TypeRole, "role-40")),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Decide(r)
			}
		})
	}
}
