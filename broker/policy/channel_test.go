package policy

import (
	"testing"
	"time"
)

func onHost(action string, around Context) Request {
	r := ask()
	around.MFA, around.Method, around.Now, around.AuthAge = true, "browser", r.Now, time.Minute
	if around.Login == "" {
		around.Login = "deploy"
	}
	return Request{Principal: r.Principal, Action: action, Resource: Resource{Type: TypeHost, ID: "web-1", Labels: map[string]string{"env": "dev"}}, Context: around}
}

// TestOffByDefault: who may do everything may not forward, nor keep content out of a recording.
func TestOffByDefault(t *testing.T) {
	all := load(t, everything)
	for _, action := range []string{ActionForward, ActionOpaque, ActionForwardAgent, ActionForwardX11, ActionOmitContent} {
		r := onHost(action, Context{Channel: ChannelForward})
		if d := all.Decide(r); d.Allow || d.Cause != CauseNoPermit {
			t.Errorf("%s: %+v", action, d)
		}
		if all.Possible(r) {
			t.Errorf("%s: possible", action)
		}
		named := load(t, everything, `@id("named") permit (principal, action == Action::"`+action+`", resource);`)
		if d := named.Decide(r); !d.Allow || d.PolicyIDs[0] != "named" || !named.Possible(r) {
			t.Errorf("%s: %+v", action, d)
		}
		listed := load(t, everything, `@id("listed") permit (principal, action in [Action::"`+action+`"], resource);`)
		if d := listed.Decide(r); !d.Allow {
			t.Errorf("%s in a list: %+v", action, d)
		}
	}
	if d := all.Decide(onHost(ActionConnect, Context{Channel: ChannelExec, Command: "x"})); !d.Allow {
		t.Errorf("connect: %+v", d)
	}
}

// TestChannelContext: policies see the kind of channel, the command, and where a forward goes.
func TestChannelContext(t *testing.T) {
	s := load(t, everything, `@id("no-sftp") forbid (principal, action == Action::"connect", resource) when { context.channel == "sftp" };
		@id("no-rm") forbid (principal, action == Action::"connect", resource) when { context.command like "rm *" };
		@id("net") permit (principal, action == Action::"forward", resource) when { context has address && context.address.isInRange(ip("10.0.0.0/8")) };
		@id("own") permit (principal, action == Action::"forward", resource) when { context.loopback && context.port == 8080 && context.direction == "remote" };`)
	for name, tc := range map[string]struct {
		r     Request
		allow bool
	}{
		"the connection":      {onHost(ActionConnect, Context{}), true},
		"a shell":             {onHost(ActionConnect, Context{Channel: ChannelShell}), true},
		"sftp":                {onHost(ActionConnect, Context{Channel: ChannelSFTP}), false},
		"a command":           {onHost(ActionConnect, Context{Channel: ChannelExec, Command: "rm -rf x"}), false},
		"in the network":      {onHost(ActionForward, Context{Forward: Forward{Host: "10.1.2.3", Port: 80}}), true},
		"mapped into IPv6":    {onHost(ActionForward, Context{Forward: Forward{Host: "::ffff:10.1.2.3", Port: 80}}), true},
		"outside of it":       {onHost(ActionForward, Context{Forward: Forward{Host: "11.1.2.3", Port: 80}}), false},
		"a name":              {onHost(ActionForward, Context{Forward: Forward{Host: "db", Port: 80}}), false},
		"a loopback":          {onHost(ActionForward, Context{Forward: Forward{Direction: DirectionRemote, Host: "localhost", Port: 8080, Loopback: true}}), true},
		"the other direction": {onHost(ActionForward, Context{Forward: Forward{Direction: DirectionLocal, Host: "localhost", Port: 8080, Loopback: true}}), false},
	} {
		if d := s.Decide(tc.r); d.Allow != tc.allow || len(d.Errors) > 0 {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestPossible: what circumstances may yet allow is possible, what they never will is not.
func TestPossible(t *testing.T) {
	const forward = `permit (principal, action == Action::"forward", resource)`
	for name, tc := range map[string]struct {
		policies string
		want     bool
	}{
		"no permit":                       {everything, false},
		"for any port":                    {`@id("a") ` + forward + `;`, true},
		"for one port":                    {`@id("a") ` + forward + ` when { context.port == 1 };`, true},
		"unless":                          {`@id("a") ` + forward + ` unless { context.port == 1 };`, true},
		"for another group":               {`@id("a") permit (principal in Group::"nobody", action == Action::"forward", resource);`, false},
		"for another label":               {`@id("a") ` + forward + ` when { resource.hasTag("env") && resource.getTag("env") == "prod" && context.port == 1 };`, false},
		"for this label":                  {`@id("a") ` + forward + ` when { context.port == 1 && resource.hasTag("env") && resource.getTag("env") == "dev" };`, true},
		"another action":                  {`@id("a") permit (principal, action == Action::"forwardAgent", resource);`, false},
		"a forbid without circumstances":  {`@id("a") ` + forward + `; @id("b") forbid (principal, action, resource == Host::"web-1");`, false},
		"a forbid of another host":        {`@id("a") ` + forward + `; @id("b") forbid (principal, action, resource == Host::"web-2");`, true},
		"a forbid with circumstances":     {`@id("a") ` + forward + `; @id("b") forbid (principal, action == Action::"forward", resource) when { context.port == 22 };`, true},
		"a forbid unless they are others": {`@id("a") ` + forward + `; @id("b") forbid (principal, action == Action::"forward", resource) unless { context.port == 22 };`, true},
	} {
		if got := load(t, tc.policies).Possible(onHost(ActionForward, Context{})); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	var none *Set
	if none.Possible(onHost(ActionForward, Context{})) {
		t.Error("without policies")
	}
}
