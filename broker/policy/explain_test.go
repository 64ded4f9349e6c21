package policy

import (
	"fmt"
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	const prefix = `no policy permits assume on role "prod"`
	for name, c := range map[string]struct {
		policies string
		change   func(*Request)
		reason   string // after prefix
		missing  []string
	}{
		"group of the scope": {
			policies: `@id("a") permit (principal in Group::"g", action == Action::"assume", resource == Role::"prod");`,
			reason:   `: it needs group "g" (policy "a")`, missing: []string{"g"},
		},
		"group of a typed scope": {
			policies: `@id("a") permit (principal is User in Group::"g", action, resource is Role);`,
			reason:   `: it needs group "g" (policy "a")`, missing: []string{"g"},
		},
		"groups of a condition": {
			policies: `@id("a") permit (principal, action, resource) when { principal in [Group::"h", Group::"g"] };`,
			reason:   `: it needs group "g" or "h" (policy "a")`, missing: []string{"g", "h"},
		},
		"two groups together": {
			policies: `@id("a") permit (principal in Group::"g", action, resource) when { principal in Group::"h" };`,
			reason:   `: it needs groups "g" and "h" (policy "a")`,
		},
		"the second of two groups": {
			policies: `@id("a") permit (principal in Group::"g", action, resource) when { principal in Group::"h" };`,
			change:   in("g"),
			reason:   `: it needs group "h" (policy "a")`, missing: []string{"h"},
		},
		"two policies, sorted by what is nearest": {
			policies: `@id("a") @reason("by day") permit (principal, action, resource) when { context.now < datetime("2020-01-01") };
				@id("b") permit (principal in Group::"g", action, resource);`,
			reason: `: it needs group "g" (policy "b"), or the conditions of policy "a" to hold (by day)`, missing: []string{"g"},
		},
		"group and condition": {
			policies: `@id("a") permit (principal in Group::"g", action, resource) unless { context.method == "browser" };`,
			reason:   `: it needs group "g" and the conditions of policy "a" to hold`,
		},
		"a group that excludes is not advice": {
			policies: `@id("a") permit (principal, action, resource) when { context.ticket != "" } unless { principal in Group::"x" };`,
			reason:   `: it needs the conditions of policy "a" to hold`,
		},
		"a group that another policy forbids is not advice": {
			policies: `@id("a") permit (principal in Group::"g", action, resource);
				@id("b") forbid (principal in Group::"g", action, resource);`,
		},
		"a group of which a forbid would err is not advice": {
			policies: `@id("a") permit (principal in Group::"g", action, resource);
				@id("b") forbid (principal in Group::"g", action, resource) when { 9223372036854775807 + 1 > 0 };`,
		},
		"other action, other resource, other person, other kind, other tags": {
			policies: `@id("a") permit (principal in Group::"g", action == Action::"connect", resource);
				@id("b") permit (principal in Group::"g", action, resource == Role::"dev");
				@id("c") permit (principal == User::"https://idp.example|bob", action, resource) when { context.mfa };
				@id("d") permit (principal is Machine in Group::"g", action == Action::"verifyLog", resource);
				@id("e") permit (principal in Group::"g", action, resource) when { resource.hasTag("env") && resource.getTag("env") == "dev" && context.mfa };
				@id("f") permit (principal in Group::"g", action == Action::"assume", resource) unless { resource.name like "prod*" };`,
		},
		"a group, and why": {
			policies: `@id("a") @reason("production is read by those on call") permit (principal in Group::"g", action, resource);`,
			reason:   `: it needs group "g" (policy "a": production is read by those on call)`, missing: []string{"g"},
		},
		"MFA as well": {
			policies: `@id("a") permit (principal in Group::"g", action, resource);`,
			change:   noMFA,
			reason:   `: it needs group "g" (policy "a") and a login through the browser with MFA`,
		},
		"MFA waived": {
			policies: `@id("a") @no_mfa("allowed") permit (principal in Group::"g", action, resource);`,
			change:   noMFA,
			reason:   `: it needs group "g" (policy "a")`, missing: []string{"g"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := ask()
			if c.change != nil {
				c.change(&r)
			}
			s := load(t, c.policies)
			decided(t, s, r, Decision{Cause: CauseNoPermit, Reason: prefix + c.reason, Missing: c.missing})
			for _, g := range c.missing {
				if d := s.Decide(join(r, g)); !d.Allow {
					t.Errorf("with group %q as advised: %+v", g, d)
				}
			}
		})
	}
}

func TestExplanationIsBounded(t *testing.T) {
	var policies strings.Builder
	for i := range 40 {
		fmt.Fprintf(&policies, "@id(\"p%02d\") permit (principal in Group::\"g%02d\", action, resource);\n", i, i)
	}
	d := load(t, policies.String()).Decide(ask())
	if len(d.Missing) != 40 || !strings.HasSuffix(d.Reason, `(policy "p05"), or what one of 34 more policies asks for`) {
		t.Errorf("%d missing, %s", len(d.Missing), d.Reason)
	}
}

func TestHostileNamesAreQuoted(t *testing.T) {
	r := ask(on(ActionConnect, TypeHost, "web\x1b[2J\n"))
	r.Login = "root\r\x07"
	d := load(t, `@id("x") forbid (principal, action, resource == Host::"y");`).Decide(r)
	if want := `no policy permits connect on host "web\x1b[2J\n" as "root\r\a"`; d.Reason != want {
		t.Errorf("reason %q, want %q", d.Reason, want)
	}
}
